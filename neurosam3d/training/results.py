"""Scores of `train.py test`, case by case, from all processes into one report.

Shapes: B batch, D H W volume.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, distributed

from neurosam3d.evaluation.metrics import surface_scores
from neurosam3d.evaluation.protocol import Round
from neurosam3d.evaluation.report import CaseResult, RoundResult


class ResultCollector:
    """Collects the scores of batches, from all processes.

    They are kept by the case's index, so a case that a distributed sampler hands out twice, to give
    every process as many, counts once.
    """

    def __init__(self) -> None:
        self._cases: dict[int, CaseResult] = {}

    def __len__(self) -> int:
        return len(self._cases)

    def add(
        self, batch: Mapping[str, Any], rounds: Sequence[Round], records: Sequence[Any]
    ) -> None:
        """Score every round of every item of a batch.

        Args:
            batch: An item of the data room's batches: label (B, 1, D, H, W), affine (B, 4, 4),
                names.
            rounds: What the protocol returned for it.
            records: The data room's records of the items, with the paths of image and label.
        """
        truth = batch["label"].cpu() > 0
        spacings = batch["affine"][:, :3, :3].norm(dim=1).tolist()  # (B, 3) mm
        for item, (record, index) in enumerate(zip(records, batch["index"].tolist(), strict=True)):
            scores = [_score(entry, truth[item, 0], spacings[item], item) for entry in rounds]
            dataset, _, set_name = batch["dataset"][item].rpartition("_")
            self._cases[index] = CaseResult(
                dataset=dataset,
                set_name=set_name,
                class_name=batch["class"][item],
                case=batch["case"][item],
                image=str(record.image),
                label=str(record.label),
                rounds=tuple(scores),
                truth_empty=not bool(truth[item].any()),
            )

    def gather(self) -> list[CaseResult]:
        """Return the results of all processes, in the order of the data."""
        parts = [self._cases]
        if distributed.is_available() and distributed.is_initialized():
            parts = [{}] * distributed.get_world_size()
            distributed.all_gather_object(parts, self._cases)
        merged = {index: result for part in parts for index, result in part.items()}
        return [merged[index] for index in sorted(merged)]


def _score(entry: Round, truth: Tensor, spacing: Sequence[float], item: int) -> RoundResult:
    prediction = entry.prediction[item, 0].cpu()
    d, h, w = spacing
    nsd, hd95 = surface_scores(prediction, truth, spacing=(d, h, w))
    return RoundResult(
        clicks=entry.clicks,
        dice=float(entry.dice[item]),
        nsd=nsd,
        hd95=hd95,
        seconds=entry.seconds / len(entry.dice),
        prediction_empty=not bool(prediction.any()),
    )


def find_records(batch: Mapping[str, Any], loader: Any) -> list[Any]:
    """Return the data room's records of a batch's items, which know the paths of their files."""
    return [loader.dataset.cases[index] for index in batch["index"].tolist()]
