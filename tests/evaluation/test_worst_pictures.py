"""Pictures of the worst objects: which are kept, and what they show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosam3d.evaluation.object_scoring import Judged
from neurosam3d.evaluation.protocol import Step
from neurosam3d.evaluation.results import CaseResult, RoundResult
from neurosam3d.evaluation.scene import arrange_scene
from neurosam3d.evaluation.worst_pictures import WorstPictures
from neurosam3d.volume import Volume
from tests.evaluation.scans import block


def judged(case: str, dice: float, *, repeat: int = 0) -> Judged:
    """Return an object far from a scan's origin, with a click inside and one outside of it."""
    shape = (90, 100, 60)
    truth = block((70, 60, 40), (9, 8, 7), within=shape) > 0
    mask = block((71, 60, 40), (9, 8, 7), within=shape) > 0
    image = Volume(torch.from_numpy(truth * 100.0 + mask)[None], np.diag([3.0, -2.0, 4.0, 1.0]))
    first = Step(np.array([[72, 63, 42]]), np.array([1]), mask, {"decode": 0.5})
    last = Step(np.array([[72, 63, 42], [79, 64, 43]]), np.array([1, 0]), mask, {"decode": 0.5})
    rounds = (RoundResult(1, 0.5), RoundResult(2, dice))
    result = CaseResult("D", "Ts", "a/b", case, "i", "l", rounds, repeat=repeat)
    return Judged(result, image, truth, [first, last])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Keep what is to be drawn instead of drawing it."""
    calls: list[dict[str, Any]] = []

    def keep(path: Path, image: Any, truth: Any, rounds: Any, **options: Any) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        calls.append({"path": path, "image": image, "truth": truth, "rounds": rounds, **options})

    monkeypatch.setattr("neurosam3d.evaluation.worst_pictures.plot_case", keep)
    return calls


def test_only_the_worst_are_kept(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    pictures = WorstPictures(tmp_path, most=2)
    for case, dice in (("c", 0.3), ("a", 0.5), ("d", 0.9), ("b", 0.1)):
        pictures.offer(judged(case, dice))
    pictures.offer(judged("e", 0.0, repeat=1))  # repeats are not drawn
    assert names(tmp_path) == ["D_Ts_a=2Fb_b.png", "D_Ts_a=2Fb_c.png"]
    assert [path.name[-5] for path in pictures.paths()] == ["b", "c"]
    assert [call["path"].name[-5] for call in drawn] == ["c", "a", "b"]


def test_a_resumed_evaluation_knows_its_pictures(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    first = WorstPictures(tmp_path, most=2)
    shown = [judged(case, dice) for case, dice in (("a", 0.5), ("b", 0.2))]
    for entry in shown:
        first.offer(entry)
    (tmp_path / "of an older run.png").touch()
    again = WorstPictures(tmp_path, most=2, results=[entry.result for entry in shown])
    assert names(tmp_path) == ["D_Ts_a=2Fb_a.png", "D_Ts_a=2Fb_b.png"]
    again.offer(judged("c", 0.3))
    assert names(tmp_path) == ["D_Ts_a=2Fb_b.png", "D_Ts_a=2Fb_c.png"]


def test_a_picture_is_of_the_surroundings_and_in_their_place(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    entry = judged("a", 0.25)
    WorstPictures(tmp_path).offer(entry)
    (call,) = drawn
    assert call["image"].shape == call["truth"].shape
    assert call["image"].numel() < 0.6 * entry.image.data.numel()
    assert call["clicks"] == [1, 2]
    assert [float(played.dice) for played in call["rounds"]] == [0.5, 0.25]
    scene = arrange_scene(
        call["image"], call["truth"], call["rounds"], affine=call["affine"], item=0
    )
    (last,) = scene.answers[1:]
    for (d, h, w), label in zip(last.points.astype(int), last.labels, strict=True):
        assert scene.image[d, h, w] in ((100, 101) if label else (0, 1))
        assert last.prediction[d, h, w]
    # In space, what is drawn lies where the scan has it.
    corner = np.argwhere(call["truth"][0, 0].numpy()).min(0)
    np.testing.assert_allclose(
        call["affine"] @ [*corner, 1], entry.image.affine @ [70, 60, 40, 1], atol=1e-9
    )


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    WorstPictures(tmp_path).offer(judged("a", 0.25))
    assert (tmp_path / "D_Ts_a=2Fb_a.png").stat().st_size > 10_000
