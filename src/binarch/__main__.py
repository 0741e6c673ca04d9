"""``binarch`` and ``python -m binarch``: the way in, which imports no more than the verb needs."""

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb; end quietly where nobody reads on, as ``head`` does not."""
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        sys.exit(128 + 13)  # as a shell tells of SIGPIPE


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
