"""Numbers as a reader wants them: three significant digits and a unit."""

from typing import Any

from binarch.report.story import number


def percent(value: object) -> str:
    """A fraction 0..1 as "91.3 %"; empty for what is no number."""
    share = number(value)
    return "" if share is None else f"{100 * share:.1f} %"


def count(value: object) -> str:
    """A count as "3.42 M" (k, M, G, T are powers of 1000)."""
    return _scaled(value, ("", " k", " M", " G", " T"))


def size(value: object) -> str:
    """Bytes as "412 kB" (powers of 1000)."""
    return _scaled(value, (" B", " kB", " MB", " GB", " TB"))


def duration(value: object) -> str:
    """Seconds as "8.2 s", "3 min 20 s" or "2 h 14 min"."""
    seconds = number(value)
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def plain(value: Any) -> str:
    """Any setting as text: lists are joined, floats are short, ``None`` is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "–"
    return str(value)


def _scaled(value: object, units: tuple[str, ...]) -> str:
    amount = number(value)
    if amount is None:
        return ""
    unit = 0
    while abs(amount) >= 999.5 and unit < len(units) - 1:
        amount, unit = amount / 1000, unit + 1
    text = f"{amount:.3g}" if unit or amount != int(amount) else f"{int(amount)}"
    return text + units[unit]
