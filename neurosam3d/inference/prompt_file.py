"""Files that say what to segment: named objects with points, box or mask, of one scan or many.

JSON, for one scan, or by the names of scans:

    {"objects": [{"name": "liver", "points": [[40, 52, 31], [44, 20, 31]], "labels": [1, 0]},
                 {"name": "cyst", "box": [[30, 41, 20], [38, 49, 25]]}]}

    {"world": true, "images": {"case1.nii.gz": [{"name": "liver", "points": [[-12.5, 40, 7]]}],
                               "case2.nii.gz": [{"name": "liver", "mask": "rough/case2.nii.gz"}]}}

CSV, a row for each point, box or mask; the columns `image` and `object` may be left out:

    image,object,i,j,k,label,i1,j1,k1,mask
    case1.nii.gz,liver,40,52,31,1,,,,
    case1.nii.gz,liver,44,20,31,0,,,,
    case1.nii.gz,cyst,30,41,20,,38,49,25,
    case2.nii.gz,liver,,,,,,,,rough/case2.nii.gz

i, j, k are voxel indices in the file's axis order; with the columns x, y, z (and x1, y1, z1), or
`"world": true`, they are RAS+ millimetres. A box has its lowest corner first, both are included. A
label is 1 inside the object and 0 outside, 1 by default. Masks lie relative to the prompts' file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neurosam3d.documents import parse_json
from neurosam3d.inference.named_object import UNNAMED, NamedObject, PromptTable, check_names
from neurosam3d.inference.object_prompts import ObjectPrompts
from neurosam3d.inference.prompt_csv import read_rows

SUFFIXES = (".json", ".csv", ".tsv")

_KEYS = ("name", "points", "labels", "box", "mask", "world", "result")


def read_prompts(path: Path) -> PromptTable:
    """Read a file of prompts.

    Raises:
        ValueError: If it is of no known kind or cannot be read, or if something in it is no prompt;
            the message tells the line, or the place in the JSON.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a file of prompts ends in {', '.join(SUFFIXES)}, got {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"a file of prompts must be UTF-8 text, got {path}") from error
    table = _read_json(path, text) if suffix == ".json" else read_rows(path, text)
    for image, objects in table.items():
        check_names([one.name for one in objects], f"{path}: {image}" if image else str(path))
    if not any(table.values()):
        raise ValueError(f"{path} must hold at least one object, got none")
    return table


def _read_json(path: Path, text: str) -> PromptTable:
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno} is no JSON: {error.msg}") from error
    if not isinstance(content, dict) or ("objects" in content) == ("images" in content):
        raise ValueError(f'{path} must be a JSON object with either "objects" or "images"')
    lists = {"": content["objects"]} if "objects" in content else content["images"]
    if not isinstance(lists, dict):
        raise ValueError(f'{path}: "images" must map names of scans to lists of objects')
    world = _flag(content.get("world", False), f"{path}: world")
    table = {}
    for image, entries in lists.items():
        where = f"{path}: {image}: objects" if image else f"{path}: objects"
        if not isinstance(entries, list):
            raise ValueError(f"{where} must be a list, got {json.dumps(entries)[:60]}")
        table[image] = [
            _object_of(entry, world, f"{where}[{number}]", folder=path.parent)
            for number, entry in enumerate(entries)
        ]
    return table


def _object_of(entry: Any, world: bool, where: str, *, folder: Path) -> NamedObject:
    """Turn one entry of a list of objects into an object."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be a JSON object, got {json.dumps(entry)[:60]}")
    if unknown := [key for key in entry if key not in _KEYS]:
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    given = {key: entry.get(key) for key in ("points", "labels", "box", "mask")}
    if all(given[key] is None for key in ("points", "box", "mask")):
        raise ValueError(f"{where} must have points, a box or a mask, got none")
    points, labels, box, mask = given.values()
    if points is not None and not (_is_list(points, of=_is_triple) and points):
        raise ValueError(f"{where}.points must be triples of numbers, got {json.dumps(points)}")
    if labels is not None and not (
        _is_list(labels, of=lambda label: label in (0, 1)) and len(labels) == len(points or ())
    ):
        raise ValueError(f"{where}.labels must be 1 or 0 for each point, got {json.dumps(labels)}")
    if box is not None and not (_is_list(box, of=_is_triple) and len(box) == 2):
        raise ValueError(
            f"{where}.box must be [[min0, min1, min2], [max0, max1, max2]], got {json.dumps(box)}"
        )
    if mask is not None and not isinstance(mask, str):
        raise ValueError(f"{where}.mask must be the path of a file, got {json.dumps(mask)}")
    name = entry.get("name", UNNAMED)
    if not isinstance(name, str):
        raise ValueError(f"{where}.name must be a text, got {json.dumps(name)}")
    world = _flag(entry.get("world", world), f"{where}.world")
    file = None if mask is None else folder / mask
    return NamedObject(name, ObjectPrompts(points, labels, box, file, world))


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false, got {json.dumps(value)}")
    return value


def _is_list(value: Any, *, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(of, value))


def _is_triple(value: Any) -> bool:
    return _is_list(value, of=_is_number) and len(value) == 3


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
