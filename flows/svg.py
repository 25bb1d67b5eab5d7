"""Plots as self-contained SVG: the frame of a drawing, its text, and the file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.errors import SettingsError

FONT = "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""


def check_suffix(path: Path) -> None:
    """SettingsError unless the plot can be written as what its name says."""
    if path.suffix.lower() != ".svg":
        raise SettingsError(f"--plot {path}: plots are written as SVG only; name it {path.with_suffix('.svg').name}")


def save(path: Path, drawing: str) -> None:
    """Write a drawing. Raises SettingsError where its name is none of an SVG or it cannot be written."""
    check_suffix(path)
    try:
        path.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--plot {path}: cannot be written ({error.strerror}); name a file in a folder") from None


def document(parts: Sequence[str], width: int, height: int, title: str) -> str:
    """A drawing of `width` x `height` from its parts; `title` is what it is called where it cannot be seen."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" {FONT}><title>{escape(title)}</title>{"".join(parts)}</svg>\n'
    )


def text_at(
    x: float, y: float, text: str, colour: str, anchor: str = "start", size: int = 12, weight: int = 400
) -> str:
    """A line of text; `anchor` is SVG's."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
