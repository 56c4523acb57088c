"""Colours that tell up to hundreds of classes apart, also where they lie on a grey scan."""

import colorsys
from collections.abc import Sequence
from functools import cache
from itertools import cycle

import numpy as np

Colour = tuple[float, float, float]  # red, green, blue, 0..1

# Okabe and Ito's colours, which stay apart for colour-blind readers; green and blue are lighter
# than theirs, to show on grey.
_FIRST: tuple[Colour, ...] = (
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.75, 0.50),
    (0.94, 0.89, 0.26),
    (0.20, 0.45, 0.95),
    (0.84, 0.37, 0.00),
    (0.80, 0.47, 0.65),
)
_SATURATION_VALUE = ((1.0, 1.0), (0.6, 1.0), (0.35, 1.0), (1.0, 0.7), (0.55, 0.75))
_HUES = 36

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def colour_classes(classes: Sequence[str]) -> dict[str, Colour]:
    """Give every class a colour.

    The colour depends on the position alone, so classes that are added at the end leave those of
    the others as they are.
    """
    return dict(zip(classes, cycle(_palette()), strict=False))


@cache
def _palette() -> tuple[Colour, ...]:
    """Order colours so that each is as far as can be from all before it, as the eye sees it."""
    candidates = [
        colorsys.hsv_to_rgb(hue / _HUES, saturation, value)
        for hue in range(_HUES)
        for saturation, value in _SATURATION_VALUE
    ]
    seen = _to_lab(candidates)  # (candidates, 3)
    nearest = np.linalg.norm(seen[:, None] - _to_lab(_FIRST), axis=2).min(axis=1)
    palette = list(_FIRST)
    for _ in candidates:
        farthest = int(nearest.argmax())
        palette.append(candidates[farthest])
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[farthest], axis=1))
    return tuple(palette)


def _to_lab(colours: Sequence[Colour]) -> np.ndarray:
    """Turn sRGB (n, 3) into CIELAB (n, 3), where distances are about as large as they look."""
    srgb = np.array(colours)
    linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    ratio = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
