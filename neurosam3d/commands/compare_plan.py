"""A plan: methods, checkpoints and data sets to be judged alike, read from a YAML file.

Keys are those of `neurosam3d evaluate` as far as it has them, and mean the same. One tolerance of
the surface Dice holds for all methods, by default that of 3DSAM-adapter's paper.
"""

import difflib
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosam3d.commands.evaluate_options import options_from
from neurosam3d.commands.flat_config import read_mapping
from neurosam3d.evaluation.adapter3d_protocol import TOLERANCE_MM
from neurosam3d.evaluation.challenge_evaluation import NAME as CVPR25
from neurosam3d.evaluation.session_files import safe_name

CLICKS = (1, 3, 5, 10)
# What all methods share: the data, and how answers are scored.
SHARED = (
    *("test_data_path", "labels", "data_type", "datasets", "channel", "threshold", "classes"),
    *("seed", "repeats", "tolerance_mm", "device"),
)
EITHER = ("protocol", "point_method", "max_windows", "overlap", "mirror")  # a method's own wins
OF_METHOD = (
    *("model_type", "crop_size", "spacing", "intensity"),
    *("base", "axis", "detail", "feeding", "smooth", "prompt", "box_margin"),
)
PLAN_KEYS = (*SHARED, *EITHER, "clicks", "pictures", "out", "methods")
METHOD_KEYS = ("name", "checkpoint", "results", "note", *OF_METHOD, *EITHER)


@dataclass(frozen=True)
class PlannedMethod:
    """A method of a plan.

    Args:
        name: What it is called.
        files: Data set -> its checkpoint or results; "" -> those of all other data sets.
        has_results: Whether the files are results that are there already.
        settings: Its own options of `neurosam3d evaluate`.
        note: What the table is to say of it.
    """

    name: str
    files: Mapping[str, Path]
    has_results: bool
    settings: Mapping[str, Any]
    note: str = ""

    def file_for(self, dataset: str) -> Path | None:
        """Return its checkpoint, or its results, for a data set; None if it has none."""
        return self.files.get(dataset, self.files.get(""))


@dataclass(frozen=True)
class Plan:
    """What is to be judged, and how.

    Args:
        path: The file.
        methods: The methods; the others are compared with the first.
        clicks: After how many clicks masks are compared.
        out: Folder of the results.
        pictures: How many objects of each data set are drawn.
        settings: The options of `neurosam3d evaluate` that all methods share.
    """

    path: Path
    methods: Sequence[PlannedMethod]
    clicks: Sequence[int]
    out: Path
    pictures: int
    settings: Mapping[str, Any]

    @property
    def options(self) -> Namespace:
        """The shared options, as `neurosam3d evaluate` takes them."""
        return options_from(self.settings, place=str(self.path))

    def options_for(self, method: PlannedMethod, dataset: str) -> Namespace:
        """Return the options with which `neurosam3d evaluate` judges a method on a data set.

        Raises:
            ValueError: If one is unfit.
        """
        values = {
            **self.settings,
            **method.settings,
            "checkpoint_path": method.file_for(dataset),
            "num_clicks": max(self.clicks),
            "num_prompts": list(self.clicks),
            "datasets": [dataset],
            "save_name": self.out / safe_name(method.name) / f"{safe_name(dataset)}.json",
        }
        return options_from(values, place=f"{self.path}, {method.name}")


def read_plan(path: Path) -> Plan:
    """Read a plan and check all of it that can be checked without its data.

    Raises:
        ValueError: If the file is no YAML mapping, a key is unknown, a value unfit, two methods
            share a name or a file of a method is not there.
    """
    content = {key: value for key, value in read_mapping(path).items() if value is not None}
    _refuse_unknown(content, PLAN_KEYS, place=str(path))
    entries = content.get("methods")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}, methods must be a list with at least one method")
    methods = [_read_method(entry, path) for entry in entries]
    _refuse_same(methods, path)
    settings = {key: content[key] for key in (*SHARED, *EITHER) if key in content}
    settings.setdefault("tolerance_mm", TOLERANCE_MM)  # else each protocol would have its own
    plan = Plan(
        path,
        methods,
        clicks=_read_clicks(content.get("clicks", list(CLICKS)), path),
        out=Path(_text(content.get("out", f"results/{path.stem}"), f"{path}, out")),
        pictures=_count(content.get("pictures", 1), f"{path}, pictures"),
        settings={**settings, **_protocol(settings, str(path))},
    )
    for method in plan.methods:
        for dataset in () if method.has_results else method.files:
            plan.options_for(method, dataset)  # tells an unfit option before anything is judged
    return plan


def _read_method(entry: Any, path: Path) -> PlannedMethod:
    """Read one entry of `methods`."""
    if not isinstance(entry, dict):
        raise ValueError(f"{path}, methods must hold mappings such as {{name: A}}, got {entry!r}")
    entry = {key: value for key, value in entry.items() if value is not None}
    if "name" not in entry:
        raise ValueError(f"{path}: a method needs a name, got {entry}")
    name = _text(entry["name"], f"{path}, name of a method")
    place = f"{path}, {name}"
    _refuse_unknown(entry, METHOD_KEYS, place=place)
    if ("checkpoint" in entry) == ("results" in entry):
        raise ValueError(f"{place}: a method has either a checkpoint or results")
    kind = "results" if "results" in entry else "checkpoint"
    settings = {key: entry[key] for key in (*OF_METHOD, *EITHER) if key in entry}
    if kind == "results" and settings:
        raise ValueError(f"{place}: results are there already, so {', '.join(settings)} has no use")
    return PlannedMethod(
        name,
        _read_files(entry[kind], f"{place}, {kind}"),
        has_results=kind == "results",
        settings={**settings, **_protocol(settings, place)},
        note=_text(entry.get("note", ""), f"{place}, note"),
    )


def _read_files(value: Any, place: str) -> dict[str, Path]:
    """Read one file, or one per data set."""
    files = value if isinstance(value, dict) else {"": value}
    if not files:
        raise ValueError(f"{place} must name a file, or one per data set, got {value!r}")
    paths = {str(name): Path(_text(file, f"{place} of {name}")) for name, file in files.items()}
    for file in paths.values():
        if not file.is_file():
            raise ValueError(f"{place} must be a file that is there, got {file}")
    return paths


def _read_clicks(value: Any, path: Path) -> tuple[int, ...]:
    place = f"{path}, clicks"
    counts = [_count(item, place) for item in (value if isinstance(value, list) else [value])]
    if not counts or min(counts) < 1:
        raise ValueError(f"{place} must be numbers from 1 on, got {value}")
    return tuple(sorted(set(counts)))


def _protocol(settings: Mapping[str, Any], place: str) -> dict[str, str]:
    """Return the protocol among settings: a method is judged by one."""
    if "protocol" not in settings:
        return {}
    name = _text(settings["protocol"], f"{place}, protocol")
    if name == CVPR25:
        raise ValueError(f"{place}: {CVPR25} has data of its own and no place in a plan")
    return {"protocol": name}


def _refuse_unknown(content: Collection[Any], known: Sequence[str], *, place: str) -> None:
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"{place} has the unknown key {key!r}; {hint}")


def _refuse_same(methods: Sequence[PlannedMethod], path: Path) -> None:
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: methods need different names, got {name} twice")


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(f"{place} must be a text, got {value!r}")
    return str(value)


def _count(value: Any, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{place} must be a whole number from 0 on, got {value!r}")
    return value
