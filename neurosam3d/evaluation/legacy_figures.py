"""Means as a published program reports them, beside this package's own.

SAMed (arXiv:2304.13785) scores every class in every volume, classes that a volume does not have
among them, in voxels, and averages over the volumes, then over the classes. What it takes for a
missed object and for an invented one is told in `neurosam3d.evaluation.conventions`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from neurosam3d.evaluation.conventions import LEGACY
from neurosam3d.evaluation.results import CaseResult
from neurosam3d.evaluation.tables import Table, show_number

# Programs whose means are known here: the name in `LEGACY` -> what it is called.
LEGACY_FIGURES = {"samed": "SAMed"}
KEY = "legacy_figures"  # of a protocol: whose means are reported; of a summary: the means


def legacy_figures(
    cases: Sequence[CaseResult], *, left_out: Sequence[Mapping[str, Any]], name: str
) -> dict[str, Any]:
    """Average the last round of all cases by a program's conventions.

    Args:
        cases: The results; only those whose last round was scored by the conventions count.
        left_out: What was not judged; entries that tell how many `voxels` were found of a class
            that the volume does not have count, too, for classes that other volumes have.
        name: The program, one of `LEGACY_FIGURES`.

    Returns:
        `{"name", "dice", "hd95_voxels", "by_class": {class: {"volumes", "dice", "hd95_voxels"}}}`,
        `None` for means of nothing.
    """
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in cases:
        last = case.rounds[-1] if case.rounds else None
        if last is not None and last.legacy_dice is not None and last.legacy_hd95 is not None:
            scores[case.class_name].append((last.legacy_dice, last.legacy_hd95))
    rules = LEGACY[name]
    for entry in left_out:
        if entry.get("class_name") in scores and "voxels" in entry:
            invented = rules.both_empty if rules.invented is None else rules.invented
            dice = invented if entry["voxels"] else rules.both_empty
            scores[entry["class_name"]].append((dice, 0.0))
    by_class = {
        class_name: {
            "volumes": len(pairs),
            "dice": fmean(dice for dice, _ in pairs),
            "hd95_voxels": fmean(distance for _, distance in pairs),
        }
        for class_name, pairs in sorted(scores.items())
    }
    means = {
        key: fmean(entry[key] for entry in by_class.values()) if by_class else None
        for key in ("dice", "hd95_voxels")
    }
    return {"name": name, **means, "by_class": by_class}


def published_table(figures: Mapping[str, Any]) -> Table:
    """Lay out what `legacy_figures` returns, in the units of the paper."""
    rows = [
        [name, str(entry["volumes"]), *_shown(entry)] for name, entry in figures["by_class"].items()
    ]
    rows.append(["all classes", "", *_shown(figures)])
    note = (
        "For comparison with its paper only. HD95 is in voxels, and 0, the best there is, where an "
        "object was missed. A class that a volume does not have counts with a DSC of 100 if "
        "something was found of it, else 0. The last row is the mean of the classes."
    )
    columns = ("class", "volumes", "DSC %", "HD95 voxels")
    return Table(
        f"As {LEGACY_FIGURES[figures['name']]} reports it", columns, rows, has_total=True, note=note
    )


def published_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return the table of a summary's published figures, if it has some."""
    return [published_table(summary[KEY])] if KEY in summary else []


def _shown(entry: Mapping[str, Any]) -> list[str]:
    percent = None if entry["dice"] is None else 100 * entry["dice"]
    return [show_number(percent, 2), show_number(entry["hd95_voxels"], 2)]
