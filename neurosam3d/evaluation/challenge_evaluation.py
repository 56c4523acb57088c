"""Cases of the CVPR25 challenge, judged one file after the other by its protocol.

Shapes: D H W the image's axes z, y, x.
"""

import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neurosam3d.evaluation.case_files import LabelFile, Scan
from neurosam3d.evaluation.cvpr25 import ChallengeResult, ChallengeStep, Segment, play_cvpr25
from neurosam3d.evaluation.journal import Key
from neurosam3d.evaluation.object_scoring import Finding, Judged, Unreadable
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.results import CaseResult, RoundResult
from neurosam3d.evaluation.session_files import safe_name
from neurosam3d.npz_cases import read_npz_case
from neurosam3d.volume import Volume, write_volume

NAME = "cvpr25"


@dataclass(frozen=True)
class ChallengeEvaluator:
    """Judges the classes of a case: a box, then five clicks on each.

    Args:
        load_segment: Returns the model; called when it is first needed.
        folder: Where the answers of every step are written, as NIfTI; None: nowhere.
    """

    load_segment: Callable[[], Segment]
    folder: Path | None = None

    def evaluate(self, scan: Scan, *, finished: Collection[Key] = ()) -> Iterator[Finding]:
        """Judge the classes of a case that are not finished.

        Args:
            scan: An `.npz` file and, where its truth lies in another one, that.
            finished: Results that are there already.
        """
        try:
            case = read_npz_case(scan.image)
            for file in scan.labels:
                case["gts"] = _read_truth(file.path, case["imgs"].shape)
            answers: dict[int, np.ndarray] = {}
            result = play_cvpr25(self.load_segment(), case, on_answer=answers.__setitem__)
        except (ValueError, OSError) as error:  # prompts and truth that do not fit, too
            yield Unreadable(str(scan.image), f"{scan.image}: {error}")
            return
        affine = np.diag([*map(float, case["spacing"]), 1.0])
        for num_clicks, segs in answers.items():
            self._write(scan, num_clicks, segs, affine)
        image = Volume(torch.from_numpy(np.ascontiguousarray(case["imgs"]))[None], affine)
        for index, value in enumerate(result.classes):
            truth = case["gts"] == value
            judged = _judge(scan, image, truth, result, index, answers)
            if (*judged.result.object, 0) not in finished:
                yield judged

    def _write(self, scan: Scan, num_clicks: int, segs: np.ndarray, affine: np.ndarray) -> None:
        """Write the classes after a step: 0 for the box, 1 for the first click and so on."""
        if self.folder is not None:
            place = self.folder / safe_name(f"{scan.dataset}_{scan.set_name}")
            volume = Volume(torch.from_numpy(segs)[None], affine)
            write_volume(volume, place / f"{safe_name(scan.case)}_pred{num_clicks}.nii.gz")


def list_npz(cases: Path, *, truths: Path | None = None, set_name: str = "Ts") -> list[Scan]:
    """List the cases of a folder, in the order of their names.

    Args:
        cases: The folder of `.npz` files, or one of them.
        truths: Folder of files of the same names with `gts`, where the cases have none.
        set_name: What the set is called in results.

    Raises:
        ValueError: If there is no case, or one has no truth.
    """
    paths = sorted(cases.glob("*.npz")) if cases.is_dir() else [cases]
    if not paths or not all(path.is_file() for path in paths):
        raise ValueError(f"{NAME} needs cases, .npz files, got none at {cases}")
    dataset = (cases if cases.is_dir() else cases.parent).resolve().name or "data"
    scans = []
    for path in paths:
        labels = () if truths is None else (LabelFile(truths / path.name),)
        if labels and not labels[0].path.is_file():
            raise ValueError(f"{path} needs its truth, gts, in {labels[0].path}, got no such file")
        scans.append(Scan(dataset, set_name, path.stem, path, labels))
    return scans


def _read_truth(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read the truth of a case from a file that may hold nothing else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            truth = archive["gts"]
    except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
        raise ValueError(f"cannot read gts of {path}: {error}") from error
    if truth.shape != shape or truth.dtype.kind not in "biu":
        raise ValueError(
            f"gts of {path} must be whole numbers of imgs' shape {shape}, "
            f"got {truth.dtype} of shape {truth.shape}"
        )
    return truth


def _judge(
    scan: Scan,
    image: Volume,
    truth: np.ndarray,
    played: ChallengeResult,
    index: int,
    answers: Mapping[int, np.ndarray],
) -> Judged:
    """Return what is known of one class of a case."""
    rounds = tuple(_round(step, index) for step in played.steps)
    voxel_mm3 = float(np.prod(image.spacing))
    result = CaseResult(
        dataset=scan.dataset,
        set_name=scan.set_name,
        class_name=f"label_{played.classes[index]}",
        case=scan.case,
        image=str(scan.image),
        label=str(scan.labels[0].path if scan.labels else scan.image),
        rounds=rounds,
        volume_mm3=int(np.count_nonzero(truth)) * voxel_mm3,
    )
    shown = [_shown(played.steps[number], index, answers, truth.shape) for number in (0, -1)]
    return Judged(result, image, truth, shown)


def _round(step: ChallengeStep, index: int) -> RoundResult:
    scores = step.scores[index]
    return RoundResult(
        clicks=step.num_clicks,
        dice=scores.dice,
        nsd=scores.surface_dice,
        hd95=scores.hausdorff95,
        iou=scores.iou,
        assd=scores.assd,
        volume_error=scores.volume_error,
        seconds=step.seconds,
        prediction_empty=scores.prediction_empty,
    )


def _shown(
    step: ChallengeStep, index: int, answers: Mapping[int, np.ndarray], shape: tuple[int, ...]
) -> Step:
    """Return a step of one class as it is drawn; a click that nobody had to make has label -1."""
    clicks = step.clicks[index]
    points, labels = np.zeros((step.num_clicks, 3), dtype=int), np.full(step.num_clicks, -1)
    for number, click in enumerate(clicks):
        points[number], labels[number] = click.voxel, int(click.is_foreground)
    segs = answers.get(step.num_clicks, np.zeros(shape, dtype=np.uint8))
    return Step(points, labels, segs == index + 1, {})
