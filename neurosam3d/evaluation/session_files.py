"""What an interactive session leaves on disk: masks and clicks of every round, on the scan's grid.

    <folder>/<dataset>_<set>/<class>/<case>_pred0.nii.gz    after the first click, and so on
    <folder>/<dataset>_<set>/<class>/<case>_clicks0.nii.gz  the clicks so far, for a viewer
    <folder>/<dataset>_<set>/<class>/<case>_clicks.json     their voxel indices and labels

Further repeats lie in `<folder>/repeat1` and so on. Characters that no folder's name may have are
written as `=` and their code.

Shapes: D H W the scan's grid; n clicks.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosam3d.documents import parse_json
from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.protocol import Step
from neurosam3d.files import replacing
from neurosam3d.volume import Grid, Volume, read_volume, write_volume
from neurosam3d.volume_io import VolumeFileError

MARKER_VOXELS = 2.5  # radius of a marker in the finest of a scan's voxel sides
POSITIVE, NEGATIVE = 1, 2  # values of the markers

_UNSAFE = re.compile(r'^\.|[=/\\:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class SessionFiles:
    """Writes sessions below a folder, and reads them back.

    Args:
        folder: Where the files lie.
        protocol: What made the masks what they are; written with the clicks and compared when they
            are read.
    """

    folder: Path
    protocol: Mapping[str, Any]

    def start_of(self, scan: Scan, class_name: str, *, repeat: int = 0) -> Path:
        """Return what the paths of a session's files begin with."""
        root = self.folder / f"repeat{repeat}" if repeat else self.folder
        names = (f"{scan.dataset}_{scan.set_name}", class_name, scan.case)
        return root.joinpath(*map(safe_name, names))

    def write_step(self, start: Path, step: Step, *, grid: Grid, image: Path) -> None:
        """Write mask and clicks of a round as NIfTI on the scan's grid, in the image's space."""
        index = step.clicks - 1
        like = image if image.is_file() else None
        markers = draw_markers(step.points, step.labels, grid=grid)
        for kind, data in (("pred", step.mask), ("clicks", markers)):
            volume = Volume(torch.from_numpy(data)[None], grid.affine)
            write_volume(volume, _file(start, f"{kind}{index}"), like=like)

    def write_clicks(self, start: Path, steps: Sequence[Step]) -> None:
        """Write the clicks of all rounds, which says that the session is complete."""
        rounds = [
            {
                "points": step.points.tolist(),
                "labels": step.labels.tolist(),
                "seconds": dict(step.seconds),
                "num_windows": step.num_windows,
                **_counted(step),
            }
            for step in steps
        ]
        lines = ",\n  ".join(map(json.dumps, rounds))
        text = f'{{"protocol": {json.dumps(dict(self.protocol))},\n "rounds": [\n  {lines}]}}\n'
        with replacing(_clicks_json(start)) as partial:
            partial.write_text(text, encoding="utf-8")

    def read(self, start: Path, *, clicks: Sequence[int], grid: Grid) -> Iterator[Step] | None:
        """Read the rounds of a session after these numbers of clicks, as far as all are there.

        Masks without a JSON of clicks, of another program perhaps, are taken as they are.

        Returns:
            The rounds, or None if a mask is missing.

        Raises:
            ValueError: If the session was made with another protocol.
            VolumeFileError: While a mask is read that is damaged or not on the scan's grid.
        """
        paths = [_file(start, f"pred{number - 1}") for number in clicks]
        rounds = self._read_clicks(start, clicks)
        if len(rounds) < len(clicks) or not all(path.is_file() for path in paths):
            return None
        return (
            Step(
                np.array(played["points"], dtype=int).reshape(-1, 3),
                np.array(played["labels"], dtype=int),
                _read_mask(path, grid),
                played["seconds"],
                played["num_windows"],
                played.get("per_slice"),
                played.get("boxes", 0),
            )
            for path, played in zip(paths, rounds, strict=True)
        )

    def _read_clicks(self, start: Path, clicks: Sequence[int]) -> list[Mapping[str, Any]]:
        """Return what is known of rounds; without a file, no more than their clicks' number."""
        path = _clicks_json(start)
        if not path.is_file():
            return [
                {"points": [[0, 0, 0]] * n, "labels": [-1] * n, "seconds": {}, "num_windows": 0}
                for n in clicks
            ]
        content = _read_rounds(path)
        for key, value in self.protocol.items():
            if (found := content["protocol"].get(key)) != value:
                raise ValueError(
                    f"existing predictions must be of the protocol asked for, got {path} with "
                    f"{key} {found} instead of {value}; give another --vis_path"
                )
        return [
            played
            for played in content["rounds"]
            if played.get("per_slice", len(played["labels"])) in clicks
        ]


def draw_markers(points: np.ndarray, labels: np.ndarray, *, grid: Grid) -> np.ndarray:
    """Draw a small ball around every click.

    Balls are round in millimetres, about five of the scan's finest voxels across, and cut at its
    border. Through thick slices they show as discs in the slice that was clicked, not in those
    beside it. Where balls meet, the later one is on top, but every click keeps its own voxel.

    Args:
        points: Voxel indices (n, 3).
        labels: (n,): 1, 0, or -1 for none.
        grid: The scan's.

    Returns:
        uint8 (D, H, W): 1 positive, 2 negative, 0 no click.
    """
    markers = np.zeros(grid.shape, dtype=np.uint8)
    clicks = [
        (np.asarray(point), POSITIVE if label == 1 else NEGATIVE)
        for point, label in zip(points, labels, strict=True)
        if label >= 0
    ]
    ball = _ball(grid)
    for point, value in clicks:
        voxels = ball + point  # (N, 3)
        inside = ((voxels >= 0) & (voxels < grid.shape)).all(axis=1)
        markers[tuple(voxels[inside].T)] = value
    for point, value in clicks:
        markers[tuple(point)] = value
    return markers


def safe_name(name: str) -> str:
    """Write a name so that a file can have it; different names stay different."""
    return _UNSAFE.sub(lambda found: f"={ord(found[0]):02X}", name)


def _ball(grid: Grid) -> np.ndarray:
    """Return the offsets (N, 3) of the voxels whose centres lie within a marker."""
    radius_mm = MARKER_VOXELS * min(grid.spacing)
    # On a sheared grid a voxel near in space may be further away in indices than its side tells.
    reach = np.ceil(radius_mm * np.linalg.norm(np.linalg.inv(grid.affine[:3, :3]), axis=1))
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1)
    offsets = offsets.reshape(-1, 3).astype(int)
    distance_mm = np.linalg.norm(offsets @ grid.affine[:3, :3].T, axis=1)
    return offsets[distance_mm <= radius_mm + 1e-6]


def _read_rounds(path: Path) -> dict[str, Any]:
    """Read what `write_clicks` has written.

    Raises:
        ValueError: If it is something else.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        dict(content["protocol"])
        for played in content["rounds"]:
            points = np.array(played["points"], dtype=np.int64).reshape(-1, 3)
            if np.shape(np.array(played["labels"], dtype=np.int64)) != (len(points),):
                raise ValueError("a round has a label for each point")
            if not isinstance(played["seconds"], dict) or not isinstance(
                played["num_windows"], int
            ):
                raise ValueError("a round has seconds by name and a number of windows")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be the clicks of a session ({error}); delete it, and it is made anew"
        ) from error
    return content


def _read_mask(path: Path, grid: Grid) -> np.ndarray:
    volume = read_volume(path)
    if len(volume.data) != 1 or not volume.grid.same_as(grid):
        raise VolumeFileError(
            f"{path} must lie on its scan's grid {grid.shape}, got {volume.shape} "
            "or another place in space",
            "unsupported",
        )
    return (volume.data[0] > 0).numpy()


def _counted(step: Step) -> dict[str, int]:
    """Return how prompts were counted, where that is not one click after the other."""
    return {} if step.per_slice is None else {"per_slice": step.per_slice, "boxes": step.boxes}


def _file(start: Path, kind: str) -> Path:
    return start.with_name(f"{start.name}_{kind}.nii.gz")


def _clicks_json(start: Path) -> Path:
    return start.with_name(f"{start.name}_clicks.json")
