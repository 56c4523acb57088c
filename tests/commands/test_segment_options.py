"""The command line of `segment`: groups of prompts, minus signs, and what contradicts itself."""

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from neurosam3d.commands.segment_options import AUTOMATIC, asked_of, parse_options
from neurosam3d.commands.segment_prompts import group_prompts, join_negative
from neurosam3d.inference import ObjectPrompts
from neurosam3d.inference.automatic import AutomaticMaskGenerator
from neurosam3d.inference.named_object import NamedObject

NEEDED = ["scan.nii.gz", "-o", "mask.nii.gz", "--checkpoint", "last.ckpt"]


def _objects(*words: str) -> list[NamedObject]:
    options = parse_options([*NEEDED, *words])
    return group_prompts(options.said or (), world=options.world)


def test_prompts_belong_to_the_object_before_them() -> None:
    words = (
        "--point 1,2,3 --box 0,1,2,3,4,5 --object liver --point 4,5,6,0 --mask m.nii --point 7,8,9 "
        "--object cyst --point 1.5,2,3,1"
    )
    assert _objects(*words.split()) == [
        NamedObject("object", ObjectPrompts([(1, 2, 3)], [1], ((0, 1, 2), (3, 4, 5)))),
        NamedObject("liver", ObjectPrompts([(4, 5, 6), (7, 8, 9)], [0, 1], mask=Path("m.nii"))),
        NamedObject("cyst", ObjectPrompts([(1.5, 2, 3)], [1])),
    ]
    assert _objects("--object", "liver", "--point", "1,2,3")[0].name == "liver"
    assert _objects() == []


@pytest.mark.parametrize(
    "words",
    [
        ["--point=-12.5,-3,8,0", "--box=-1,2,3,4,5,6"],
        ["--point", "-12.5,-3,8,0", "--box", "-1,2,3,4,5,6"],
    ],
)
def test_coordinates_may_begin_with_a_minus(words: list[str]) -> None:
    (only,) = _objects("--world", *words)
    box = ((-1, 2, 3), (4, 5, 6))
    assert only.prompts == ObjectPrompts([(-12.5, -3, 8)], [0], box, world=True)


def test_only_coordinates_are_joined() -> None:
    words = ["--point", "-.5,1,2", "--mask", "-1.nii", "-o", "--point", "--world"]
    assert join_negative(words) == ["--point=-.5,1,2", *words[2:]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--point", "1,2"], "--point: must be i,j,k or i,j,k,label .1 or 0., got '1,2'"),
        (["--point", "1,2,3,2"], "--point: must be i,j,k or i,j,k,label"),
        (["--point", "1,2,x"], "--point: must be numbers with commas, got '1,2,x'"),
        (["--box", "1,2,3"], "--box: must be i0,j0,k0,i1,j1,k1, got '1,2,3'"),
        (["--spacing", "1,2"], "--spacing: must be native, or one or three lengths"),
        (["--spacing", "0"], "--spacing: must be native, or one or three lengths"),
        (["--overlap", "mean"], "--overlap: invalid choice: 'mean'"),
    ],
)
def test_unfit_values_are_told(words: list[str], message: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=message):
        parse_options([*NEEDED, *words])


@pytest.mark.parametrize(
    ("text", "spacing"),
    [("native", "native"), ("1.5", (1.5, 1.5, 1.5)), ("1,2,3.5", (1, 2, 3.5))],
)
def test_spacing(text: str, spacing: object) -> None:
    assert parse_options([*NEEDED, "--spacing", text]).spacing == spacing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--object", "a", "--object", "b", "--point", "1,2,3"],
            "--object a needs a --point, --bo",
        ),
        (["--box", "0,0,0,1,1,1", "--box", "0,0,0,1,1,1"], "--box is given once .* for object"),
        (["--object", "a", "--mask", "x", "--mask", "y"], "--mask is given once .* for a"),
        (["--point", "1,2,3", "--automatic"], "prompts and --automatic cannot be combined"),
        (["--point", "1,2,3", "--prompts", "p.csv"], "prompts and --prompts cannot be combined"),
        (["--prompts", "p.csv", "--automatic"], "--prompts and --automatic cannot be combined"),
        (["--prompts", "p.csv", "--world"], "--world is for --point and --box"),
        (["--point", "1,2,3", "--points_per_side", "4"], "--points_per_side is for --automatic"),
        (["--point", "1,2,3", "--no_grow"], "--no_grow is for --automatic"),
        (["--automatic", "--overlap", "first"], "--overlap is for prompts"),
    ],
)
def test_contradictions_are_told(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked_of(parse_options([*NEEDED, *words]))


def test_what_is_asked_for() -> None:
    assert asked_of(parse_options(NEEDED)) == {}
    assert asked_of(parse_options([*NEEDED, "--automatic", "--no_grow"])) is None
    liver = NamedObject("liver", ObjectPrompts([(1, 2, 3)], [1]))
    options = parse_options([*NEEDED, "--object", "liver", "--point", "1,2,3"])
    assert asked_of(options) == {"": [liver]}


def test_every_setting_of_the_generator_can_be_set() -> None:
    own = {one.name for one in fields(AutomaticMaskGenerator)}
    elsewhere = {"predictor", "_", "iou_trained", "grow"}
    assert {name for name, _, _ in AUTOMATIC.values()} == own - elsewhere
