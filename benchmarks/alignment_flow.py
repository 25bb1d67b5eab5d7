"""The cadaster drawn against the image, as rasters, and what registers two rasters densely.

Outlines are registered with the image's gradient magnitude; the field is sampled at the vertices. Part of
`benchmarks.alignment_peers`, whose docstring says what all peers are told and how they were tuned.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from training.align_chain import Case, polygons_of, sample, smooth
from training.patches import draw

Array = NDArray[np.float64]
Raster = NDArray[np.float32]
Peer = Callable[[Case, Array, float], Array]
Register = Callable[[Raster, Raster], Raster]
Levels = tuple[tuple[int, float], ...]


def gradient(case: Case, sigma: float, factor: int = 1) -> tuple[Raster, Raster]:
    """Gaussian derivatives (gx, gy) (h, w) of the image, at each pixel those of the band where they are largest;
    0 within reach of nodata."""
    blurred = [cv2.GaussianBlur(band, (0, 0), sigma) for band in case.bands[factor]]
    gx = np.stack([cv2.Scharr(band, cv2.CV_32F, 1, 0) for band in blurred])
    gy = np.stack([cv2.Scharr(band, cv2.CV_32F, 0, 1) for band in blurred])
    strongest = np.argmax(gx**2 + gy**2, axis=0)[None]
    side = 2 * round(3 * sigma) + 3
    known = cv2.erode(case.valid[factor].astype(np.uint8), np.ones((side, side), np.uint8))
    gx, gy = (np.take_along_axis(g, strongest, 0)[0] * known for g in (gx, gy))
    return gx, gy


def contrast(case: Case, sigma: float, power: float = 0.5, factor: int = 1) -> Raster:
    """Gradient magnitude to a power (square root: roofs against shade would drown the rest), (h, w)."""
    return np.hypot(*gradient(case, sigma, factor)) ** np.float32(power)


def outlines(case: Case, coords: Array, sigma: float, factor: int = 1) -> Raster:
    """Drawn outlines of the cadaster, blurred, (h, w)."""
    drawn = draw(polygons_of(case, coords, factor), case.valid[factor].shape)
    return cv2.GaussianBlur((drawn == 1).astype(np.float32), (0, 0), sigma)


def bounded(coords: Array, moved: Array, largest: float) -> Array:
    """Vertices moved by at most `largest` px a component."""
    return coords + np.clip(moved - coords, -largest, largest)


def surface(image: Raster, drawn: Raster, bound: int, whitening: float) -> Raster:
    """Correlation of `drawn` (h, w) moved by (dy, dx) with `image` (h, w): (2 bound + 1, 2 bound + 1).

    whitening 0: cross-correlation; 1: phase correlation; between: the spectrum flattened in part.
    """
    shape = [fft.next_fast_len(side + bound, real=True) for side in image.shape]
    product = fft.rfft2(image, shape) * np.conj(fft.rfft2(drawn, shape))
    if whitening:
        magnitude = np.abs(product)
        product /= np.maximum(magnitude, 1e-6 * magnitude.max() + 1e-12) ** whitening
    near = np.arange(-bound, bound + 1)
    return np.asarray(fft.irfft2(product, shape)[np.ix_(near, near)], np.float32)


def peak(scores: Raster) -> tuple[float, float]:
    """(dx, dy) of the largest score, px from the middle, to a fraction by a parabola along each axis."""
    middle = scores.shape[0] // 2
    y, x = np.unravel_index(np.argmax(scores), scores.shape)
    found = []
    for along, at in ((scores[y], x), (scores[:, x], y)):
        shift = 0.0
        if 0 < at < len(along) - 1:
            left, best, right = (float(v) for v in along[at - 1 : at + 2])
            curve = left - 2 * best + right
            shift = 0.5 * (left - right) / curve if curve < 0 else 0.0
        found.append(float(at) - middle + shift)
    return found[0], found[1]


def global_shift(
    case: Case, coords: Array, largest: float, *, whitening: float = 0.0, sigma: float = 2.0, blur: float = 2.0
) -> Array:
    """One shift for the whole cadaster: the peak of its correlation with the image's gradient magnitude."""
    image = contrast(case, sigma)
    scores = surface(image - image.mean(), outlines(case, coords, blur), int(np.ceil(largest)), whitening)
    return bounded(coords, coords + peak(scores), largest)


def pair(case: Case, coords: Array, sigma: float, blur: float, factor: int = 1) -> tuple[Raster, Raster]:
    """Cadaster's outlines and the image's gradient magnitude, each blurred and stretched to 0..1 at its 99.5 %."""
    image = contrast(case, 1.0, factor=factor)
    both = outlines(case, coords, blur, factor), cv2.GaussianBlur(image, (0, 0), sigma)
    tops = [np.percentile(raster[raster > 1e-4], 99.5) if (raster > 1e-4).any() else 1.0 for raster in both]
    drawn, image = (np.clip(raster / top, 0, 1).astype(np.float32) for raster, top in zip(both, tops, strict=True))
    return drawn, image


def sampled(case: Case, coords: Array, largest: float, flow: Raster, spread: float) -> Array:
    """Vertices moved by a dense flow (2, h, w); `spread` px smooths it with the drawn outlines as its weight,
    since a flow says little where nothing is drawn. 0: as it is."""
    flow = np.clip(np.nan_to_num(flow), -largest, largest).astype(np.float32)
    if spread > 0:
        flow = smooth(flow, outlines(case, coords, 1.0), spread)
    return bounded(coords, coords + sample(flow, coords), largest)


def dis(
    case: Case, coords: Array, largest: float, *, sigma: float = 1.0, blur: float = 1.0, spread: float = 60.0,
    patch: int = 16, preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
) -> Array:  # fmt: skip
    """OpenCV's dense inverse search, from outlines to gradient magnitude."""
    drawn, image = ((raster * 255).astype(np.uint8) for raster in pair(case, coords, sigma, blur))
    search = cv2.DISOpticalFlow_create(preset)
    search.setPatchSize(patch)
    search.setPatchStride(patch // 2)
    search.setFinestScale(0)
    flow = search.calc(drawn, image, None)
    return sampled(case, coords, largest, np.moveaxis(flow, -1, 0), spread)


def farneback(
    case: Case, coords: Array, largest: float, *, sigma: float = 1.0, blur: float = 1.0, spread: float = 40.0,
    window: int = 121, levels: int = 4,
) -> Array:  # fmt: skip
    """OpenCV's polynomial expansion flow."""
    drawn, image = ((raster * 255).astype(np.uint8) for raster in pair(case, coords, sigma, blur))
    flow = cv2.calcOpticalFlowFarneback(drawn, image, None, 0.5, levels, window, 5, 7, 1.5, 256)
    return sampled(case, coords, largest, np.moveaxis(flow, -1, 0), spread)


def flattened(raster: Raster, reach: float) -> Raster:
    """Raster less its mean within `reach` px, over its standard deviation: what takes brightness to be constant
    would else explain the image's ground level, which no drawn cadaster has, by a flow."""
    high = raster - cv2.GaussianBlur(raster, (0, 0), reach)
    return np.asarray(high / max(float(high.std()), 1e-3), np.float32)


def by_levels(
    case: Case, coords: Array, largest: float, register: Register, levels: Levels, sigma: float, blur: float,
    reach: float = 16.0, whitening: float = 0.25, most: float = 4.0,
) -> Array:  # fmt: skip
    """Vertices moved by the common shift, then level by level of (factor, spread px of the image): the cadaster is
    drawn again as moved so far and registered, the flow held to `most` px, smoothed by the drawn outlines as `sampled`
    does, and sampled. `sigma`, `blur`, `reach` and `most` are px of the level.

    Chosen on the training areas southern Banepa, catanduanes_ph_a and massachusetts_us_a, 500 px of each and one
    field of 32 px and one of 8 px. The common shift is by a spectrum flattened in part: by plain correlation it was
    40 px off in Massachusetts, a row of houses too far.
    """
    moved = global_shift(case, coords, largest, whitening=whitening)
    for factor, spread in levels:
        drawn, image = (flattened(raster, reach) for raster in pair(case, moved, sigma, blur, factor))
        bound = min(largest / factor, most)
        flow = np.clip(np.nan_to_num(register(drawn, image)), -bound, bound).astype(np.float32)
        flow = smooth(flow, outlines(case, moved, 1.0, factor), spread / factor)
        moved = bounded(coords, moved + factor * sample(flow, moved / factor), largest)
    return moved


def tvl1(
    case: Case, coords: Array, largest: float, *, sigma: float = 2.0, blur: float = 2.0,
    levels: Levels = ((2, 60.0),), attachment: float = 0.5, tightness: float = 0.3,
) -> Array:  # fmt: skip
    """scikit-image's TV-L1, from the common shift (`by_levels`).

    From the rasters as they are, TV-L1 left 12 px where there had been 2.6: hence `flattened`, and little attachment.
    One pass at half resolution left 3.3 px of 20 and 2.3 of 3.0 in Banepa and Massachusetts; factors 8, 4, 2 left 9.3
    and 3.0, twice 4 5.6 and 2.9, twice 2 3.2 and 3.0.
    """
    from skimage.registration import optical_flow_tvl1

    def register(drawn: Raster, image: Raster) -> Raster:
        flow = optical_flow_tvl1(drawn, image, attachment=attachment, tightness=tightness, dtype=np.float32)
        return np.asarray(flow[::-1])

    return by_levels(case, coords, largest, register, levels, sigma, blur)


def demons(
    case: Case, coords: Array, largest: float, *, sigma: float = 2.0, blur: float = 2.0,
    levels: Levels = ((4, 60.0), (2, 40.0)), smoothing: float = 8.0, iterations: int = 30,
) -> Array:  # fmt: skip
    """SimpleITK's diffeomorphic demons, from the common shift (`by_levels`); the field is smoothed each iteration.

    Factors 4 and 2 left 3.9 px of 20 and 1.5 of 2.6 on the training areas, the common shift alone 6.0 and 2.1; with
    factor 8 first 5.0 and 1.8.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def register(drawn: Raster, image: Raster) -> Raster:
        filtering = sitk.DiffeomorphicDemonsRegistrationFilter()
        filtering.SetNumberOfIterations(iterations)
        filtering.SetStandardDeviations(smoothing)
        field = filtering.Execute(sitk.GetImageFromArray(drawn), sitk.GetImageFromArray(image))
        return np.moveaxis(sitk.GetArrayFromImage(field), -1, 0)

    return by_levels(case, coords, largest, register, levels, sigma, blur)


def bspline(
    case: Case, coords: Array, largest: float, *, knots: float = 300.0, iterations: int = 40, share: float = 0.2,
    edges: bool = True, whitening: float = 0.25,
) -> Array:  # fmt: skip
    """SimpleITK's cubic B-spline with Mattes' mutual information, from the common shift, between the drawn outlines
    and the gradient magnitude (`edges` False: the drawn cadaster and the gray image), over a pyramid of 4, 2, 1;
    knots bounded by the largest displacement.

    On catanduanes_ph_a with outlines and gradient it left 0.9 px of 20 and 0.6 of 1.8; with the gray image 2.3 and
    1.9, and without the common shift first 2.1 and 1.8, so at 8 px it did no good.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    start = global_shift(case, coords, largest, whitening=whitening)
    fill = draw(polygons_of(case, start, 1), case.valid[1].shape)
    image = contrast(case, 1.0) if edges else case.gray[1]
    drawn = outlines(case, start, 2.0) if edges else cv2.GaussianBlur((fill > 0).astype(np.float32), (0, 0), 1.0)
    fixed, moving = (sitk.GetImageFromArray(raster) for raster in (drawn, image))
    mesh = [max(1, round(side / knots)) for side in fixed.GetSize()]
    transform = sitk.BSplineTransformInitializer(fixed, mesh)
    near = cv2.dilate((fill > 0).astype(np.uint8), np.ones((2 * int(largest) + 1,) * 2, np.uint8))
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(32)
    registration.SetMetricFixedMask(sitk.GetImageFromArray(near))
    registration.SetMetricMovingMask(sitk.GetImageFromArray(case.valid[1].astype(np.uint8)))
    registration.SetMetricSamplingStrategy(registration.RANDOM)
    registration.SetMetricSamplingPercentage(share, 1)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsLBFGSB(
        numberOfIterations=iterations, lowerBound=-largest, upperBound=largest, costFunctionConvergenceFactor=1e7
    )
    registration.SetShrinkFactorsPerLevel([4, 2, 1])
    registration.SetSmoothingSigmasPerLevel([4, 2, 1])
    registration.SetInitialTransform(transform, inPlace=True)
    registration.Execute(fixed, moving)
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    )
    moved = sampled(case, start, largest, np.moveaxis(sitk.GetArrayFromImage(field), -1, 0), 0.0)
    return bounded(coords, moved, largest)
