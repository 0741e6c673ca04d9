"""The help of a verb on one screen: a line per flag, read from the settings' dataclasses."""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any, get_type_hints

from tyro import MISSING
from tyro.conf import Positional


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
    waiting: list[tuple[str, str]] = []
    hints, texts = get_type_hints(kind, include_extras=True), _attribute_docs(kind)
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name, dataclasses.MISSING) if default is not None else _fallback(field)
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            rows += _rows(hint, value if dataclasses.is_dataclass(value) else None)
            continue
        waiting.append((_flag(field.name, hint), _shown(value)))
        if field.name in texts:
            flags, values = zip(*waiting, strict=True)
            rows.append((", ".join(flags), texts[field.name] + "".join(values)))
            waiting = []
    return rows + waiting


def _fallback(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else dataclasses.MISSING


def _flag(name: str, hint: Any) -> str:
    if Positional in getattr(hint, "__metadata__", ()):
        return name.upper()
    flag = name.replace("_", "-")
    return f"--[no-]{flag}" if hint is bool else f"--{flag}"


def _shown(value: Any) -> str:
    if value in (dataclasses.MISSING, MISSING):
        return " [required]"
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return f" [{'yes' if value else 'no'}]"
    return f" [{' '.join(map(str, value)) if isinstance(value, tuple) else value}]"


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
