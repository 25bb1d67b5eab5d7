"""Road centre lines drawn by hand over training areas, since the building scenes label no roads.

`roads_by_hand.json`: scene -> `box` (x0, y0, x1, y1) in px of the scene, inside which the lines were drawn, and
`lines`, each `xy` in px with `core_m` (surely road, metres wide) and `verge_m` (not surely anything up to here).
Under `lines alone` are scenes whose lines have no widths: only the network that sees road middles learns from them.
Drawn by eye on a screen, to about 2 m; narrow alleys were left out, so they count as background.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.chips import LabelledScene
from training.targets_classes import BACKGROUND, NOT_BUILDING, ROAD, draw_lines


def drawn_lines(name: str) -> tuple[tuple[int, int, int, int], tuple[NDArray[np.float64], ...]]:
    """The box (x0, y0, x1, y1) and the centre lines (n, 2) drawn in it, px of scene `name`."""
    everything = json.loads((Path(__file__).parent / "roads_by_hand.json").read_text())
    drawn = everything.get(name) or everything["lines alone"][name]
    x0, y0, x1, y1 = drawn["box"]
    return (x0, y0, x1, y1), tuple(np.array(line["xy"], np.float64) for line in drawn["lines"])


def with_roads(scene: LabelledScene, codes: NDArray[np.uint8], gsd: float) -> NDArray[np.uint8]:
    """The codes (H, W) uint8 of a scene at `gsd`, completed by the roads drawn for it, if there are any.

    Only NOT_BUILDING pixels change: to ROAD, to BACKGROUND beyond the verges, or not at all between the two.
    """
    drawn = json.loads((Path(__file__).parent / "roads_by_hand.json").read_text()).get(scene.name)
    if drawn is None:
        return codes
    scale = scene.gsd / gsd
    lines = tuple(np.array(line["xy"], np.float64) for line in drawn["lines"])
    core, verge = (
        draw_lines(lines, np.array([line[key] for line in drawn["lines"]]) / gsd, codes.shape, scale)
        for key in ("core_m", "verge_m")
    )
    inside = np.zeros(codes.shape, bool)
    x0, y0, x1, y1 = (round(side * scale) for side in drawn["box"])
    inside[y0:y1, x0:x1] = True
    codes = codes.copy()
    codes[inside & (codes == NOT_BUILDING) & ~verge] = BACKGROUND
    codes[inside & np.isin(codes, (NOT_BUILDING, BACKGROUND)) & core] = ROAD
    return codes
