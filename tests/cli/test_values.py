"""What recipes and flags come to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from neurosam3d import recipes
from neurosam3d.cli import NeuroSamCLI, main, run


def test_an_interpolated_key_follows_an_override(toy: Path, parse: Callable) -> None:
    config = parse(["fit", f"--config={toy}", "--model.work_dir=/elsewhere"])
    assert config.trainer.default_root_dir == "/elsewhere/toy"
    assert config.trainer.callbacks[0].init_args.dirpath == "/elsewhere/toy/checkpoints"


def test_a_later_recipe_and_then_flags_win(toy: Path, tmp_path: Path, parse: Callable) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("{model: {task_name: other, lr: 0.5}, seed_everything: 5}", encoding="utf-8")
    config = parse(["fit", "--model.lr=0.25", f"--config={toy}", f"--config={other}"])
    assert config.model.lr == 0.25
    assert config.trainer.default_root_dir.endswith("/runs/other")
    assert config.model.model_type == "vit_tiny"
    assert config.data.seed == 5


def test_the_network_is_told_how_it_is_fed(toy: Path, parse: Callable) -> None:
    flags = ["--data.img_size=48", "--data.intensity=none", "--data.spacing=null", "--data.seed=3"]
    config = parse(["fit", f"--config={toy}", *flags])
    model = config.model
    assert (model.img_size, model.intensity, model.spacing, model.seed) == (48, "none", None, 3)


def test_the_seed_is_2024_unless_said(toy: Path, parse: Callable) -> None:
    recipe = yaml.safe_load(toy.read_text(encoding="utf-8"))
    del recipe["seed_everything"], recipe["data"]["seed"]
    toy.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert parse(["fit", f"--config={toy}"]).seed_everything == 2024


def test_a_printed_configuration_gives_the_same_run(
    toy: Path, tmp_path: Path, parse: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", f"--config={toy}", "--model.lr=0.125", "--data.batch_size=1"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print_config"])
    assert stop.value.code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    again, first = parse(["fit", f"--config={printed}"]), parse(words)
    assert first.model.lr == 0.125
    assert again.as_dict() == first.as_dict()


@pytest.mark.parametrize("verb", recipes.VERBS)
def test_every_argument_is_explained(verb: str, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers = {}

    def keep_parsers(self: NeuroSamCLI, *args: Any) -> None:
        parsers.update(self._subcommand_parsers)
        raise ValueError("seen enough")

    monkeypatch.setattr(NeuroSamCLI, "parse_arguments", keep_parsers)
    with pytest.raises(ValueError, match="seen enough"):
        run([verb, f"--config={toy}"])
    actions = {action.dest: action.help for action in parsers[verb]._actions}
    assert {"data.batch_size", "model.lr", "trainer.devices", "task", "ckpt_path"} <= set(actions)
    assert [dest for dest, text in actions.items() if not text] == []
