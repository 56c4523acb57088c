"""Many scans judged: resuming, parts, what is told, and what is left on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neurosam3d.evaluation.case_files import Scan
from neurosam3d.evaluation.object_scoring import Scoring
from neurosam3d.evaluation.report import merge_results, read_results
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.run import Outcome, name_result, run_evaluation, take_part
from tests.evaluation.scans import block, sighted_evaluator, toy_scans, without_seconds, write
from tests.faults.holding import held
from tests.faults.limits import largest_file

REPOSITORY = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


def run(
    scans: list[Scan], save_name: Path, console: Console, **options: Any
) -> tuple[Outcome, list[Path]]:
    settings = {"protocol": {"name": "toy"}, "also": {}, **options}
    evaluator = settings.pop("evaluator", sighted_evaluator())
    return run_evaluation(scans, evaluator, save_name=save_name, console=console, **settings)


def stored(save_name: Path) -> list[CaseResult]:
    return without_seconds(read_results(save_name).cases)


def test_results_are_written_in_the_order_of_their_names(tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data", number=3)
    outcome, paths = run(list(reversed(scans)), tmp_path / "result.py", console)
    assert [path.name for path in paths] == [
        "result.json",
        "result.csv",
        "result.md",
        "result.html",
        "result.py",
    ]
    names = [(case.class_name, case.case) for case in outcome.results]
    assert names == [(name, f"case{n}") for name in ("label_1", "label_2") for n in range(3)]
    assert stored(paths[0]) == [replace(r, group="other") for r in without_seconds(outcome.results)]
    assert (outcome.left_out, outcome.unreadable) == ([], [])
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_killed_run_goes_on_and_ends_as_if_it_had_never_been(
    tmp_path: Path, console: Console
) -> None:
    scans = toy_scans(tmp_path / "data")
    run(scans, tmp_path / "whole.json", console)
    journal = tmp_path / "result.journal.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.evaluation.slow_run", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_text(encoding="utf-8").count('"case": {') < 5:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    num_found = journal.read_text(encoding="utf-8").count('"case": {')
    assert 5 <= num_found < 14
    assert not (tmp_path / "result.json").exists()

    judged = []
    evaluator = sighted_evaluator()

    def load() -> Any:
        judged.append(1)
        return evaluator.load_predictor()

    run(
        scans,
        tmp_path / "result.json",
        console,
        evaluator=replace(evaluator, load_predictor=load),
    )
    assert len(judged) < 7  # scans that the killed run had finished are not opened again
    assert stored(tmp_path / "result.json") == stored(tmp_path / "whole.json")
    pictures = {path.name for path in (tmp_path / "result_worst").iterdir()}
    assert pictures == {path.name for path in (tmp_path / "whole_worst").iterdir()}
    assert len(pictures) == 5
    assert not journal.exists()


def test_a_second_run_of_the_same_name_is_refused(tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data", number=1)
    sentence = r"evaluation into .*/result\.json is for one process at a time, got process \d+ on "
    with held(tmp_path / ".result.lock"):
        with pytest.raises(ValueError, match=sentence):
            run(scans, tmp_path / "result.json", console)
        run(scans, tmp_path / "other.json", console)
    run(scans, tmp_path / "result.json", console)
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_told_with_the_file_and_the_run_goes_on(
    tmp_path: Path, console: Console
) -> None:
    scans = toy_scans(tmp_path / "data", number=3)
    run(scans, tmp_path / "whole.json", console)
    with largest_file(1500), pytest.raises(OSError, match="File too large") as refused:
        run(scans, tmp_path / "result.json", console)
    assert refused.value.filename == str(tmp_path / "result.journal.jsonl")
    run(scans, tmp_path / "result.json", console)
    assert stored(tmp_path / "result.json") == stored(tmp_path / "whole.json")


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data", number=1)
    left = [".part-0badcafe-1-0badcafe-result.json", "result_worst/.part-0badcafe-1-0badcafe-a.png"]
    for path in map(tmp_path.joinpath, left):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1, 1))
    run(scans, tmp_path / "result.json", console)
    assert not list(tmp_path.rglob(".part-*"))


def test_an_unfinished_run_of_another_protocol_is_refused(tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data", number=1)
    broken = replace(scans[0], image=tmp_path / "gone.nii.gz")
    run([*scans, broken], tmp_path / "result.json", console)
    other = {"protocol": {"name": "other"}}
    with pytest.raises(ValueError, match="unfinished evaluation with name toy, got other"):
        run(scans, tmp_path / "result.json", console, **other)
    run(scans, tmp_path / "result.json", console, restart=True, **other)
    assert read_results(tmp_path / "result.json").protocol["name"] == "other"


@pytest.mark.parametrize("number", [2, 4])
def test_parts_put_together_are_one_run(number: int, tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data", number=3)
    run(scans, tmp_path / "whole.json", console)
    parts = []
    for index in range(number):  # of four parts, one has no scan
        part = take_part(scans, index=index, number=number)
        save_name = name_result(tmp_path / "part.json", f"s{number}i{index}")
        assert save_name.name == f"part_s{number}i{index}.json"
        also = {"split_idx": index, "split_num": number}
        run(part, save_name, console, also=also)
        parts.append(read_results(save_name))
        assert parts[-1].protocol["split_idx"] == index
    merged, whole = merge_results(parts), read_results(tmp_path / "whole.json")
    assert without_seconds(merged.cases) == without_seconds(whole.cases)
    assert merged.protocol == whole.protocol


def test_parts_are_every_nth_scan() -> None:
    scans: Any = list(range(10))
    assert [take_part(scans, index=n, number=3) for n in range(3)] == [
        [0, 3, 6, 9],
        [1, 4, 7],
        [2, 5, 8],
    ]
    for index in (-1, 3):
        with pytest.raises(ValueError, match=f"counted from 0, got {index} of 3"):
            take_part(scans, index=index, number=3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("out.py", "out_a_s3i0.py"),
        ("out", "out_a_s3i0"),
        ("run_1.5mm", "run_1.5mm_a_s3i0"),
        ("d.x/out.json", "d.x/out_a_s3i0.json"),
    ],
)
def test_parts_of_a_name_come_before_its_suffix(name: str, expected: str) -> None:
    assert name_result(Path(name), "a", "s3i0") == Path(expected)


def test_broken_files_are_told_listed_and_tried_again(
    tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    scans = toy_scans(tmp_path / "data", number=3)
    whole = scans[1].image.read_bytes()
    scans[1].image.write_bytes(whole[:300])
    outcome, paths = run(scans, tmp_path / "result.json", console)
    assert [case.case for case in outcome.results] == ["case0", "case2"] * 2
    assert [entry["path"] for entry in outcome.unreadable] == [str(scans[1].image)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    said = json.loads(paths[0].read_text(encoding="utf-8"))["protocol"]
    assert said["unreadable"] == outcome.unreadable
    assert (tmp_path / "result.journal.jsonl").exists()

    scans[1].image.write_bytes(whole)
    outcome, _ = run(scans, tmp_path / "result.json", console)
    assert (len(outcome.results), outcome.unreadable) == (6, [])
    assert not (tmp_path / "result.journal.jsonl").exists()


def test_objects_left_out_are_listed(tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data", number=2)
    scoring = Scoring(threshold_mm3=500.0)  # the second object has 345.6 mm^3
    evaluator = sighted_evaluator(scoring=scoring)
    outcome, paths = run(scans, tmp_path / "result.json", console, evaluator=evaluator)
    assert [(entry["case"], entry["class_name"]) for entry in outcome.left_out] == [
        ("case0", "label_2"),
        ("case1", "label_2"),
    ]
    assert read_results(paths[0]).protocol["left_out"] == outcome.left_out


def test_the_bar_shows_scans_and_the_mean_so_far(tmp_path: Path) -> None:
    scans = toy_scans(tmp_path / "data", number=2)
    console = Console(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115
    outcome, _ = run(scans, tmp_path / "result.json", console)
    mean = sum(result.rounds[-1].dice for result in outcome.results) / 4
    text = console.export_text()
    assert "2/2 scans" in text
    assert f"Dice {mean:.3f} after 3 clicks, 4 objects" in text


def test_only_the_worst_are_drawn(tmp_path: Path, console: Console) -> None:
    scans = toy_scans(tmp_path / "data")
    for number, scan in enumerate(scans):  # the label lies `number` voxels from what is seen
        image = write(scan.image, block((5, 5, 6)).astype("float32"))
        write(scan.labels[0].path, block((5, 5 + number, 6)))
        assert image == scan.image
    stale = tmp_path / "result_worst" / "stale.png"
    stale.parent.mkdir()
    stale.touch()
    _, paths = run(scans, tmp_path / "result.json", console)
    found = sorted(path.name for path in (tmp_path / "result_worst").iterdir())
    assert found == [f"data_Ts_label_1_case{n}.png" for n in range(2, 7)]
    html = next(path for path in paths if path.suffix == ".html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64") == 5
