import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosam3d.evaluation.metrics import batch_dice
from neurosam3d.evaluation.protocol import Round
from neurosam3d.prompts import Prompts
from neurosam3d.training.results import ResultCollector, find_records

# Voxels of 3 x 1 x 2 mm along the tensor's axes; the second axis runs from right to left.
AFFINE = torch.tensor([[0, -1.0, 0, 5], [3, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]).double()
RECORDS = [
    SimpleNamespace(image=Path(f"i{n}.nii.gz"), label=Path(f"t{n}.nii.gz")) for n in range(9)
]


def slab(start: int, stop: int) -> Tensor:
    mask = torch.zeros(1, 12, 8, 10, dtype=torch.bool)
    mask[:, start:stop, 2:6, 3:8] = True
    return mask


def batch(indices: list[int], truths: list[Tensor]) -> dict[str, Any]:
    return {
        "label": torch.stack(truths).to(torch.uint8),
        "affine": AFFINE.repeat(len(indices), 1, 1),
        "index": torch.tensor(indices),
        "dataset": ["Total_Seg_Ts"] * len(indices),
        "class": ["liver"] * len(indices),
        "case": [f"scan{n}" for n in indices],
    }


def one_round(truths: list[Tensor], predictions: list[Tensor], seconds: float) -> Round:
    prompts = Prompts(torch.zeros(len(truths), 2, 3), torch.ones(len(truths), 2))
    dice = batch_dice(torch.stack(predictions), torch.stack(truths))
    return Round(prompts, torch.stack(predictions), dice, seconds)


def test_scores_are_measured_in_millimetres_and_named() -> None:
    truths, predictions = [slab(2, 6), slab(0, 0)], [slab(2, 7), slab(0, 3)]
    results = ResultCollector()
    results.add(
        batch([4, 1], truths), [one_round(truths, predictions, 3.0)], [RECORDS[4], RECORDS[1]]
    )
    empty, other = results.gather()  # in the order of the data
    assert (other.dataset, other.set_name, other.class_name) == ("Total_Seg", "Ts", "liver")
    assert (other.case, other.image, other.label) == ("scan4", "i4.nii.gz", "t4.nii.gz")
    (scores,) = other.rounds
    assert (scores.clicks, scores.seconds, scores.prediction_empty) == (2, 1.5, False)
    assert scores.dice == pytest.approx(8 / 9)
    assert scores.hd95 == pytest.approx(3.0)  # one slice too many, slices 3 mm apart
    assert 0 < scores.nsd < 1
    assert (empty.truth_empty, other.truth_empty) == (True, False)
    assert (empty.rounds[0].dice, empty.rounds[0].nsd, empty.rounds[0].hd95) == (0, 0, math.inf)


def test_case_dealt_twice_counts_once() -> None:
    results = ResultCollector()
    for _ in range(2):
        truths = [slab(2, 6)]
        results.add(batch([3], truths), [one_round(truths, truths, 1.0)], [RECORDS[3]])
    assert len(results) == len(results.gather()) == 1


def test_records_are_found_by_index() -> None:
    loader = SimpleNamespace(dataset=SimpleNamespace(cases=RECORDS))
    assert find_records({"index": torch.tensor([5, 0])}, loader) == [RECORDS[5], RECORDS[0]]
