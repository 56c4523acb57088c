"""Flat YAML as flags: every kind of value, and what is no flag's."""

import argparse
from pathlib import Path

import pytest
import yaml

from neurosam3d.commands.flat_config import config_words, find_config
from neurosam3d.commands.verb import VerbParser


@pytest.fixture
def parser() -> VerbParser:
    parser = VerbParser("verb", description="", epilog="")
    parser.add_argument("--config")
    parser.add_argument("-nc", "--num_clicks", type=int, default=5)
    parser.add_argument("-vp", "--vis_path", type=Path)
    parser.add_argument("--seed", type=int, default=2023)
    parser.add_argument("--threshold", type=float, default=0.0)
    parser.add_argument("--datasets", nargs="+", default=[])
    parser.add_argument("--restart", action=argparse.BooleanOptionalAction, default=False)
    return parser


def parse(parser: VerbParser, content: object, *flags: str, folder: Path) -> argparse.Namespace:
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return parser.parse_args([*config_words(path, parser), *flags])


def test_values_arrive_as_flags_would(parser: VerbParser, tmp_path: Path) -> None:
    content = {
        "num_clicks": 3,
        "vis_path": "a b",
        "seed": None,
        "threshold": -1.5,
        "datasets": ["X", "Y"],
        "restart": True,
    }
    options = parse(parser, content, folder=tmp_path)
    assert vars(options) == {
        "config": None,
        "num_clicks": 3,
        "vis_path": Path("a b"),
        "seed": 2023,
        "threshold": -1.5,
        "datasets": ["X", "Y"],
        "restart": True,
    }


def test_flags_win(parser: VerbParser, tmp_path: Path) -> None:
    content = {"num_clicks": 3, "datasets": ["X", "Y"], "restart": True}
    flags = ["-nc", "7", "--datasets", "Z", "--no-restart"]
    options = parse(parser, content, *flags, folder=tmp_path)
    assert (options.num_clicks, options.datasets, options.restart) == (7, ["Z"], False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"num_click": 3}, r"x\.yaml has the unknown key 'num_click'; did you mean num_clicks\?"),
        ({"zzz": 3}, "unknown key 'zzz'; known: num_clicks, vis_path, seed"),
        ({"config": "y.yaml"}, "unknown key 'config'"),
        ({"num_clicks": {"a": 1}}, r"x\.yaml, num_clicks must be a value or a list of values"),
        ({"restart": "yes"}, r"x\.yaml, restart must be true or false, got 'yes'"),
        (["num_clicks"], "must hold a YAML mapping, got list"),
    ],
)
def test_an_unfit_file_is_named(
    content: object, message: str, parser: VerbParser, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        parse(parser, content, folder=tmp_path)


@pytest.mark.parametrize("content", [{"num_clicks": "many"}, {"num_clicks": [1, 2]}])
def test_a_value_of_the_wrong_type_is_refused_as_a_flags_is(
    content: object, parser: VerbParser, tmp_path: Path
) -> None:
    with pytest.raises(argparse.ArgumentError, match=r"num_clicks|unrecognized"):
        parse(parser, content, folder=tmp_path)


def test_no_yaml_is_named(parser: VerbParser, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.yaml must be a YAML file, got: "):
        config_words(tmp_path / "x.yaml", parser)


def test_files_are_found_here_and_among_the_shipped(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.touch()
    assert find_config(str(path), verb="evaluate") == path
    assert find_config("evaluate.yaml", verb="evaluate").parent.name == "evaluate"
    with pytest.raises(ValueError, match=r"or a shipped one \(evaluate\.yaml.*, got 'none\.yaml'"):
        find_config("none.yaml", verb="evaluate")
