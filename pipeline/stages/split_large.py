"""Components that no tile saw whole: exact in their own bounding box, else by fixed windows.

Up to the cap (`faces.CAP`) the box is read and split like any other component, so that the result is that
of the whole scene at once. Beyond it see `split_windows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.buildings import SplitPart, empty_part
from pipeline.grid import Window
from pipeline.kernels import components
from pipeline.seams import LargeComponent
from pipeline.stages.split import MIN_PIXELS, THRESHOLD, TOLERANCE, margin_of, split_components
from pipeline.stages.split_windows import (
    CORE,
    OVERLAP,
    Read,
    SeamAudit,
    empty_audit,
    split_by_windows,
    valid_scores,
)

if TYPE_CHECKING:
    from pipeline.settings import Outlines


def split_large(
    read: Read,
    component: LargeComponent,
    shape: tuple[int, int],
    *,
    tolerance: float = TOLERANCE,
    core: int = CORE,
    overlap: int = OVERLAP,
    min_pixels: int = MIN_PIXELS,
    outlines: Outlines = "traced",
) -> tuple[SplitPart, SeamAudit]:
    """Buildings of one large component, and the seams that were decided on the way (none if exact).

    Beyond the cap outlines are only simplified.

    Empty if the mask around the component is not what its record says: then a tile failed or changed
    meanwhile, and its parts must not stand beside the whole.
    """
    if component.windowed:
        return split_by_windows(read, component, shape, tolerance, core, overlap, min_pixels)
    window = component.box.grow(max(1, margin_of(outlines))).clip(shape)
    mask_scores, touching, valid = valid_scores(read, window)
    labels, _ = components.label(mask_scores > THRESHOLD)
    row, column = divmod(component.first, shape[1])
    mine = labels == labels[row - window.y0, column - window.x0]
    rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
    box = Window(
        int(rows[0]) + window.y0,
        int(columns[0]) + window.x0,
        int(rows[-1] - rows[0]) + 1,
        int(columns[-1] - columns[0]) + 1,
    )
    if mask_scores[row - window.y0, column - window.x0] <= THRESHOLD or box != component.box:
        return empty_part(), empty_audit()
    del labels
    others = (mask_scores > THRESHOLD) & ~mine
    mask_scores[others] = 0
    part = split_components(
        mask_scores, touching, valid, window, shape[1], tolerance, min_pixels, outlines, others
    )
    return part, empty_audit()
