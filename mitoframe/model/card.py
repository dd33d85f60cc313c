"""HTML for notebooks: a summary line, and sections below it that open when they are clicked.

Nothing is loaded from anywhere, and all texts are escaped. Colours are those of JupyterLab's theme, or of the page
around it. A section may hold a table of texts; of long ones the first `ROWS_MAX` rows are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from html import escape

ROWS_MAX = 20

_BOX = (
    "font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:var(--jp-code-font-size,13px);"
    "color:var(--jp-ui-font-color1,inherit);line-height:1.5"
)
_SECTION = "margin:0.15em 0 0.15em 1em"
_QUIET = "color:var(--jp-ui-font-color2,inherit);opacity:0.8"
_CELL = "text-align:left;vertical-align:top;padding:0.1em 0.9em 0.1em 0;white-space:pre-wrap;background:transparent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """``rows`` below ``header``, or without one where the first of two columns names the second.

    ``row_count`` is how many there are, if ``rows`` are only the first of them. ``note`` stands beside the title.
    """

    title: str
    rows: Many[Many[str]]
    header: Many[str] = ()
    note: str = ""
    row_count: int | None = None
    is_open: bool = False


def card(summary: str, sections: Iterable[Section] = ()) -> str:
    """Return the HTML of a summary line and sections; empty sections are left out.

    Example:
        >>> card("a store", [Section(title="Tables", rows=[("cpu", "3 files")])]).count("<details")
        1

    """
    shown = "".join(_section(section) for section in sections if section.rows)
    return f'<div style="{_BOX}"><div>{escape(summary)}</div>{shown}</div>'


def _section(section: Section) -> str:
    count = len(section.rows) if section.row_count is None else section.row_count
    note = section.note or f"({count:,})"
    cells = "".join(_row(row, "td") for row in section.rows[:ROWS_MAX])
    more = count - min(len(section.rows), ROWS_MAX)
    left_out = f'<div style="{_QUIET}">and {more:,} more</div>' if more > 0 else ""
    return (
        f'<details style="{_SECTION}"{" open" if section.is_open else ""}>'
        f'<summary style="cursor:pointer">{escape(section.title)} '
        f'<span style="{_QUIET}">{escape(note)}</span></summary>'
        f'<table style="border-collapse:collapse;font-size:inherit;color:inherit;margin:0.2em 0 0.2em 1.1em">'
        f"{_row(section.header, 'th') if section.header else ''}{cells}</table>{left_out}</details>"
    )


def _row(cells: Many[str], element: str) -> str:
    found = "".join(f'<{element} style="{_CELL}">{escape(cell)}</{element}>' for cell in cells)
    return f"<tr>{found}</tr>"
