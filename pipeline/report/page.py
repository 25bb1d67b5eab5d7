"""report.html: one page, nothing beside it and nothing fetched, that a person wants to look at.

The scene with the polygons before and after, close-ups, distributions, what to review first, whether the
run is complete, and where the time went. What does not fit is sampled, and the page says so.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

import catalogs
from pipeline.errors import StoreError
from pipeline.report import sections
from pipeline.report.data import Changes, Ragged, ReportData, rows_to_show
from pipeline.report.map import closeups, map_payload
from pipeline.report.review import findings, places

__all__ = ["NAME", "Changes", "Ragged", "ReportData", "page", "rows_to_show", "write_report"]

NAME = "report.html"
_LOOKS = Path(catalogs.__file__).parent / "styles"
# The browser itself then refuses whatever the page might fetch.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(path: Path, data: ReportData) -> Path:
    """Write the page to `path` (DIR/report.html), whole or not at all, and return it."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(page(data), encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); free space and rerun") from error
    return path


def page(data: ReportData) -> str:
    """The whole page as text."""
    style, script = ((_LOOKS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    found = findings(data)
    vectors, picture, left_out = map_payload(data)
    complete = bool(data.certificate.get("complete"))
    parts = [
        sections.map_view(data, vectors, picture, left_out),
        sections.section("Up close", sections.closeup_lead(data), "closeups", closeups(data, places(data, found))),
        sections.distributions(data),
        sections.review(data, found),
        sections.accuracy(data.scores),
        sections.completeness(data.certificate),
        sections.times(data),
        sections.about(data),
    ]
    badge = "complete" if complete else "not complete"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(data.title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{style}</style></head><body><main>'
        f"<header><div><h1>{escape(data.title)}</h1><div class=sub>{escape(data.subtitle)}</div></div>"
        f"<div class='badge{'' if complete else ' bad'}'>{badge}</div></header>"
        f"<div class=cards>{sections.figures(data)}</div>{''.join(parts)}"
        "<footer>Made by Resurvey. Everything on this page is inside this one file.</footer></main>"
        f"<script>{script}</script></body></html>\n"
    )
