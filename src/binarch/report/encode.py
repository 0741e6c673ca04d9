"""Figures as bytes: the same figure gives the same bytes, on any day."""

import io
import re
from typing import Any, Final

import matplotlib
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FORMATS: Final = ("svg", "png", "pdf")

# Metadata that matplotlib would add by itself: dates, version and links.
_METADATA: Final[dict[str, tuple[str, ...]]] = {
    "svg": ("Date", "Creator", "Format", "Type"),
    "png": ("Software",),
    "pdf": ("CreationDate", "Creator", "Producer"),
}


def encode(figure: Figure, form: str, inline: bool = False) -> bytes:
    """``figure`` as ``form``, one of :data:`FORMATS`.

    ``inline`` is for SVG inside a page: no ground, and text stays text, which can be searched and takes the
    page's font. Otherwise text becomes outlines, which look the same everywhere.
    """
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    settings: dict[Any, Any] = {
        "svg.hashsalt": "binarch",
        "svg.fonttype": "none" if inline else "path",
        "pdf.fonttype": 42,
    }
    ground = "none" if inline else "white"
    metadata = dict.fromkeys(_METADATA[form])
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format=form, dpi=200, facecolor=ground, metadata=metadata)
    return buffer.getvalue()


def inline_svg(figure: Figure, label: str, prefix: str) -> str:
    """``figure`` as an ``<svg>`` element of a page.

    ``label`` is read out where pictures cannot be seen; ``prefix`` goes before every id, so that two pictures of a page
    share none.
    """
    text = encode(figure, "svg", inline=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}", text)
    text = re.sub(r' (xmlns:xlink|xmlns|version)="[^"]*"', "", text).replace("xlink:href", "href")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
