"""Prompts on the command line of `segment`, in groups, one group per object."""

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosam3d.inference.named_object import UNNAMED, NamedObject
from neurosam3d.inference.object_prompts import ObjectPrompts

_NUMBERS_AFTER = ("--point", "--box")
_NEGATIVE = re.compile(r"-\.?\d")


@dataclass(frozen=True)
class Point:
    """A click on the command line."""

    place: tuple[float, ...]
    label: int


@dataclass(frozen=True)
class Box:
    """A box on the command line, lowest corner first."""

    corners: tuple[tuple[float, ...], tuple[float, ...]]


Said = str | Point | Box | Path
"""The name of an object, or a prompt of the one that was named before."""


@dataclass
class _Group:
    """What was said of one object."""

    name: str
    points: list[Point] = field(default_factory=list)
    box: Box | None = None
    mask: Path | None = None

    @property
    def is_empty(self) -> bool:
        return not self.points and self.box is None and self.mask is None


def join_negative(words: Sequence[str]) -> list[str]:
    """Join a coordinate that begins with a minus sign to its flag: argparse takes it for one.

    `--point -3,4,5` becomes `--point=-3,4,5`.
    """
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in _NUMBERS_AFTER and _NEGATIVE.match(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def group_prompts(said: Iterable[Said], *, world: bool) -> list[NamedObject]:
    """Group the prompts of the command line by object.

    Args:
        said: Names of objects, and points, boxes and files of masks, in their order.
        world: Points and boxes are RAS+ millimetres.

    Raises:
        ValueError: If a group has no prompt, or two boxes or masks.
    """
    groups = [_Group(UNNAMED)]
    for word in said:
        group = groups[-1]
        if isinstance(word, str):
            groups.append(_Group(word))
        elif isinstance(word, Point):
            group.points.append(word)
        elif isinstance(word, Box):
            _refuse_second("--box", group.box, group.name)
            group.box = word
        else:
            _refuse_second("--mask", group.mask, group.name)
            group.mask = word
    first, *named = groups
    if empty := [group.name for group in named if group.is_empty]:
        raise ValueError(f"--object {empty[0]} needs a --point, --box or --mask after it, got none")
    return [_named(one, world) for one in ([] if first.is_empty else [first]) + named]


def _refuse_second(flag: str, known: object, name: str) -> None:
    if known is not None:
        raise ValueError(f"{flag} is given once for an object, got a second one for {name}")


def _named(group: _Group, world: bool) -> NamedObject:
    return NamedObject(
        group.name,
        ObjectPrompts(
            points=[point.place for point in group.points] or None,
            labels=[point.label for point in group.points] or None,
            box=None if group.box is None else group.box.corners,
            mask=group.mask,
            world=world,
        ),
    )


def parse_point(text: str) -> Point:
    """Read `i,j,k` or `i,j,k,label`.

    Raises:
        argparse.ArgumentTypeError: If the text is none.
    """
    numbers = parse_numbers(text)
    if len(numbers) not in (3, 4) or numbers[3:] not in ((), (0,), (1,)):
        raise argparse.ArgumentTypeError(f"must be i,j,k or i,j,k,label (1 or 0), got {text!r}")
    return Point(numbers[:3], int(numbers[3]) if len(numbers) == 4 else 1)


def parse_box(text: str) -> Box:
    """Read `i0,j0,k0,i1,j1,k1`.

    Raises:
        argparse.ArgumentTypeError: If the text is none.
    """
    numbers = parse_numbers(text)
    if len(numbers) != 6:
        raise argparse.ArgumentTypeError(f"must be i0,j0,k0,i1,j1,k1, got {text!r}")
    return Box((numbers[:3], numbers[3:]))


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read numbers with commas between them.

    Raises:
        argparse.ArgumentTypeError: If the text is none.
    """
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas, got {text!r}") from None
