"""What an evaluation has measured: scores of each object of each scan, round by round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEST_OVER_CLICKS = -1  # stands for a number of clicks in files that tell the best round only
LISTS = ("left_out", "unreadable")  # of a protocol: what was not judged, and why
_PART_KEYS = ("split_idx", "split_num", *LISTS)  # what may differ between parts of one evaluation


@dataclass(frozen=True)
class RoundResult:
    """Scores of one object after some clicks; what was not computed is `None`.

    Args:
        clicks: Number of clicks given, or `BEST_OVER_CLICKS`.
        dice: Dice, in 0..1.
        nsd: Surface Dice, in 0..1.
        hd95: 95 % Hausdorff distance in mm, infinite when exactly one mask is empty.
        iou: Intersection over union, in 0..1.
        assd: Average symmetric surface distance in mm, infinite when exactly one mask is empty.
        volume_error: (prediction - truth) / truth, infinite when only the truth is empty.
        seconds: Time the round took.
        encode_seconds: What of it the image encoder took.
        decode_seconds: What of it prompt encoder and mask decoder took.
        prediction_empty: Whether the prediction had no voxel.
        legacy_dice: Dice by the conventions that the protocol names as `legacy_figures`.
        legacy_hd95: HD95 by those, in their unit.
        prompts: Clicks and boxes on the whole scan, where `clicks` counts those on a slice.
    """

    clicks: int
    dice: float
    nsd: float | None = None
    hd95: float | None = None
    iou: float | None = None
    assd: float | None = None
    volume_error: float | None = None
    seconds: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    prediction_empty: bool = False
    legacy_dice: float | None = None
    legacy_hd95: float | None = None
    prompts: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One object of one scan, and how it was segmented click by click.

    Args:
        dataset: Name of the data set.
        set_name: Which part of it: Tr, Val or Ts.
        class_name: The object's class.
        case: Name of the scan.
        image: Path of the image.
        label: Path of the reference.
        rounds: Scores, fewest clicks first.
        truth_empty: Whether the reference had no voxel.
        group: Anatomical group; empty: the one of `groups.yaml` for the class.
        repeat: Which of several runs with other clicks it is, from 0.
        volume_mm3: Volume of the reference.
    """

    dataset: str
    set_name: str
    class_name: str
    case: str
    image: str
    label: str
    rounds: tuple[RoundResult, ...]
    truth_empty: bool = False
    group: str = ""
    repeat: int = 0
    volume_mm3: float | None = None

    @property
    def scan(self) -> tuple[str, str, str]:
        """What names the scan: its objects share it."""
        return (self.dataset, self.set_name, self.case)

    @property
    def name(self) -> str:
        """The object in words."""
        return " ".join(part for part in self.object if part)

    @property
    def object(self) -> tuple[str, str, str, str]:
        """What names the object: its repeats, and other methods' results of it, share it."""
        return (self.dataset, self.set_name, self.class_name, self.case)


@dataclass(frozen=True)
class Results:
    """An evaluation: how it was made, and what came out.

    Args:
        protocol: How the results came about, as `write_results` was told.
        cases: The results, one per object and repeat.
    """

    protocol: Mapping[str, Any]
    cases: Sequence[CaseResult]


def merge_results(parts: Sequence[Results]) -> Results:
    """Put together the results of one evaluation that ran in parts.

    Parts without a protocol, from a CSV or a classic file, are taken as they are.

    Returns:
        The cases of all parts; those of several in the order of their names. The protocol is that
        of the parts without what tells a part; `missing_parts` lists the parts of a split that are
        not among them.

    Raises:
        ValueError: If there is no part, two parts differ in protocol, or an object is in two of
            them or twice in one.
    """
    if not parts:
        raise ValueError("there must be results to merge, got none")
    cases = [case for part in parts for case in part.cases]
    labels: dict[tuple[object, ...], set[str]] = {}
    for case in cases:
        others = labels.setdefault((*case.object, case.repeat), set())
        # Paths tell objects apart that are named alike, but a CSV has none.
        if case.label in others or (others and "" in {case.label, *others}):
            raise ValueError(f"an object must be in the results once, got {case.name} twice")
        others.add(case.label)
    protocols = [part.protocol for part in parts if part.protocol]
    for other in protocols[1:]:
        _require_same(protocols[0], other)
    if len(parts) == 1:
        return parts[0]
    cases.sort(key=lambda case: (*case.object, case.repeat))
    return Results(_merge_protocols(protocols), cases)


def _require_same(first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    may_differ = set(_PART_KEYS)
    if "checkpoint_sha256" in first:
        may_differ.add("checkpoint")  # another machine has the same weights elsewhere
    for key, (ours, theirs) in differing(first, other).items():
        if key not in may_differ:
            raise ValueError(
                f"results of one evaluation have one protocol, got {key}: {ours} and {theirs}"
            )


def _merge_protocols(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the protocols share, with their lists put together."""
    merged = {k: v for part in protocols[:1] for k, v in part.items() if k not in _PART_KEYS}
    for key in LISTS:
        if any(key in part for part in protocols):
            merged[key] = [entry for part in protocols for entry in part.get(key, ())]
    found = {part["split_idx"] for part in protocols if "split_idx" in part}
    number = max((part.get("split_num", 0) for part in protocols), default=0)
    if found and (missing := [index for index in range(number) if index not in found]):
        merged["missing_parts"] = missing
    return merged


def differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that two protocols do not have with the same value, and both values."""
    keys = dict.fromkeys([*first, *other])
    pairs = {key: (first.get(key), other.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
