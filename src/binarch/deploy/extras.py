"""Libraries that only some users have: imported when asked for, missing with a clear word."""

from importlib import import_module
from typing import Any

from binarch.errors import UserError


def extra(name: str) -> Any:
    """The module ``name`` of the ``[bench]`` extra; a :class:`UserError` says how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise UserError(f"{missing} is not installed; pip install '.[bench]' in binarch's folder") from None
