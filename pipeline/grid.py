"""Integer geometry of a scene cut into tiles: windows, tiles and the grid that owns them.

    core    what a tile writes; cores partition the raster, so each pixel has one writer
    read    the core grown by the halo; reads overlap, writes never do

        +-----------------------+  read
        |   +---------------+   |
        |   |     core      |   |  halo
        |   +---------------+   |
        +-----------------------+

Reads may reach over the raster's edge; readers fill what lies outside with nodata, so that every
window of a grid has one static shape (DESIGN 2, invariant 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import SettingsError

WINDOW = 256
"""Side, in pixels, of the fixed windows that networks run on; a tile is a whole number of them."""

LEVELS = (1, 2, 4, 8)
"""Pyramid levels of a scene: pixels of level L are L times as wide as those of level 1.

A network may look between them: a level is then any number of eighths above 1 (`resample`)."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of integer pixels, y first. May lie partly outside its raster."""

    y0: int
    x0: int
    height: int
    width: int

    @property
    def y1(self) -> int:
        """First row after the window."""
        return self.y0 + self.height

    @property
    def x1(self) -> int:
        """First column after the window."""
        return self.x0 + self.width

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def grow(self, margin: int) -> Window:
        """The window with `margin` pixels more on each side."""
        return Window(self.y0 - margin, self.x0 - margin, self.height + 2 * margin, self.width + 2 * margin)

    def clip(self, shape: tuple[int, int]) -> Window:
        """The part inside a raster of `shape` (height, width); empty windows have height or width 0."""
        y0, x0 = min(max(self.y0, 0), shape[0]), min(max(self.x0, 0), shape[1])
        y1, x1 = min(max(self.y1, y0), shape[0]), min(max(self.x1, x0), shape[1])
        return Window(y0, x0, y1 - y0, x1 - x0)

    def intersects(self, other: Window) -> bool:
        """Whether the two share at least one pixel."""
        return self.y0 < other.y1 and other.y0 < self.y1 and self.x0 < other.x1 and other.x0 < self.x1

    def contains(self, other: Window) -> bool:
        """Whether every pixel of `other` lies in this window."""
        return self.y0 <= other.y0 and other.y1 <= self.y1 and self.x0 <= other.x0 and other.x1 <= self.x1

    def slices(self, origin: Window | None = None) -> tuple[slice, slice]:
        """Index of the window in an array whose first pixel is that of `origin` (of the raster if None)."""
        y, x = (origin.y0, origin.x0) if origin is not None else (0, 0)
        return slice(self.y0 - y, self.y1 - y), slice(self.x0 - x, self.x1 - x)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One tile of a grid: `core` is what it owns and writes (cut at the raster's edge), `read` what it sees."""

    row: int
    column: int
    core: Window
    read: Window

    @property
    def key(self) -> str:
        """Name of the tile in receipts, e.g. `r0012c0034`."""
        return f"r{self.row:04d}c{self.column:04d}"


@dataclass(frozen=True, slots=True)
class TileGrid:
    """A raster of `shape` (height, width) pixels of pyramid `level`, cut into square tiles.

    `core` is the tile's side and `halo` what it reads beyond it, both in pixels of that level.
    """

    shape: tuple[int, int]
    core: int
    halo: int
    level: float = 1

    def __post_init__(self) -> None:
        if self.core <= 0 or self.halo < 0 or min(self.shape) <= 0:
            raise SettingsError(f"grid of {self.shape} px cannot be cut into tiles of {self.core} px")

    @property
    def rows(self) -> int:
        """Number of tile rows."""
        return -(-self.shape[0] // self.core)

    @property
    def columns(self) -> int:
        """Number of tile columns."""
        return -(-self.shape[1] // self.core)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Tile]:
        for row in range(self.rows):
            for column in range(self.columns):
                yield self.tile(row, column)

    def tile(self, row: int, column: int) -> Tile:
        """The tile at `row`, `column`."""
        whole = Window(row * self.core, column * self.core, self.core, self.core)
        return Tile(row, column, whole.clip(self.shape), whole.grow(self.halo))

    def at(self, key: str) -> Tile:
        """The tile named `key`."""
        row, column = key[1:].split("c")
        return self.tile(int(row), int(column))

    def touching(self, window: Window) -> Iterator[Tile]:
        """Tiles whose core shares a pixel with `window`, in row-major order."""
        inside = window.clip(self.shape)
        if inside.area == 0:
            return
        for row in range(inside.y0 // self.core, (inside.y1 - 1) // self.core + 1):
            for column in range(inside.x0 // self.core, (inside.x1 - 1) // self.core + 1):
                yield self.tile(row, column)


def windows_of(core: Window, side: int = WINDOW) -> Iterator[Window]:
    """The fixed windows that fill a tile's core, in row-major order.

    The window grid starts at the raster's origin whatever the tile, so two tile sizes give the same
    windows; a core that does not start on it is refused.
    """
    if core.y0 % side or core.x0 % side:
        raise SettingsError(f"tile core {core} does not start on the window grid of {side} px")
    for y0 in range(core.y0, core.y1, side):
        for x0 in range(core.x0, core.x1, side):
            yield Window(y0, x0, side, side)


def level_shape(shape: tuple[int, int], level: float) -> tuple[int, int]:
    """Height and width of `level` of a raster of `shape`; partial pixels at the edge count."""
    return int(-(-shape[0] // level)), int(-(-shape[1] // level))


def check_tile(tile: int, side: int = WINDOW) -> int:
    """`tile` if it is a whole number of windows, else an error that names the nearest sizes that are."""
    if tile < side or tile % side:
        near = max(side, round(tile / side) * side)
        raise SettingsError(f"--tile {tile}: must be a multiple of {side}; try {near}")
    return tile
