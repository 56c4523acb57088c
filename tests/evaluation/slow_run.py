"""Evaluates toy scans as a process of its own, slowly, so that it can be killed in the middle."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from neurosam3d.evaluation.run import run_evaluation
from neurosam3d.inference import Predictor
from tests.evaluation.scans import sighted_evaluator, toy_scans
from tests.inference.oracle import Oracle


class SlowPredictor(Predictor):
    """Takes its time for every object."""

    def open_session(self, *args: object, **options: object) -> object:  # type: ignore[override]
        time.sleep(0.2)
        return super().open_session(*args, **options)  # type: ignore[arg-type]


def main(folder: Path) -> None:
    predictor = SlowPredictor(Oracle(), None, (16, 20, 18), "none")
    run_evaluation(
        toy_scans(folder / "data"),
        replace(sighted_evaluator(), load_predictor=lambda: predictor),
        save_name=folder / "result.json",
        protocol={"name": "toy"},
        also={},
        console=Console(stderr=True),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
