"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in what was asked for, not in the program.

    The message is one line: it names the flag or field, the value seen, the values allowed and the next
    step. The command line prints it and exits 2; nothing already written is touched.
    """


def choose(field: str, value: str, allowed: object) -> str:
    """Return ``value`` if it is one of ``allowed``; raise a :class:`UserError` naming ``field`` if not."""
    names = sorted(str(name) for name in allowed)  # type: ignore[attr-defined]
    if value not in names:
        raise UserError(f"{field}: {value!r} is unknown; choose one of {', '.join(names)}")
    return value
