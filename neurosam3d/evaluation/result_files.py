"""Files that hold results: JSON with everything, CSV with a line per round, and classic `.py`.

Nothing in a file is ever run: a classic file is parsed as data.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from neurosam3d.documents import parse_json
from neurosam3d.evaluation.classic_files import read_classic, read_classic_json
from neurosam3d.evaluation.results import LISTS, CaseResult, Results, RoundResult

CSV_COLUMNS = ("dataset", "set", "class", "case", "clicks", "dice", "nsd", "hd95", "seconds")

CASE_KEYS = {"set_name": "set", "class_name": "class"}  # where a field's key in JSON differs
_SCORES = tuple(f.name for f in fields(RoundResult) if f.name not in ("clicks", "prediction_empty"))


def read_results(path: Path) -> Results:
    """Read the results of an evaluation from a `.json`, `.csv` or classic `.py` file.

    A CSV or classic file tells less: it has no protocol and no paths of images, and a classic file
    has the best Dice over the clicks only. The JSON of older tools, `{group: {path: {"0": dice}}}`,
    is read, too.

    Raises:
        ValueError: If the file is missing, is of another kind, or holds no results.
    """
    readers = {".json": _parse_json, ".csv": _parse_csv, ".py": read_classic}
    if path.suffix.lower() not in readers:
        raise ValueError(f"results are in a .json, .csv or .py file, got {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} holds no results of an evaluation: it is no text") from error
    try:
        return readers[path.suffix.lower()](text)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} holds no results of an evaluation: {error}") from error


def to_json(
    cases: Sequence[CaseResult], *, protocol: Mapping[str, Any], summary: Mapping[str, Any]
) -> str:
    """Return the text of a JSON file, a line per case; infinite numbers are the text "inf".

    Raises:
        TypeError: If the protocol holds what JSON cannot.
    """
    lines = ",\n".join(_json(_case_entry(case)) for case in cases)
    head, tail = _json(protocol, indent=1), _json(summary, indent=1)
    return f'{{\n"protocol": {head},\n"cases": [\n{lines}\n],\n"summary": {tail}\n}}\n'


def to_csv(cases: Sequence[CaseResult]) -> str:
    """Return the text of a CSV file, a line per round; of an object's repeats the mean."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for case in mean_over_repeats(cases):
        name = (case.dataset, case.set_name, case.class_name, case.case)
        for entry in case.rounds:
            writer.writerow((*name, entry.clicks, entry.dice, entry.nsd, entry.hd95, entry.seconds))
    return lines.getvalue()


def mean_over_repeats(cases: Sequence[CaseResult]) -> list[CaseResult]:
    """Replace the repeats of every object by one case whose scores are their means.

    A mean with an infinite distance is infinite; a prediction counts as empty if all were.
    """
    repeats: dict[tuple[str, ...], list[CaseResult]] = {}
    for case in cases:
        repeats.setdefault((*case.object, case.label), []).append(case)
    return [same[0] if len(same) == 1 else _mean_case(same) for same in repeats.values()]


def plain_numbers(value: Any) -> Any:
    """Replace infinite numbers, which JSON does not know, by their names, and numpy's by Python's.

    Args:
        value: Anything made of mappings, sequences and plain values.
    """
    if isinstance(value, float):
        return str(value) if math.isinf(value) else float(value)
    if isinstance(value, Mapping):
        return {str(key): plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain_numbers(value.tolist())
    return str(value) if isinstance(value, Path) else value


def _mean_case(same: Sequence[CaseResult]) -> CaseResult:
    entries = sorted((entry for case in same for entry in case.rounds), key=lambda e: e.clicks)
    rounds = [_mean_round(list(group)) for _, group in groupby(entries, key=lambda e: e.clicks)]
    return replace(same[0], rounds=tuple(rounds), repeat=0)


def _mean_round(entries: Sequence[RoundResult]) -> RoundResult:
    means: dict[str, Any] = {}
    for name in _SCORES:
        values = [getattr(entry, name) for entry in entries if getattr(entry, name) is not None]
        means[name] = math.fsum(values) / len(values) if values else None
    is_empty = all(entry.prediction_empty for entry in entries)
    return replace(entries[0], prediction_empty=is_empty, **means)


def _case_entry(case: CaseResult) -> dict[str, Any]:
    entry = {CASE_KEYS.get(f.name, f.name): getattr(case, f.name) for f in fields(CaseResult)}
    return {**entry, "rounds": [vars(played) for played in case.rounds]}


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(plain_numbers(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _parse_json(text: str) -> Results:
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON, {error}") from error
    if not isinstance(content, dict):
        raise ValueError("it has no 'cases'")
    if "cases" not in content:
        return read_classic_json(content)
    protocol = content.get("protocol", {})
    if not isinstance(protocol, dict) or not isinstance(content["cases"], list):
        raise ValueError("'protocol' must be a mapping and 'cases' a list")
    for key in LISTS:
        entries = protocol.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError(f"{key!r} of the protocol must be a list of mappings")
    return Results(protocol, [parse_case(entry) for entry in content["cases"]])


def parse_case(entry: Any) -> CaseResult:
    """Turn the JSON of a case into a record; keys that a record does not have are left out.

    Raises:
        ValueError: If it is no mapping, or lacks a key or has an unfit value.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("rounds"), list):
        raise ValueError(f"a case must be a mapping with a list 'rounds', got {_short(entry)}")
    known = {CASE_KEYS.get(f.name, f.name): f for f in fields(CaseResult) if f.name != "rounds"}
    values: dict[str, Any] = {f.name: entry[key] for key, f in known.items() if key in entry}
    for key, field in known.items():
        value = values.get(field.name, field.default)
        if field.name == "volume_mm3":
            values[field.name] = _number(value)
        elif field.name == "repeat":
            values[field.name] = _integer(value)
        elif not isinstance(value, bool if field.name == "truth_empty" else str):
            raise ValueError(f"{key!r} of a case is missing or unfit: {_short(entry)}")
    return CaseResult(**values, rounds=tuple(_parse_round(item) for item in entry["rounds"]))


def _parse_round(entry: Any) -> RoundResult:
    if not isinstance(entry, Mapping) or "clicks" not in entry:
        raise ValueError(f"a round must be a mapping with 'clicks', got {_short(entry)}")
    values = {name: _number(entry[name]) for name in _SCORES if name in entry}
    dice = values.pop("dice", None)
    if dice is None or not 0 <= dice <= 1:
        raise ValueError(f"a round must have a Dice in 0..1, got {_short(dict(entry))}")
    return RoundResult(
        clicks=_integer(entry["clicks"]),
        dice=dice,
        prediction_empty=bool(entry.get("prediction_empty", False)),
        **values,
    )


def _parse_csv(text: str) -> Results:
    reader = csv.reader(io.StringIO(text, newline=""))
    if tuple(next(reader, ())) != CSV_COLUMNS:
        raise ValueError(f"its columns must be {','.join(CSV_COLUMNS)}")
    rounds: dict[tuple[str, ...], list[RoundResult]] = {}
    for row in reader:
        if len(row) != len(CSV_COLUMNS):
            raise ValueError(f"line {reader.line_num} has {len(row)} columns")
        try:
            entry = _parse_round(dict(zip(CSV_COLUMNS[4:], row[4:], strict=True)))
        except ValueError as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error
        known = rounds.setdefault(tuple(row[:4]), [])
        if any(entry.clicks == other.clicks for other in known):
            raise ValueError(f"line {reader.line_num} repeats {' '.join(row[:5])} clicks")
        known.append(entry)
    cases = [
        CaseResult(dataset, set_name, class_name, case, "", "", tuple(entries))
        for (dataset, set_name, class_name, case), entries in rounds.items()
    ]
    return Results({}, cases)


def _number(value: Any) -> float | None:
    """Read a number, "inf" or nothing."""
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"a score must be a number, got {value!r}")
    return number


def _integer(value: Any) -> int:
    number = _number(value)
    if number is None or not number.is_integer():
        raise ValueError(f"a number of clicks or repeats must be an integer, got {value!r}")
    return int(number)


def _short(entry: Any) -> str:
    text = repr(entry)
    return text if len(text) <= 80 else f"{text[:77]}..."
