"""`neurosam3d compare --plan`: what a plan may say, and methods judged as it says."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from neurosam3d.__main__ import main
from neurosam3d.commands.compare_plan import CLICKS, METHOD_KEYS, PLAN_KEYS, read_plan
from neurosam3d.commands.compare_tasks import count_trained
from neurosam3d.commands.network import Network, load_network
from neurosam3d.evaluation.report import read_results, write_results
from neurosam3d.shipped import CHECKOUT_CONFIGS
from tests.evaluation.made_up import PROTOCOL, many_cases
from tests.published import lightning_content, save, small_network

WritePlan = Callable[..., Path]


class Bright(nn.Module):
    """A network without prompts, of three classes, that looks at single voxels."""

    crop_size = (16, 16, 8)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 3, D, H, W) of an image (B, 1, D, H, W)."""
        return self.layer(image)


@pytest.fixture
def write_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WritePlan:
    """Return a function that writes a plan with two methods whose files are there."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.ckpt", "b.ckpt", "c.json"):
        (tmp_path / name).touch()

    def write(**content: Any) -> Path:
        methods = [{"name": "A", "checkpoint": "a.ckpt"}, {"name": "B", "checkpoint": "b.ckpt"}]
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump({"methods": methods, **content}), encoding="utf-8")
        return path

    return write


# What a plan says


def test_a_plan_gives_each_method_its_options(write_plan: WritePlan) -> None:
    methods = [
        {"name": "A", "checkpoint": {"AMOS": "a.ckpt", "KiTS": "b.ckpt"}, "note": "two networks"},
        {"name": "B/1", "checkpoint": "b.ckpt", "spacing": [1, 1, 3], "protocol": "oracle_roi"},
        {"name": "C", "results": "c.json"},
    ]
    shared = {"seed": 7, "tolerance_mm": 5, "datasets": ["AMOS", "KiTS"], "data_type": None}
    plan = read_plan(write_plan(methods=methods, clicks=[5, 1, 5], **shared))
    one, two, three = plan.methods
    assert (plan.clicks, plan.out, plan.pictures) == ((1, 5), Path("results/plan"), 1)
    assert (one.note, three.has_results) == ("two networks", True)
    assert [one.file_for(name) for name in ("AMOS", "KiTS", "LiTS")] == [
        Path("a.ckpt"),
        Path("b.ckpt"),
        None,
    ]
    options = plan.options_for(two, "KiTS")
    assert options.checkpoint_path == Path("b.ckpt")
    assert (options.seed, options.tolerance_mm, options.num_clicks) == (7, 5.0, 5)
    assert (options.protocol, options.spacing) == (["oracle_roi"], ["1", "1", "3"])
    assert (options.datasets, options.data_type) == (["KiTS"], "Ts")
    assert options.save_name == Path("results/plan/B=2F1/KiTS.json")
    assert plan.options_for(one, "KiTS").protocol == ["prompt_roi"]
    assert plan.options_for(one, "KiTS").num_prompts == [1, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"clickz": [1]}, "unknown key 'clickz'; did you mean clicks?"),
        ({"zzz": 1}, f"unknown key 'zzz'; known: {', '.join(PLAN_KEYS)}"),
        ({"methods": []}, "methods must be a list with at least one method"),
        ({"methods": ["A"]}, "methods must hold mappings such as {name: A}, got 'A'"),
        ({"methods": [{"checkpoint": "a.ckpt"}]}, "a method needs a name"),
        ({"methods": [{"name": "A"}]}, "A: a method has either a checkpoint or results"),
        (
            {"methods": [{"name": "A", "checkpoint": "a.ckpt", "seed": 1}]},
            f"A has the unknown key 'seed'; known: {', '.join(METHOD_KEYS)}",
        ),
        (
            {"methods": [{"name": "A", "checkpoint": "no.ckpt"}]},
            "A, checkpoint must be a file that is there, got no.ckpt",
        ),
        (
            {"methods": [{"name": "A", "results": "c.json", "spacing": 1}]},
            "results are there already, so spacing has no use",
        ),
        ({"methods": [{"name": "A", "checkpoint": "a.ckpt"}] * 2}, "different names, got A twice"),
        ({"clicks": [0, 1]}, "clicks must be numbers from 1 on, got [0, 1]"),
        ({"clicks": ["one"]}, "clicks must be a whole number from 0 on, got 'one'"),
        ({"pictures": -1}, "pictures must be a whole number from 0 on, got -1"),
        ({"protocol": ["prompt_roi", "oracle_roi"]}, "protocol must be a text"),
        ({"protocol": "cvpr25"}, "cvpr25 has data of its own and no place in a plan"),
        ({"protocol": "union"}, "plan.yaml, A: argument --protocol: invalid choice: 'union'"),
        ({"tolerance_mm": "far"}, "argument --tolerance_mm: invalid float value: 'far'"),
    ],
)
def test_a_mistake_in_a_plan_is_one_sentence(
    write_plan: WritePlan, content: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^[^\n]*{re.escape(message)}[^\n]*$"):
        read_plan(write_plan(**content))


def test_the_shipped_plan_is_read_and_says_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = CHECKOUT_CONFIGS / "compare" / "methods.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    for entry in content["methods"]:
        files = entry.get("checkpoint", entry.get("results"))
        for file in files.values() if isinstance(files, dict) else [files]:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).touch()
    plan = read_plan(path)
    assert set(content) == set(PLAN_KEYS)
    assert (plan.clicks, plan.out) == (CLICKS, Path("results/methods"))
    assert len(plan.methods) == 4


def test_trained_parameters_are_those_that_the_optimizer_moved() -> None:
    weight, bias, frozen = (torch.nn.Parameter(torch.ones(n)) for n in (6, 4, 100))
    for optimizer in (
        torch.optim.AdamW([weight, bias, frozen]),
        torch.optim.SGD([weight, bias, frozen], lr=0.1, momentum=0.9),
    ):
        (weight.sum() + bias.sum()).backward()
        optimizer.step()
        assert count_trained({"optimizer_states": [optimizer.state_dict()]}) == 10
    assert count_trained({}) is None
    assert count_trained({"optimizer_states": []}) is None


# What comes out


@pytest.fixture
def plan(tmp_path: Path, prepared_tree: Path) -> dict[str, Any]:
    """Return a plan of two tiny networks for the toy validation set, in two data sets."""
    shutil.copytree(prepared_tree / "Toy", prepared_tree / "More")
    text = (prepared_tree / "Toy_Val.json").read_text(encoding="utf-8")
    entries = [e for e in json.loads(text.replace("Toy", "More")) if "ball" in json.dumps(e)]
    (prepared_tree / "More_Val.json").write_text(json.dumps(entries[:1]), encoding="utf-8")
    told = {"mask_stride": 4, "box_prompts": False, "published_quirks": True}
    fed = {"intensity": "sam_med3d", "spacing": (4.0, 4.0, 6.0)}
    for seed in (3, 4):
        content = lightning_content(small_network(seed), **told, **fed)
        save(content, tmp_path / f"{seed}.ckpt")
    return {
        "test_data_path": str(prepared_tree),
        "data_type": "Val",
        "clicks": [1, 2],
        "max_windows": 1,
        "out": str(tmp_path / "out"),
        "methods": [
            {"name": "three", "checkpoint": {"Toy": str(tmp_path / "3.ckpt")}},
            {"name": "four", "checkpoint": str(tmp_path / "4.ckpt"), "spacing": [5, 5, 6]},
        ],
    }


def carry_out(plan: Mapping[str, Any], folder: Path, *words: str) -> int:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(dict(plan)), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["compare", "--plan", str(path), *words])
    return int(end.value.code or 0)


@pytest.mark.usefixtures("quick_pictures")
def test_methods_are_judged_once_and_put_into_a_table(
    plan: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(plan, tmp_path) == 0
    out, shown = tmp_path / "out", " ".join(capsys.readouterr().out.split())
    assert "three was not judged on More: no figures." in shown
    assert "The protocols differ in spacing: 4.0, 4.0, 6.0 (three), 5.0, 5.0, 6.0 (four)." in shown
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    assert [(row["method"], row["clicks"]) for row in table["rows"]] == [
        ("three", 1),
        ("three", 2),
        ("four", 1),
        ("four", 2),
    ]
    assert set(table["rows"][0]["scores"]) == {"Toy"}
    assert {name: own["objects"] for name, own in table["sets"].items()} == {"More": 1, "Toy": 4}
    alone = read_results(out / "four" / "Toy.json")
    last = [case.rounds[-1].dice for case in alone.cases]
    assert table["rows"][3]["scores"]["Toy"]["dice"]["mean"] == pytest.approx(sum(last) / 4)
    parameters = sum(parameter.numel() for parameter in small_network(3).parameters())
    assert table["sizes"]["three"] == [
        {"parameters": parameters, "trained": 3}
    ]  # of a made-up optimizer
    assert (out / "table.png").is_file()


@pytest.mark.usefixtures("quick_pictures")
def test_only_what_has_changed_is_judged_again(plan: dict[str, Any], tmp_path: Path) -> None:
    plan |= {"datasets": ["Toy"], "clicks": 1}
    assert carry_out(plan, tmp_path) == 0
    out = tmp_path / "out"
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    plan["methods"][1]["spacing"] = [6, 6, 6]
    assert carry_out(plan, tmp_path) == 0
    again = {path for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert {path.parent.name for path in again} == {"four", "out"}  # not three

    assert carry_out(plan, tmp_path, "--restart") == 0
    assert all(path.stat().st_mtime_ns != time for path, time in files.items())


@pytest.mark.usefixtures("quick_pictures")
def test_a_killed_plan_goes_on(
    plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan |= {"datasets": ["Toy"], "pictures": 0, "methods": plan["methods"][:1]}

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("neurosam3d.evaluation.run.write_results", kill)
        assert carry_out(plan, tmp_path) == 130
    journal = tmp_path / "out" / "three" / "Toy.journal.jsonl"
    assert journal.is_file()
    with monkeypatch.context() as patch:
        patch.setattr("neurosam3d.inference.Predictor.set_image", kill)  # nobody has to ask again
        assert carry_out(plan, tmp_path) == 0
    assert not journal.exists()
    assert len(read_results(tmp_path / "out" / "three" / "Toy.json").cases) == 4


@pytest.mark.usefixtures("quick_pictures")
def test_a_network_without_prompts_has_one_row(
    plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    bright = Bright()
    save({"state_dict": bright.state_dict()}, tmp_path / "free.ckpt")

    def load(checkpoint: Path, **options: Any) -> Network:
        if checkpoint.name != "free.ckpt":
            return load_network(checkpoint, **options)
        return Network(
            "bright",
            bright,
            checkpoint,
            spacing=(4.0, 4.0, 6.0),
            intensity="sam_med3d",
            origin="made up",
            classes=("rod", "ball"),
        )

    monkeypatch.setattr("neurosam3d.commands.evaluate.load_network", load)
    free = {"name": "free", "checkpoint": str(tmp_path / "free.ckpt")}
    plan |= {"methods": [*plan["methods"][1:], free], "datasets": ["Toy"], "protocol": "adapter3d"}
    assert carry_out(plan, tmp_path) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))
    assert [(row["method"], row["clicks"]) for row in table["rows"]] == [
        ("four", 1),
        ("four", 2),
        ("free", 0),
    ]
    assert table["sizes"]["free"] == [{"parameters": 6, "trained": None}]
    protocols = [
        read_results(tmp_path / "out" / name / "Toy.json").protocol for name in ("four", "free")
    ]
    assert [told["name"] for told in protocols] == ["adapter3d", "automatic"]
    assert [told["tolerance_mm"] for told in protocols] == [5.0, 5.0]

    plan["methods"][1] |= {"protocol": "prompt_roi"}
    shutil.rmtree(tmp_path / "out")
    assert carry_out(plan, tmp_path) == 2
    assert not (tmp_path / "out").exists()  # it is told before any method is judged


def test_results_that_are_there_need_no_scans_and_no_network(tmp_path: Path) -> None:
    methods = []
    for name, shift in (("a", 0.0), ("b", 0.1)):
        write_results(tmp_path / name, many_cases(["liver"], 7, shift=shift), protocol=PROTOCOL)
        methods.append({"name": name, "results": str(tmp_path / f"{name}.json")})
    plan = {"clicks": [1, 3], "methods": methods, "test_data_path": "nowhere"}
    assert carry_out(plan, tmp_path, "--out", str(tmp_path / "out")) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))
    (first, _) = table["rows"][2]["differences"]["AMOS"]
    assert first["paired"]["mean"] > 0
    assert not (tmp_path / "out" / "table.png").exists()


def test_a_data_set_that_nobody_has_is_told(
    plan: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan["methods"][0]["checkpoint"] = {"Tox": plan["methods"][1]["checkpoint"]}
    assert carry_out(plan, tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("three has a file for Tox, which is none of the data sets: More, Toy")
