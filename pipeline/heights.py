"""Height from two views of one place: what the two alignments differ by, read along the line that height moves.

In an ortho whose ground lies right, a roof at height h leans away from the satellite. With the azimuth of the
satellite as seen from the ground (degrees, clockwise from north) and its elevation above the horizon,

    shift of a roof = e + h k,    k = -(sin azimuth, cos azimuth) / tan elevation    (metres east, north)

where e is what the cadaster itself is off by. Two views give four equations for h, e_x and e_y. Where both
satellites stand at one azimuth this is h = d tan α tan β / (tan β - tan α), d the difference of the shifts:
the geometry of Zampieri et al.'s later work without its empirical factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError

Floats = NDArray[np.float64]

LEAST_BASE = 0.15
"""Parallax, metres a metre of height, that two views must differ by: below, a metre of shift is seven of height."""
LOWEST = 10.0
"""Degrees: elevations below it are no view of a town from above."""
CERTAIN_PX = 2.0
"""px: a row's confidence is the chance that it ends within this (`pipeline.stages.gate`)."""
GATE_PX = 1.0
"""px: what a shift that the gate left at nothing may have been, one standard deviation."""
ENOUGH = 20
"""Rows from which the scene's own residuals say how good its shifts are."""


@dataclass(frozen=True, slots=True)
class View:
    """Where the satellite stood, degrees: `azimuth` from the ground to it, clockwise from north; `elevation`
    above the horizon."""

    azimuth: float
    elevation: float

    @property
    def parallax(self) -> Floats:
        """(2,) metres east and north that a metre of height leans."""
        turn = np.radians(self.azimuth)
        return np.asarray(-np.array([np.sin(turn), np.cos(turn)]) / np.tan(np.radians(self.elevation)))


@dataclass(frozen=True, slots=True)
class Solved:
    """Of n rows, metres: `height` and its standard error `sigma` (n,), the footprint's `error` (n, 2) east and
    north, and `residual` (n,), what of the difference lies across the parallax and must be zero."""

    height: Floats
    sigma: Floats
    error: Floats
    residual: Floats


def check_views(a: View, b: View, least: float = LEAST_BASE) -> Floats:
    """The base k_a - k_b (2,). SettingsError where a view is none or the base is too small to tell heights."""
    for name, view in (("--view-a", a), ("--view-b", b)):
        if not (np.isfinite(view.azimuth) and LOWEST <= view.elevation <= 90):
            raise SettingsError(
                f"{name} {view.azimuth:g},{view.elevation:g}: an azimuth and an elevation of {LOWEST:g} to 90 degrees"
            )
    base = a.parallax - b.parallax
    if float(np.hypot(*base)) < least:
        raise SettingsError(
            f"--view-a and --view-b: the base is too small, {np.hypot(*base):.3f} m of parallax a metre of height; "
            f"take two images that differ by {least:g} or more"
        )
    return base


def sigma_of(confidence: Floats, moved: NDArray[np.bool_], gsd: float) -> Floats:
    """Standard deviation (n,), metres an axis, of shifts of rows with these confidences, from what confidence means:
    the chance that a row lies within CERTAIN_PX. Rows that the gate did not move are off by GATE_PX besides."""
    chance = np.clip(np.nan_to_num(confidence), 0.01, 0.999)
    px = CERTAIN_PX / np.sqrt(-2.0 * np.log1p(-chance))
    return np.asarray(gsd * np.hypot(px, np.where(moved, 0.0, GATE_PX)))


def solve(shift_a: Floats, shift_b: Floats, sigma_a: Floats, sigma_b: Floats, a: View, b: View) -> Solved:
    """Least squares of the four equations of each row: `shift_*` (n, 2) metres east and north, `sigma_*` (n,).

    Given h the best e is the weighted mean of what is left of both shifts, and what then remains to minimise is
    |d - h (k_a - k_b)|² / (sigma_a² + sigma_b²), d the difference of the shifts.
    """
    base = a.parallax - b.parallax
    length = float(np.hypot(*base))
    difference = shift_a - shift_b
    height = difference @ base / length**2
    residual = (difference[:, 0] * base[1] - difference[:, 1] * base[0]) / length
    say = (sigma_b**2 / (sigma_a**2 + sigma_b**2))[:, None]
    left = shift_a - height[:, None] * a.parallax, shift_b - height[:, None] * b.parallax
    return Solved(height, np.hypot(sigma_a, sigma_b) / length, say * left[0] + (1 - say) * left[1], residual)


def spread_of(residual: Floats, sigma_a: Floats, sigma_b: Floats) -> float:
    """How many times as far as their sigmas say the residuals of a scene's rows scatter, robustly (median of the
    absolute values); 1 where there are fewer than ENOUGH rows, and never below 1: neighbours share their errors, and
    what lies along the parallax is not seen here."""
    if len(residual) < ENOUGH:
        return 1.0
    return max(float(1.4826 * np.median(np.abs(residual) / np.hypot(sigma_a, sigma_b))), 1.0)
