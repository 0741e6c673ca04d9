"""What a command line says of a verb's settings, and the help of it on one screen: a line per flag."""

import ast
import dataclasses
import inspect
import io
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import takewhile
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro import MISSING
from tyro.conf import Positional

from binarch.errors import UserError

T = TypeVar("T")


def parsed(verb: str, kind: type[T], arguments: Sequence[str], default: Any = None) -> T:
    """The settings that ``arguments`` give, a ``kind``, with ``default`` for the rest.

    ``--help`` prints the help and exits 0. A mistake is a :class:`~binarch.errors.UserError`: what tyro puts into a
    box, in one line.
    """
    if {"-h", "--help"} & set(arguments):
        print(verb_help(verb, kind, default))
        sys.exit(0)
    extra = {} if default is None else {"default": default}
    box = io.StringIO()
    try:
        with redirect_stderr(box), _wide():
            return tyro.cli(kind, prog=f"binarch {verb}", args=arguments, config=(tyro.conf.OmitArgPrefixes,), **extra)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(f"{_said(box.getvalue())}; see binarch {verb} --help") from None


@contextmanager
def _wide() -> Iterator[None]:
    """A terminal in which no line is broken."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _said(box: str) -> str:
    """What tyro's box says, without its frame (there is none where there is no UTF-8), title, and help of flags."""
    lines = [line.translate(dict.fromkeys(map(ord, "╭╮╰╯│─"))).rstrip() for line in box.splitlines()]
    title, *body = [line for line in lines if set(line.strip()) - {"-"}]
    said = list(takewhile(lambda line: "helptext" not in line, body)) or [title]
    depth = [len(line) - len(line.lstrip()) for line in said]
    return " ".join(line.strip() for line, inside in zip(said, depth, strict=True) if inside < depth[0] + 8).rstrip(".")


def verb_help(verb: str, kind: type, default: Any) -> str:
    """What ``binarch VERB --help`` prints; ``default`` holds the values that the flags fall back on."""
    rows = list(_rows(kind, default))
    width = min(max(len(flag) for flag, _ in rows), 30)
    positional = "".join(f" {flag}" for flag, _ in rows if not flag.startswith("-"))
    lines = [f"usage: binarch {verb}{positional} [flags]", (kind.__doc__ or "").splitlines()[0]]
    lines += [f"  {flag:<{width}}  {text}" for flag, text in rows]
    return "\n".join(lines)


def _rows(kind: Any, default: Any) -> list[tuple[str, str]]:
    """A line per field; a field without a docstring stands on the line of the next one that has one."""
    rows: list[tuple[str, str]] = []
    waiting: list[tuple[str, Any, Any]] = []
    hints, texts = get_type_hints(kind, include_extras=True), _attribute_docs(kind)
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name, dataclasses.MISSING) if default is not None else _fallback(field)
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            rows += _rows(hint, value if dataclasses.is_dataclass(value) else None)
            continue
        waiting.append((_flag(field.name, hint, value), value, hint))
        if field.name in texts:
            text = texts[field.name]
            flags = ", ".join(flag for flag, _, _ in waiting)
            rows.append((flags, text + "".join(_shown(value, hint, text) for _, value, hint in waiting)))
            waiting = []
    assert not waiting, f"{waiting}: fields of {kind.__name__} without a docstring"
    return rows


def _fallback(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else dataclasses.MISSING


def _is_positional(hint: Any) -> bool:
    return Positional in getattr(hint, "__metadata__", ())


def _flag(name: str, hint: Any, value: Any) -> str:
    if _is_positional(hint):
        word = name.upper() + "..." * (get_origin(get_args(hint)[0]) is tuple)
        return word if value is dataclasses.MISSING else f"[{word}]"
    flag = name.replace("_", "-")
    return f"--[no-]{flag}" if hint is bool else f"--{flag}"


def _shown(value: Any, hint: Any, text: str) -> str:
    """What holds if nothing is given, and the words that may be given instead if ``text`` does not name them."""
    told = [str(word) for word in (value if isinstance(value, tuple) else (value,))]
    others = [word for word in _words(hint) if word not in told]
    if all(word in text for word in others):
        others = []
    if value in (dataclasses.MISSING, MISSING):
        needed = [] if _is_positional(hint) else ["required"]
        return f" [{'; '.join([*needed, *([', '.join(others)] if others else [])])}]" if needed or others else ""
    if value is None or value == ():
        return f" [{', '.join(others)}]" if others else ""
    if isinstance(value, bool):
        return f" [{'yes' if value else 'no'}]"
    return f" [{' '.join(told)}{'; or ' if others else ''}{', '.join(others)}]"


def _words(hint: Any) -> Iterator[str]:
    """The members of all Literals in a type."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _words(part)


def _attribute_docs(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, as tyro reads it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            docs[field.target.id] = " ".join(str(text.value.value).split())
    return docs
