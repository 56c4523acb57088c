"""What the figures of an evaluation mean, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.statistics import NUM_RESAMPLES
from neurosam3d.evaluation.summary import LEGACY_LABEL
from neurosam3d.evaluation.tables import show_clicks, show_count, show_mean, show_number

FEW_SCANS = 10  # below it a percentile bootstrap is known to be too sure of itself

_MEANINGS = {
    "oracle_roi": (
        "An upper bound: the region of interest was centred on the reference, and clicks fell only "
        "inside it. Nobody has that region for a new scan; the protocol prompt_roi measures what a "
        "user gets."
    ),
    "prompt_roi": (
        "What a user gets: the predictor knew the scan and the clicks, nothing else, and the "
        "region of interest followed from the first click. The clicks are simulated: they fall "
        "where the prediction is wrong, as those of somebody who knows the object well."
    ),
    "adapter3d": (
        "3DSAM-adapter's protocol: the predictor was given voxels of the object, drawn at random "
        "and all at once. They may lie at its very border, and none of them depends on what the "
        "predictor answered, so this is not how a user works; prompt_roi is nearer to that."
    ),
    "automatic": (
        "Without a user: the network segmented each scan once, by itself, and knows the classes it "
        "was trained for. Objects of a class are judged where the reference has the class; what "
        "the network finds where there is none does not count here."
    ),
    "oracle_slices": (
        "An upper bound, for networks of slices: every slice that the object is in was clicked, as "
        "often as the number of clicks says, so that an object of 30 slices got 30 times as many "
        "in all; slices without it were known to be empty. The results list the clicks on the "
        "whole scan as prompts."
    ),
    "box_per_slice": (
        "An upper bound, for networks of slices: the reference's own box on every slice that the "
        "object is in; slices without it were known to be empty. The results list the boxes on "
        "the whole scan as prompts."
    ),
    "box_3d": (
        "One box in space, the reference's own, the same on every slice of it; a user draws no box "
        "that fits so well."
    ),
    "propagate": (
        "One prompt, on the slice where the reference is largest; from there the object was "
        "followed up and down by what the network itself found."
    ),
    "cvpr25": (
        "The protocol of the CVPR 2025 challenge for interactive 3-D segmentation: a box, then "
        "five clicks, each in the middle of the largest error, and the network begins anew every "
        "time. NSD counts as 0 where Dice is at most 0.2. The final score is the one after the "
        "fifth click, AUC the area under the five click scores, at most 4."
    ),
}
_BOUNDS = ("oracle_roi", "oracle_slices", "box_per_slice")
_UNKNOWN = (
    "The file does not tell how the region of interest was chosen. If it was centred on the "
    "reference, the figures are an upper bound, which nobody reaches on a new scan."
)


def meaning(protocol: Mapping[str, Any]) -> str:
    """Say what the figures of a protocol stand for."""
    return _MEANINGS.get(str(protocol.get("name")), _UNKNOWN)


def is_bound(protocol: Mapping[str, Any]) -> bool:
    """Tell whether the figures are, or may be, an upper bound."""
    name = str(protocol.get("name"))
    return name in _BOUNDS or name not in _MEANINGS


def headline(summary: Mapping[str, Any], cases: Sequence[CaseResult]) -> str:
    """Say in one sentence what came out."""
    if not summary["by_clicks"]:
        return "No object was evaluated."
    clicks, entry = list(summary["by_clicks"].items())[-1]
    scans = len({case.scan for case in cases if case.rounds})
    dice = show_mean(entry["dice"], entry["dice_interval"]).replace("(", "(95% interval ")
    when = f"({LEGACY_LABEL})" if clicks < 0 else f"after {show_clicks(clicks)}"
    many = f"{show_count(entry['cases'], 'object')} of {show_count(scans, 'scan')}"
    return f"Mean Dice {when}: {dice}, over {many}."


def explanations(
    protocol: Mapping[str, Any], summary: Mapping[str, Any], cases: Sequence[CaseResult]
) -> list[str]:
    """Say how the figures were computed, and what they hide."""
    scans = len({case.scan for case in cases if case.rounds})
    tolerance = protocol.get("tolerance_mm")
    within = "a tolerance" if tolerance is None else f"{tolerance} mm"
    texts = [
        f"Dice, IoU and NSD are from 0 to 1, higher is better; NSD is the share of both surfaces "
        f"that lies within {within} of the other. HD95 and ASSD are distances in mm, lower is "
        "better. All are measured on the scan's own grid.",
        "If both masks are empty, Dice and NSD are 1 and HD95 is 0. If one is, Dice and NSD are 0 "
        "and HD95 is infinite: that is a miss. Misses are in every mean of Dice and NSD, and in "
        f"the median of HD95. {_empties(summary)}",
        f"Intervals are 95% bootstrap intervals of the mean ({NUM_RESAMPLES:,} resamples): whole "
        "scans are drawn again, because the objects of a scan are not independent. "
        f"{few_scans(scans)}",
    ]
    if len({case.repeat for case in cases}) > 1:
        texts.append(
            "Every object was segmented several times with other clicks. Means are over all "
            "repeats; the standard deviation is that of the repeats' mean Dice."
        )
    if protocol.get("missing_parts"):
        texts.append(
            "Parts of the evaluation are missing, counted from 0: "
            f"{', '.join(map(str, protocol['missing_parts']))}."
        )
    if protocol.get("legacy"):
        texts.append(f"The metrics follow older conventions: {protocol['legacy']}.")
    legacy = summary["legacy"]
    if legacy["dice"] is not None:
        texts.append(
            f"For comparison with older reports only: the best Dice over the clicks has the mean "
            f"{show_number(legacy['dice'])}. It is an upper bound, since nobody who uses a "
            "network knows which of its answers was the best."
        )
    return texts


def _empties(summary: Mapping[str, Any]) -> str:
    entries = list(summary["by_clicks"].values())
    if not entries:
        return ""
    last = entries[-1]
    return (
        f"Here, in the last round, {last['empty_truth']} of {last['runs']} references and "
        f"{last['empty_prediction']} predictions are empty, and {last['missed']} are misses."
    )


def few_scans(scans: int) -> str:
    """Return a warning if bootstrap intervals rest on few scans, else nothing."""
    if scans < 2:
        return "One scan is too few for an interval."
    if scans < FEW_SCANS:
        return f"From {scans} scans they come out too narrow; read them with care."
    return ""
