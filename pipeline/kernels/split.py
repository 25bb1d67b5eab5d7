"""Mask scores and a touching-border channel to building instances (TernausNetV2's post-processing).

A component of the mask with one seed, or with none, is one instance: nothing to decide. Only components
with several seeds are flooded, each on its own, so that a crop which holds a component gives it the same
instances as the whole scene.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import attach, grown, next_run, number, output, runs, span
from pipeline.kernels.jit import inlined, kernel, load64, plain

_SIGNS = np.uint64(0x8000000080000000)
_AWAKE = 1 << 30
_AWAKE_PAIR = np.uint64(_AWAKE << 32 | _AWAKE)


@kernel
def _seeds(mask: Any, touching: Any, width: int, bar: int, begin: Any, end: Any, rows: Any) -> Any:
    """Seed runs within the mask runs: begin, end, where each mask run's seeds start, joined parents."""
    room = 2 * begin.size + width + 16
    left, right, parent = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    seeds_of = np.zeros(begin.size + 1, np.int64)
    seeded, level = np.zeros(width, np.uint8), np.float32(bar)
    n, previous, reach = np.int64(0), np.int64(0), np.int64(1)
    for y in range(rows.size - 1):
        if n + width // 2 + 1 > room:
            room = 2 * room + width
            left, right, parent = grown(left, room), grown(right, room), grown(parent, room)
        first, over, line = n, previous, y * width
        for run in range(rows[y], rows[y + 1]):
            x, stop = int(begin[run]), int(end[run])
            # Products of two bytes are exact in float32, of which a step of a vector loop takes many.
            k, after = np.uint64(x), np.uint64(stop)
            while k < after:
                place = np.uint64(line) + k
                score = np.float32(mask[place]) * (np.float32(255) - np.float32(touching[place]))
                seeded[k] = score > level
                k += np.uint64(1)
            while x < stop:
                a, b = next_run(seeded, x, stop, 0)
                x = b
                if a < b:
                    left[n], right[n], parent[n] = a, b, n
                    over = attach(left, right, parent, n, over, first, reach)
                    n += 1
            seeds_of[run + 1] = n
        previous = first
    return left[:n], right[:n], seeds_of, parent[:n]


@inlined
def _around(place: int, height: int, width: int, inner: bool) -> Any:
    """Rows and columns beside `place` that exist: -1, 2, -1, 2, or less at the raster's edge."""
    if inner:
        return -1, 2, -1, 2
    y, x = place // width, place % width
    return max(-1, -y), min(2, height - y), max(-1, -x), min(2, width - x)


@inlined
def _settled(bits: Any, place: int, width: int, last: int) -> Any:
    """Whether no pixel around `place` is -1: six loads. False also where a wrapped neighbour is, or at an edge."""
    if place <= width or place >= last:
        return False
    at, row = 4 * (place - 1), 4 * width
    words = load64(bits, at - row) | load64(bits, at - row + 4) | load64(bits, at) | load64(bits, at + 4)
    return (words | load64(bits, at + row) | load64(bits, at + row + 4)) & _SIGNS == 0


@inlined
def _flood(
    mask: Any, touching: Any, height: int, width: int, inner: bool, flat: Any,
    queue: Any, head: Any, tail: Any, place: int, value: Any, level: Any,
) -> Any:
    """Give `value` to the unlabelled pixels around `place` and queue each at its level; the highest level."""
    top, bottom, first, last = _around(place, height, width, inner)
    for dy in range(top, bottom):
        for near in range(place + dy * width + first, place + dy * width + last):
            if flat[near] == -1:
                flat[near] = value
                score = _level(mask, touching, near)
                queue[tail[score]] = near
                tail[score] += 1
                level = score if score > level else level
    return level


@inlined
def _level(mask: Any, touching: Any, place: int) -> Any:
    score = np.int64(mask[place]) * (255 - np.int64(touching[place]))
    return (score + 1 + (score >> 8)) >> 8  # score // 255, exactly, up to 65 534


@inlined
def _wake(flat: Any, height: int, width: int, line: int, begin: int, end: int) -> None:
    """Mark the seed pixels around the gap from column `begin` to `end` of the row that starts at `line`."""
    first, last = max(begin - 1, 0), min(end + 1, width)
    for above in range(max(line - width, 0), min(line + 2 * width, height * width), width):
        for near in range(above + first, above + last):
            if flat[near] > 0:
                flat[near] |= _AWAKE


@inlined
def _next_awake(flat: Any, bits: Any, place: int, end: int) -> Any:
    """The next marked place in [place, end), or end; eight a step. `bits` are the bytes of `flat`."""
    while place + 8 <= end:
        at = 4 * place
        words = load64(bits, at) | load64(bits, at + 8) | load64(bits, at + 16) | load64(bits, at + 24)
        if words & _AWAKE_PAIR:
            break
        place += 8
    while place < end and flat[place] < _AWAKE:
        place += 1
    return place


@kernel
def _split(mask: Any, touching: Any, threshold: int, out: Any, bits: Any) -> Any:
    height, width = out.shape
    bar = threshold * 255
    flat = out.reshape(-1)
    begin, end, rows, component = runs(mask, height, width, threshold, np.int64(1))
    components = number(component)
    left, right, seeds_of, seed = _seeds(mask, touching, width, bar, begin, end, rows)
    number(seed)

    # several[c]: 0 no seed yet, -1 more than one, else its one seed.
    several = np.zeros(components + 1, np.int64)
    for run in range(begin.size):
        c = component[run]
        for s in range(seeds_of[run], seeds_of[run + 1]):
            if several[c] == 0:
                several[c] = seed[s]
            elif several[c] != seed[s]:
                several[c] = -1

    # Runs of the components to flood, component after component, in row-major order.
    first_of = np.zeros(components + 2, np.int64)
    for run in range(begin.size):
        if several[component[run]] < 0:
            first_of[component[run] + 1] += 1
    for c in range(components + 1):
        first_of[c + 1] += first_of[c]
    order, line_of = np.empty(first_of[components + 1], np.int64), np.empty(first_of[components + 1], np.int64)
    fill, at_edge = first_of.copy(), np.zeros(components + 1, np.bool_)
    for y in range(height):
        x = 0
        for run in range(rows[y], rows[y + 1]):
            c = component[run]
            if several[c] < 0:
                order[fill[c]], line_of[fill[c]] = run, y * width
                fill[c] += 1
                at_edge[c] |= y == 0 or y == height - 1 or begin[run] == 0 or end[run] == width
            span(out[y], x, begin[run], 0)
            x = end[run]
        span(out[y], x, width, 0)

    head, tail = np.zeros(256, np.int64), np.zeros(256, np.int64)
    queue, last = np.empty(1024, np.int64), (height - 1) * width - 2
    for c in range(1, components + 1):
        if several[c] >= 0:
            continue
        inner = not at_edge[c]
        # Each pixel enters one queue once: counting the levels first gives every queue its room.
        tail[:] = 0
        for k in range(first_of[c], first_of[c + 1]):
            run, line = order[k], line_of[k]
            x = begin[run]
            for s in range(seeds_of[run], seeds_of[run + 1] + 1):
                stop = left[s] if s < seeds_of[run + 1] else end[run]
                for place in range(line + x, line + stop):
                    flat[place] = -1
                    tail[_level(mask, touching, place)] += 1
                if s < seeds_of[run + 1]:
                    x = right[s]
                    span(flat, line + left[s], line + x, seed[s])
        waiting = 0
        for score in range(256):
            count = tail[score]
            head[score] = tail[score] = waiting
            waiting += count
        if waiting > queue.size:
            queue = np.empty(2 * waiting, np.int64)
        # Most seed pixels have only labelled pixels around them: wake those that have not, then let them go
        # in row-major order.
        for k in range(first_of[c], first_of[c + 1]):
            run, line = order[k], line_of[k]
            x = begin[run]
            for s in range(seeds_of[run], seeds_of[run + 1] + 1):
                stop = left[s] if s < seeds_of[run + 1] else end[run]
                if x < stop:
                    _wake(flat, height, width, line, x, stop)
                x = right[s] if s < seeds_of[run + 1] else x
        level = np.int64(0)
        for k in range(first_of[c], first_of[c + 1]):
            run, line = order[k], line_of[k]
            for s in range(seeds_of[run], seeds_of[run + 1]):
                place, stop = _next_awake(flat, bits, line + left[s], line + right[s]), line + right[s]
                while place < stop:
                    flat[place] = seed[s]
                    if not _settled(bits, place, width, last):
                        level = _flood(mask, touching, height, width, inner, flat, queue, head, tail,
                                       place, seed[s], level)
                    place = _next_awake(flat, bits, place + 1, stop)
        while waiting > 0:
            while head[level] == tail[level]:
                level -= 1
            place = queue[head[level]]
            head[level] += 1
            waiting -= 1
            if not _settled(bits, place, width, last):
                level = _flood(mask, touching, height, width, inner, flat, queue, head, tail,
                               place, flat[place], level)

    # Number the instances by their first pixel, and write the pixels that were not flooded.
    count = 0
    final, of_seed = np.zeros(components + 1, np.int32), np.zeros(seed.size + 1, np.int32)
    component_of = np.empty(components + seed.size, np.int32)
    for y in range(height):
        line = out[y]
        for run in range(rows[y], rows[y + 1]):
            c = component[run]
            if several[c] >= 0:
                if final[c] == 0:
                    component_of[count] = c
                    count += 1
                    final[c] = count
                span(line, begin[run], end[run], final[c])
                continue
            x = begin[run]
            for k in range(seeds_of[run], seeds_of[run + 1] + 1):
                stop = left[k] if k < seeds_of[run + 1] else end[run]
                while x < stop:
                    s = line[x]
                    if of_seed[s] == 0:
                        component_of[count] = c
                        count += 1
                        of_seed[s] = count
                    line[x] = of_seed[s]
                    x += 1
                if k < seeds_of[run + 1]:
                    s = seed[k]
                    if of_seed[s] == 0:
                        component_of[count] = c
                        count += 1
                        of_seed[s] = count
                    x = right[k]
                    span(line, left[k], x, of_seed[s])
    return component_of[:count].copy()


def grouped(
    mask_scores: NDArray[np.uint8],
    touching: NDArray[np.uint8],
    threshold: int = 127,
    out: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As `split`, with (count,) int32 in place of the count: the mask component that each instance is of.

    Components are 8-connected, numbered from 1 in the row-major order of their first pixel.
    """
    mask, border = plain(mask_scores, np.uint8), plain(touching, np.uint8)
    if mask.shape != border.shape:
        raise ValueError(f"mask scores of shape {mask.shape}, but a touching channel of {border.shape}")
    if not 0 <= threshold <= 254:
        raise ValueError(f"threshold is a score from 0 to 254, not {threshold}")
    out = output(out, mask.shape)
    bits = out.reshape(-1).view(np.uint8)
    return out, _split(mask.reshape(-1), border.reshape(-1), threshold, out, bits)


def split(
    mask_scores: NDArray[np.uint8],
    touching: NDArray[np.uint8],
    threshold: int = 127,
    out: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], int]:
    """Instances of a (height, width) pair of score channels, uint8 = round(255 p), and how many there are.

    The mask is p0 > threshold. Seeds are the 8-connected components of mask pixels with
    p0 (255 - p1) > 255 threshold. Each grows within its mask component, 8-connected: pixels are taken in
    the order of falling p0 (255 - p1) // 255 and, among equals, of arrival; seed pixels come first, in
    row-major order; neighbours of a pixel are visited in row-major order. A component without a seed is
    one instance. Labels are int32, 0 outside the mask, 1 to count in the row-major order of each
    instance's first pixel. Nothing is dropped for its size. `out`, if given, is overwritten and returned.
    """
    labels, component = grouped(mask_scores, touching, threshold, out)
    return labels, component.size
