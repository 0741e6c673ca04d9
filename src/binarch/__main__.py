"""``binarch`` and ``python -m binarch``: the way in, which imports no more than the verb needs."""

import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb; end quietly where nobody reads on, as ``head`` does not."""
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        if _is_read(sys.stdout):
            raise  # some other pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        sys.exit(128 + 13)  # as a shell tells of SIGPIPE


def _is_read(stream: TextIO) -> bool:
    """Whether somebody still reads: a pipe without a reader is in error."""
    looking = select.poll()
    looking.register(stream.fileno(), 0)
    return not looking.poll(0)


def _run(arguments: list[str]) -> None:
    """All verbs are in :mod:`binarch.cli`; ``predict`` is run without it, as torch takes seconds to import."""
    if arguments[:1] == ["predict"] and "WORLD_SIZE" not in os.environ:
        from binarch.predict import main as predict

        predict(arguments[1:])
    else:
        from binarch.cli import main as verbs

        verbs(arguments)


if __name__ == "__main__":
    main()
