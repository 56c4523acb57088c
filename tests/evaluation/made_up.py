"""Results of an evaluation that never took place."""

from typing import Any

import numpy as np

from neurosam3d.evaluation.results import CaseResult, RoundResult

PROTOCOL = {"name": "prompt_roi", "seed": 7, "tolerance_mm": 1.0, "spacing": [1.5, 1.5, 3.0]}


def case(
    name: str, class_name: str, *rounds: RoundResult, dataset: str = "AMOS", **more: Any
) -> CaseResult:
    """Return one object; its paths are those of a prepared tree."""
    label = f"tree/{dataset}/labelsTs/{class_name}/{name}.nii.gz"
    image = f"tree/{dataset}/imagesTs/{name}.nii.gz"
    return CaseResult(dataset, "Ts", class_name, name, image, label, rounds, **more)


def many_cases(
    classes: list[str], num_scans: int = 8, *, clicks: int = 3, shift: float = 0.0, seed: int = 0
) -> list[CaseResult]:
    """Return objects of several classes and scans, whose Dice grows with the clicks."""
    generator = np.random.default_rng(seed)
    cases = []
    for scan in range(num_scans):
        effect = generator.normal(0.6 + shift, 0.1)
        for class_name in classes:
            dice = np.clip(effect + 0.1 * np.arange(clicks) + generator.normal(0, 0.02), 0.01, 1)
            rounds = [
                RoundResult(n, float(d), float(d), 20 * (1 - float(d)), seconds=0.1)
                for n, d in enumerate(dice, start=1)
            ]
            cases.append(case(f"s{scan}", class_name, *rounds))
    return cases
