"""What the properties are about: scans by shape, seed and kind, so that nothing large is drawn.

A property is tried with few small scans in the default suite, and with many large ones in the slow
one: see `Effort`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from neurosam3d.inference.object_prompts import ObjectPrompts
from neurosam3d.volume import Volume

MOST_VOXELS = {40: 20_000, 300: 1_500_000}  # by the largest side
VOXEL_KINDS = ("noise", "constant", "zeros", "some nan", "all nan", "infinite", "huge", "negative")
AFFINE_KINDS = ("axes", "oblique", "sheared", "thick slices")
PROMPT_KINDS = (
    *("click", "clicks", "clicks in mm", "outside", "only negative", "box", "box in mm"),
    *("box outside", "mask", "empty mask", "mask of logits", "mask elsewhere", "nothing"),
)


@dataclass(frozen=True)
class Effort:
    """How hard a property is tried.

    Args:
        largest: The largest side of a scan.
        examples: How many scans.
    """

    largest: int
    examples: int

    @property
    def tries(self) -> settings:
        """The same examples on every machine, without a database of earlier ones."""
        return settings(
            max_examples=self.examples,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )


def efforts(few: int, many: int) -> pytest.MarkDecorator:
    """Try a property with few small scans, and with many large ones where time is."""
    slow = pytest.param(Effort(300, many), id="slow", marks=pytest.mark.slow)
    return pytest.mark.parametrize("effort", [pytest.param(Effort(40, few), id="quick"), slow])


@dataclass(frozen=True)
class Scan:
    """A scan that can be made again.

    Args:
        shape: Voxels along D, H, W.
        seed: Draws voxels and affine.
        voxels: One of `VOXEL_KINDS`.
        placed: One of `AFFINE_KINDS`.
    """

    shape: tuple[int, int, int]
    seed: int
    voxels: str
    placed: str

    @property
    def array(self) -> np.ndarray:
        """Its voxels (D, H, W), float32."""
        generator = np.random.default_rng(self.seed)
        noise = generator.normal(100, 40, self.shape).astype(np.float32)
        dots = generator.random(self.shape) < 0.1
        voxels: dict[str, Any] = {
            "noise": noise,
            "constant": np.full_like(noise, 37.5),
            "zeros": np.zeros_like(noise),
            "some nan": np.where(dots, np.float32(np.nan), noise),
            "all nan": np.full_like(noise, np.nan),
            "infinite": np.where(dots, np.float32(-np.inf), np.where(noise > 150, np.inf, noise)),
            "huge": noise * np.float32(1e30),
            "negative": -noise,
        }
        return voxels[self.voxels].astype(np.float32)

    @property
    def finite(self) -> np.ndarray:
        """Its voxels as files are read: 0 for NaN and infinities."""
        return np.where(np.isfinite(self.array), self.array, 0)

    @property
    def affine(self) -> np.ndarray:
        """Its affine, in which axes are permuted and flipped, too."""
        generator = np.random.default_rng(self.seed)
        turn = np.eye(3)[generator.permutation(3)] * generator.choice([-1, 1], 3)
        spacing = generator.uniform(0.4, 3.0, 3)
        if self.placed == "oblique":
            turn = turn @ np.linalg.qr(np.eye(3) + generator.normal(0, 0.2, (3, 3)))[0]
        elif self.placed == "sheared":
            turn = turn @ (np.eye(3) + np.triu(generator.uniform(-0.4, 0.4, (3, 3)), 1))
        elif self.placed == "thick slices":
            spacing[generator.integers(3)] *= 12
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn * spacing, generator.normal(0, 200, 3)
        return affine

    @property
    def volume(self) -> Volume:
        """Voxels, as files are read, and affine."""
        return Volume(torch.from_numpy(self.finite)[None], self.affine)


def shapes(largest: int) -> st.SearchStrategy[tuple[int, int, int]]:
    """Draw sides from 1 on, of which few are large at once."""
    sides = st.one_of(st.integers(1, 6), st.integers(1, largest))

    def cut(shape: tuple[int, int, int]) -> tuple[int, int, int]:
        d, h, w = shape
        h = min(h, max(1, MOST_VOXELS[largest] // d))
        return d, h, min(w, max(1, MOST_VOXELS[largest] // (d * h)))

    return st.tuples(sides, sides, sides).map(cut)


def scans(largest: int) -> st.SearchStrategy[Scan]:
    """Draw scans with sides up to the largest."""
    kinds = st.sampled_from(VOXEL_KINDS), st.sampled_from(AFFINE_KINDS)
    return st.builds(Scan, shapes(largest), st.integers(0, 2**32 - 1), *kinds)


def draw_prompts(scan: Scan, kind: str) -> ObjectPrompts:
    """Return prompts of a kind about a scan; some are none that it can be asked with."""
    generator = np.random.default_rng(scan.seed + 1)
    shape = np.array(scan.shape)
    points = generator.integers(0, shape, (3, 3))
    low, high = np.sort(generator.integers(0, shape, (2, 3)), axis=0)
    world = scan.affine[:3, :3] @ points.T + scan.affine[:3, 3:]
    mask = generator.random(scan.shape) < 0.5
    marked = mask.copy()
    marked[tuple(points[0])] = True
    near = Volume(torch.ones(1, 3, 4, 5), scan.affine @ np.diag([0.9, 1.3, 1.1, 1.0]))
    prompts: dict[str, dict[str, Any]] = {
        "click": {"points": points[:1]},
        "clicks": {"points": points, "labels": [1, 0, 1]},
        "clicks in mm": {"points": world.T, "labels": [1, 1, 0], "world": True},
        "outside": {"points": [shape + 3]},
        "only negative": {"points": points, "labels": [0, 0, 0]},
        "box": {"box": [low, high]},
        "box in mm": {"box": [world.min(1), world.max(1)], "world": True},
        "box outside": {"box": [shape + 2, shape + 9]},
        "mask": {"mask": marked},
        "empty mask": {"mask": np.zeros(scan.shape, bool)},
        "mask of logits": {"mask": generator.normal(0, 4, scan.shape)},
        "mask elsewhere": {"mask": near},
        "nothing": {},
    }
    return ObjectPrompts(**prompts[kind])
