"""How the verbs parse: a mistake is an exception, and examples are shown as they are."""

import argparse

import pytest

from neurosam3d.commands.verb import VerbParser


@pytest.fixture
def parser() -> VerbParser:
    parser = VerbParser("convert", description="Convert.", epilog="example:\n  convert a b")
    parser.add_argument("number", type=int)
    return parser


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: number"),
        (["x"], "argument number: invalid int value: 'x'"),
        (["3", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_unfit_arguments_are_one_sentence(
    parser: VerbParser, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(argparse.ArgumentError, match=sentence):
        parser.parse_args(arguments)


def test_help_shows_examples_as_they_are(
    parser: VerbParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "usage: neurosam3d convert" in text
    assert "example:\n  convert a b" in text
