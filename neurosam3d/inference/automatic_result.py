"""What the automatic generator found: masks, their records and one label map of all.

Shapes: D H W the scan's own axes.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosam3d.files import replacing
from neurosam3d.inference.sparse_mask import SparseMask
from neurosam3d.inference.working_scan import map_points
from neurosam3d.volume import Grid, Volume, write_volume

OVERLAP_RULE = "where masks overlap, the smaller one (the higher id) is on top"


@dataclass(frozen=True, eq=False)
class AutomaticMask:
    """One object that was found.

    Args:
        id: Its value in the label map; 1 is the largest.
        mask: Its voxels, those that smaller objects cover in the label map included.
        stability: Its size above the raised threshold divided by that above the lowered one.
        predicted_iou: The network's own estimate; None if that part of it is not trained.
        point: Voxel index of the click that found it, on the scan's grid, not rounded.
        num_windows: Windows that the mask was put together from.
        grid: The scan's grid.
    """

    id: int
    mask: SparseMask
    stability: float
    predicted_iou: float | None
    point: np.ndarray
    num_windows: int
    grid: Grid

    @property
    def box(self) -> np.ndarray:
        """Corners (2, 3) of the tight box in voxels, both included."""
        return self.mask.box

    @property
    def volume_mm3(self) -> float:
        """Volume in cubic millimetres."""
        return self.mask.num_voxels * self.grid.voxel_mm3

    @cached_property
    def centroid(self) -> np.ndarray:
        """Mean voxel index (3,)."""
        return np.argwhere(self.mask.crop()).mean(axis=0) + self.mask.start

    @property
    def centroid_mm(self) -> np.ndarray:
        """The centroid (3,) in RAS+ millimetres."""
        return map_points(self.centroid[None], self.grid.affine, np.eye(4))[0]

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of the mask but its voxels, as plain values."""
        return {
            "id": self.id,
            "stability": round(self.stability, 4),
            "predicted_iou": None if self.predicted_iou is None else round(self.predicted_iou, 4),
            "volume_mm3": round(self.volume_mm3, 3),
            "num_voxels": self.mask.num_voxels,
            "box": self.box.tolist(),
            "centroid": self.centroid.round(3).tolist(),
            "centroid_mm": self.centroid_mm.round(3).tolist(),
            "point": self.point.round(3).tolist(),
            "num_windows": self.num_windows,
        }


@dataclass(frozen=True, eq=False)
class AutomaticResult:
    """All objects that were found in a scan.

    Args:
        records: The objects, the largest first; their ids count from 1.
        grid: The scan's grid.
        settings: How they were looked for.
        counts: Windows, points asked, and what became of the answers.
        seconds: Time of every step.
        source: File of the scan, if it has one.
    """

    records: tuple[AutomaticMask, ...]
    grid: Grid
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    source: Path | None = None

    @cached_property
    def label_map(self) -> np.ndarray:
        """The objects' ids, uint16 (D, H, W), 0 where there is none; smaller ones are on top."""
        return paint([record.mask for record in self.records], self.grid.shape)

    def mask(self, number: int) -> np.ndarray:
        """Return one whole object, uint8 (D, H, W).

        Args:
            number: Its id.

        Raises:
            ValueError: If there is no such object.
        """
        if not 1 <= number <= len(self.records):
            raise ValueError(f"an object's id is 1 to {len(self.records)}, got {number}")
        return self.records[number - 1].mask.dense(self.grid.shape).astype(np.uint8)

    def save(self, path: Path | str) -> list[Path]:
        """Write the label map, and beside it the records as JSON and CSV.

        Args:
            path: A file ending as `write_volume` knows it.

        Returns:
            The files written, the label map first.

        Raises:
            ValueError: If the suffix is unknown.
        """
        path = Path(path)
        like = self.source if str(self.source).endswith((".nii", ".nii.gz")) else None
        labels = torch.from_numpy(self.label_map)[None]
        write_volume(Volume(labels, self.grid.affine), path, like=like)
        return [path, *self.save_records(path)]

    def save_records(self, path: Path | str) -> list[Path]:
        """Write the records as JSON and CSV, named after a label map's file."""
        path = Path(path)
        stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
        texts = {".json": self._json(path), ".csv": self._csv()}
        written = []
        for suffix, text in texts.items():
            target = path.with_name(stem + suffix)
            with replacing(target) as partial:
                partial.write_text(text, encoding="utf-8")
            written.append(target)
        return written

    def _json(self, label_map: Path) -> str:
        content = {
            "image": None if self.source is None else str(self.source),
            "label_map": label_map.name,
            "overlap": OVERLAP_RULE,
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
            "settings": dict(self.settings),
            "counts": dict(self.counts),
            "seconds": {step: round(value, 3) for step, value in self.seconds.items()},
            "masks": [record.to_dict() for record in self.records],
        }
        return json.dumps(content, indent=2) + "\n"

    def _csv(self) -> str:
        rows = [_flat(record.to_dict()) for record in self.records]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


CSV_COLUMNS = (
    "id",
    "stability",
    "predicted_iou",
    "volume_mm3",
    "num_voxels",
    "min_0",
    "min_1",
    "min_2",
    "max_0",
    "max_1",
    "max_2",
    "centroid_0",
    "centroid_1",
    "centroid_2",
    "x_mm",
    "y_mm",
    "z_mm",
    "point_0",
    "point_1",
    "point_2",
    "num_windows",
)


def paint(masks: Sequence[SparseMask], shape: Sequence[int]) -> np.ndarray:
    """Write masks into one array, each over the ones before it.

    Args:
        masks: The masks; the n-th gets the value n, from 1.
        shape: Voxels of the scan.

    Returns:
        uint16, 0 where no mask is.

    Raises:
        ValueError: If there are more masks than numbers.
    """
    if len(masks) > np.iinfo(np.uint16).max:
        raise ValueError(f"a label map holds at most 65535 objects, got {len(masks)}")
    labels = np.zeros(tuple(shape), dtype=np.uint16)
    for value, mask in enumerate(masks, start=1):
        labels[mask.slices][mask.crop()] = value
    return labels


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a record with lists into one row of a table."""
    low, high = record["box"]
    triples = {
        "min_{}": low,
        "max_{}": high,
        "centroid_{}": record["centroid"],
        "point_{}": record["point"],
    }
    row = {key: record[key] for key in record if key in CSV_COLUMNS}
    for name, values in triples.items():
        row |= {name.format(axis): value for axis, value in enumerate(values)}
    return row | dict(zip(("x_mm", "y_mm", "z_mm"), record["centroid_mm"], strict=True))
