"""One scan judged without prompts: the classes that a network finds by itself.

Shapes: D H W the scan's grid.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.journal import Key
from neurosam3d.evaluation.object_scoring import (
    NO_VOXEL,
    Finding,
    Judged,
    LeftOut,
    Scoring,
    Unreadable,
    key_of_object,
    result_of,
)
from neurosam3d.evaluation.predictor import LabelMap, Segmenter
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.session_files import safe_name
from neurosam3d.evaluation.truths import Truth
from neurosam3d.volume import Volume, write_volume

NAME = "automatic"


@dataclass(frozen=True)
class AutomaticEvaluator:
    """Judges the objects of a scan in the label map that a network makes of it, once.

    Classes of the reference and of the network are matched by name; those that the network does not
    know are left out. A result has one round, after no click. Where published figures are asked
    for, classes that a scan does not have are left out with what the network found of them.

    Args:
        load_segmenter: Returns what segments scans; called when it is first needed.
        scoring: Which objects count, and how masks are scored.
        folder: Where label maps are written, as `<dataset>_<set>/<case>_pred.nii.gz`; None:
            nowhere.
    """

    load_segmenter: Callable[[], Segmenter]
    scoring: Scoring = field(default_factory=Scoring)
    folder: Path | None = None

    def evaluate(self, scan: Scan, *, finished: Collection[Key] = ()) -> Iterator[Finding]:
        """Judge the objects of a scan, one after the other.

        Args:
            scan: The scan.
            finished: Results that are there already.
        """

        opened: list[_OpenScan] = []
        accounted: set[str] = set()  # classes whose truth is known, or is unknown for a reason

        def judge(image: Volume) -> Callable[[Truth], Iterator[Finding]]:
            opened.append(_OpenScan(scan, image, self.load_segmenter, self.folder))
            return judge_object

        def judge_object(truth: Truth) -> Iterator[Finding]:
            accounted.add(truth.class_name)
            return self._judge(opened[0], truth, finished)

        is_whole = True
        for finding in self.scoring.judge_objects(scan, judge):
            if isinstance(finding, Unreadable):
                is_whole = False
            elif isinstance(finding, LeftOut) and finding.reason != NO_VOXEL:
                accounted.add(finding.class_name)
            yield finding
        if self.scoring.legacy and is_whole:
            yield from self._find_absent(opened[0], accounted)

    def _find_absent(self, opened: "_OpenScan", accounted: Collection[str]) -> Iterator[LeftOut]:
        """Tell what the network finds of classes that the scan does not have."""
        for value, name in enumerate(opened.found.classes, start=1):
            if name not in accounted and self.scoring.wants(name):
                voxels = int(np.count_nonzero(opened.found.labels == value))
                yield LeftOut(name, "", "the reference does not have the class", voxels)

    def _judge(
        self, opened: "_OpenScan", truth: Truth, finished: Collection[Key]
    ) -> Iterator[Finding]:
        if key_of_object(opened.scan, truth) in finished:
            return
        found, known = opened.found, list(opened.found.classes)
        if truth.class_name not in known:
            reason = f"the network does not know the class, but {', '.join(known)}"
            yield LeftOut(truth.class_name, str(truth.label), reason)
            return
        mask = found.labels == 1 + known.index(truth.class_name)
        nothing = np.zeros((0, 3), dtype=int), np.zeros(0, dtype=int)
        step = Step(*nothing, mask, found.seconds, found.num_windows)
        scores = self.scoring.score(step, truth.mask, opened.image.spacing)
        yield Judged(result_of(opened.scan, truth, [scores]), opened.image, truth.mask, [step])


@dataclass(eq=False)
class _OpenScan:
    """A scan that was read; it is segmented when that is first asked for."""

    scan: Scan
    image: Volume
    load_segmenter: Callable[[], Segmenter]
    folder: Path | None

    @cached_property
    def found(self) -> LabelMap:
        found = self.load_segmenter().segment(self.image)
        if found.labels.shape != self.image.shape:
            raise ValueError(
                f"the label map must be on the scan's grid {self.image.shape}, "
                f"got {found.labels.shape}"
            )
        if self.folder is not None:
            place = self.folder / safe_name(f"{self.scan.dataset}_{self.scan.set_name}")
            volume = Volume(torch.from_numpy(found.labels)[None], self.image.affine)
            like = self.scan.image if self.scan.image.is_file() else None
            write_volume(volume, place / f"{safe_name(self.scan.case)}_pred.nii.gz", like=like)
        return found
