"""The objects of one scan as one label map: found by prompts, or without.

Shapes: D H W the scan's own axes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurosam3d.inference.automatic_result import OVERLAP_RULE, AutomaticResult
from neurosam3d.inference.label_map import Claim, LabelMap, Overlap, label_type, merge_objects
from neurosam3d.inference.label_map_answer import LabelMapAnswer
from neurosam3d.inference.named_object import NamedObject, check_names
from neurosam3d.inference.object_prompts import ObjectPrompts, place_prompts, require_place
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.sparse_mask import SparseMask
from neurosam3d.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class SegmentedObject:
    """One object of a scan.

    Args:
        name: Its name.
        mask: Its voxels, those that others have in the label map included.
        prompts: How it was asked for; None if it was not.
        num_windows: Windows that it was put together from.
        is_quiet: False if it goes on where no further window was allowed.
    """

    name: str
    mask: SparseMask
    prompts: ObjectPrompts | None
    num_windows: int
    is_quiet: bool = True


@dataclass(frozen=True, eq=False)
class SegmentedScan:
    """A scan with its objects.

    Args:
        volume: The scan.
        objects: Its objects, in the order of their values in the label map.
        label_map: All of them.
        overlap: Whose a voxel is that several objects claim.
        seconds: Time by step: `encode`, `decode` and others.
        automatic: What is known of objects that nobody asked for; None if there were prompts.
    """

    volume: Volume
    objects: tuple[SegmentedObject, ...]
    label_map: LabelMap
    overlap: str
    seconds: Mapping[str, float]
    automatic: AutomaticResult | None = None

    def volumes_ml(self) -> list[float]:
        """Return the volume of each object in the label map, in millilitres."""
        voxel_ml = abs(float(np.linalg.det(self.volume.affine[:3, :3]))) / 1000
        return [count * voxel_ml for count in self.label_map.voxel_counts]


def segment_objects(
    predictor: ScanPredictor, objects: Sequence[NamedObject], *, overlap: Overlap = "highest"
) -> SegmentedScan:
    """Segment the objects that prompts ask for in the predictor's scan.

    Args:
        predictor: Has the scan.
        objects: What to look for.
        overlap: Whose a voxel is that several objects claim.

    Raises:
        ValueError: If two objects share a name, a prompt is unfit, or the rule is unknown.
    """
    check_names([one.name for one in objects], "prompts")
    for one in objects:
        _check_prompts(one, predictor.scan.volume.grid)
    predictions = predictor.predict_objects([one.prompts for one in objects])
    seconds: Counter[str] = Counter()
    claims, found = [], []
    for asked in objects:
        prediction = predictions.pop(0)  # and let go when it is on the scan's grid
        claim = Claim.from_prediction(prediction)
        start = [side.start for side in claim.box]
        mask = SparseMask.from_array(claim.logits > 0, start)
        claims.append(claim)
        found.append(
            SegmentedObject(
                asked.name, mask, asked.prompts, prediction.num_windows, prediction.is_quiet
            )
        )
        seconds.update(prediction.seconds)
    volume = predictor.scan.volume
    names = [one.name for one in objects]
    label_map = merge_objects(names, claims, shape=volume.shape, overlap=overlap)
    return SegmentedScan(volume, tuple(found), label_map, overlap, dict(seconds))


def _check_prompts(asked: NamedObject, grid: Grid) -> None:
    """Say to which object a prompt belongs that is not fit."""
    try:
        placed = place_prompts(replace(asked.prompts, mask=None), grid)
        if asked.prompts.mask is None:
            require_place(placed)
    except ValueError as error:
        raise ValueError(f"{asked.name}: {error}") from error


def take_automatic(result: AutomaticResult, volume: Volume) -> SegmentedScan:
    """Return what the automatic generator found in a scan as objects with numbers for names."""
    objects = tuple(
        SegmentedObject(f"object {one.id}", one.mask, None, one.num_windows)
        for one in result.records
    )
    values = result.label_map.astype(label_type(len(objects)), copy=False)
    label_map = LabelMap(values, tuple(one.name for one in objects))
    return SegmentedScan(volume, objects, label_map, OVERLAP_RULE, result.seconds, result)


def take_label_map(answer: LabelMapAnswer, volume: Volume) -> SegmentedScan:
    """Return what a network without prompts found in a scan: its classes, each as one object."""
    objects = tuple(
        SegmentedObject(name, SparseMask.from_array(answer.mask(name)), None, answer.num_windows)
        for name in answer.classes
    )
    seconds = {step: answer.seconds[step] for step in ("segment", "restore")}  # the rest: prepare
    label_map = LabelMap(answer.labels, answer.classes)
    return SegmentedScan(volume, objects, label_map, "highest", seconds)
