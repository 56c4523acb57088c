"""The tables of an evaluation: over all, per class, data set and group, and the worst objects."""

from collections.abc import Mapping, Sequence
from typing import Any

from neurosam3d.evaluation.results import LISTS, CaseResult
from neurosam3d.evaluation.summary import ByClicks
from neurosam3d.evaluation.tables import (
    NOTHING,
    Table,
    short_clicks,
    show_clicks,
    show_mean,
    show_names,
    show_number,
    show_value,
)


def overall_table(by_clicks: ByClicks) -> Table:
    """Lay out the main metrics, a row per number of clicks."""
    has_spread = any(entry["spread"] for entry in by_clicks.values())
    columns = ["clicks", "objects", "Dice (95%)", "NSD (95%)", "HD95 median mm", "mean mm"]
    columns += ["missed", *(["repeats, std of Dice"] if has_spread else [])]
    rows = []
    for clicks, entry in by_clicks.items():
        row = [
            show_clicks(clicks),
            str(entry["cases"]),
            show_mean(entry["dice"], entry["dice_interval"]),
            show_mean(entry["nsd"], entry["nsd_interval"]),
            show_number(entry["hd95_median"], 2),
            show_number(entry["hd95_mean"], 2),
            str(entry["missed"]),
        ]
        if has_spread:
            spread = entry["spread"]
            row.append(f"{spread['repeats']}, {spread['std']:.4f}" if spread else "")
        rows.append(row)
    note = "HD95: the median is of all runs, the mean of those with a finite distance."
    return Table("All objects", columns, rows, note=note)


def further_table(by_clicks: ByClicks) -> Table | None:
    """Lay out IoU, ASSD and volume error; None if nobody measured them."""
    keys = ("iou", "assd_median", "assd_mean", "volume_error_median", "volume_error_mean")
    if all(entry[key] is None for entry in by_clicks.values() for key in keys):
        return None
    columns = ["clicks", "IoU", "ASSD median mm", "mean mm", "volume error median", "mean"]
    rows = [
        [show_clicks(clicks), *(show_number(entry[key]) for key in keys)]
        for clicks, entry in by_clicks.items()
    ]
    note = "Volume error: (prediction - truth) / truth. Medians are of all runs, means of finite."
    return Table("Further metrics", columns, rows, note=note)


def seconds_table(by_clicks: ByClicks) -> Table | None:
    """Lay out the mean time of an interaction, in parts; None if nobody took it."""
    keys = ("seconds", "encode_seconds", "decode_seconds")
    if all(entry[key] is None for entry in by_clicks.values() for key in keys):
        return None
    rows = [
        [show_clicks(clicks), *(show_number(entry[key], 3) for key in keys)]
        for clicks, entry in by_clicks.items()
    ]
    note = "The whole covers what is neither, such as bringing the mask back to the scan's grid."
    columns = ("after", "whole", "encoding", "decoding")
    return Table("Seconds per interaction", columns, rows, note=note)


def split_table(
    title: str,
    name: str,
    parts: Mapping[str, ByClicks],
    overall: ByClicks,
    *,
    note: str = "",
    is_brief: bool = False,
) -> Table:
    """Lay out the mean Dice by clicks and the final metrics, a row per part and one for all.

    Args:
        title: Heading.
        name: What a part is: class, data set or group.
        parts: Part -> its averages by number of clicks.
        overall: Averages over all parts.
        note: What a reader must know.
        is_brief: Whether it must fit a terminal: fewer columns and no intervals.
    """
    shown = _selected(list(overall), 3 if is_brief else 5)
    columns = [name, "objects", *map(show_clicks, shown)]
    columns += [*([] if is_brief else ["95% interval"]), "NSD", "HD95 mm", "missed"]
    rows = [_split_row(part, by_clicks, shown, is_brief) for part, by_clicks in parts.items()]
    if len(parts) != 1:
        rows.append(_split_row("all", overall, shown, is_brief))
    if shown:
        right = "NSD, HD95 and misses" if is_brief else "interval, NSD, HD95 and misses"
        last = show_clicks(shown[-1])
        note = f"Mean Dice by clicks; {right}: {last}. HD95 is a median. {note}".strip()
    return Table(title, columns, rows, has_total=len(parts) != 1, note=note)


def split_tables(summary: Mapping[str, Any], *, is_brief: bool = False) -> list[Table]:
    """Return the tables per anatomical group, per data set and per class of a summary.

    Args:
        summary: What `summarise` returns.
        is_brief: Whether they must fit a terminal.
    """
    overall, unknown = summary["by_clicks"], summary["ungrouped"]
    note = f'"other" holds classes that no group names: {show_names(unknown)}.' if unknown else ""
    kinds = (
        ("Anatomical groups", "group", "by_group", note),
        ("Data sets", "data set", "by_dataset", ""),
        ("Classes", "class", "by_class", ""),
    )
    return [
        split_table(title, name, summary[key], overall, note=note, is_brief=is_brief)
        for title, name, key, note in kinds
    ]


def challenge_table(scores: Mapping[str, Any] | None) -> Table | None:
    """Lay out the scores of the CVPR25 challenge; None if there are none."""
    if scores is None:
        return None
    keys = ("dice_auc", "nsd_auc", "dice_final", "nsd_final")
    columns = ("scans", "Dice AUC", "NSD AUC", "Dice final", "NSD final")
    row = (str(scores["scans"]), *(show_number(scores[key], 4) for key in keys))
    note = "Means over the classes of a scan, then over the scans; AUC is at most 4."
    return Table("Challenge scores", columns, [row], num_names=0, note=note)


def worst_table(cases: Sequence[CaseResult]) -> Table:
    """Lay out single objects as they ended."""
    columns = ("data set", "set", "class", "scan", "volume ml", "clicks", "Dice", "NSD", "HD95 mm")
    rows = []
    for case in cases:
        last = case.rounds[-1]
        volume = None if case.volume_mm3 is None else case.volume_mm3 / 1000
        scores = show_number(last.dice), show_number(last.nsd), show_number(last.hd95, 2)
        names = case.dataset, case.set_name, case.class_name, case.case
        rows.append((*names, show_number(volume, 2), short_clicks(last.clicks), *scores))
    return Table("Worst objects", columns, rows, num_names=4)


def worst_cases(cases: Sequence[CaseResult], count: int = 5) -> list[CaseResult]:
    """Return the cases with the lowest Dice in their last round, the worst first.

    Args:
        cases: The results; an object of several repeats is listed by its worst.
        count: How many to return.
    """
    played = sorted((c for c in cases if c.rounds), key=lambda c: (c.rounds[-1].dice, c.object))
    objects = {(case.object, case.label): case for case in reversed(played)}
    return sorted(objects.values(), key=lambda c: (c.rounds[-1].dice, c.object))[:count]


def protocol_table(protocol: Mapping[str, Any]) -> Table:
    """Lay out what is known of how results came about, nested values by names with dots."""
    rows = _flat({key: value for key, value in protocol.items() if key not in LISTS})
    rows += [(key, str(len(protocol[key]))) for key in LISTS if protocol.get(key)]
    return Table("Protocol", ("setting", "value"), rows, num_names=2)


def left_out_table(protocol: Mapping[str, Any]) -> Table | None:
    """Lay out what was not judged, and why; None if nothing was left out."""
    rows = []
    for entry in (entry for key in LISTS for entry in protocol.get(key, ())):
        what = " ".join(show_value(value) for key, value in entry.items() if key != "reason")
        rows.append((what, show_value(entry.get("reason"))))
    return Table("Not judged", ("what", "why"), rows, num_names=2) if rows else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", show_value(value)))
    return rows


def _selected(clicks: Sequence[int], most: int) -> list[int]:
    """Choose the numbers of clicks that fit a table."""
    if len(clicks) <= most:
        return list(clicks)
    preferred = (1, 3) if most < 4 else (1, 3, 5)
    return [n for n in clicks if n in preferred or n == clicks[-1]]


def _split_row(name: str, by_clicks: ByClicks, shown: Sequence[int], is_brief: bool) -> list[str]:
    objects = max((entry["cases"] for entry in by_clicks.values()), default=0)
    row = [name, str(objects)]
    row += [show_number(by_clicks[n]["dice"]) if n in by_clicks else "" for n in shown]
    last = by_clicks.get(shown[-1]) if shown else None
    if last is None:
        return [*row, *[""] * (3 if is_brief else 4)]
    if not is_brief:
        interval = last["dice_interval"]
        row.append(f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else NOTHING)
    return [
        *row,
        show_number(last["nsd"]),
        show_number(last["hd95_median"], 2),
        str(last["missed"]),
    ]
