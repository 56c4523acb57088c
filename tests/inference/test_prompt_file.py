"""Files of prompts: what they say, and what is wrong with them, by line."""

import json
from pathlib import Path
from typing import Any

import pytest

from neurosam3d.inference.named_object import NamedObject
from neurosam3d.inference.object_prompts import ObjectPrompts
from neurosam3d.inference.prompt_file import read_prompts


def _csv(folder: Path, *lines: str) -> Path:
    path = folder / "prompts.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _json(folder: Path, content: Any) -> Path:
    path = folder / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_json_of_one_scan(tmp_path: Path) -> None:
    liver = {"name": "liver", "points": [[40, 52, 31], [44, 20.5, 31]], "labels": [1, 0]}
    cyst = {"name": "cyst", "box": [[30, 41, 20], [38, 49, 25]], "result": {"value": 2}}
    rough = {"mask": "rough.nii.gz", "points": [[-1.5, 2, 3]], "world": True}
    path = _json(tmp_path, {"comment": "by hand", "objects": [liver, cyst, rough]})
    assert read_prompts(path) == {
        "": [
            NamedObject("liver", ObjectPrompts([[40, 52, 31], [44, 20.5, 31]], [1, 0])),
            NamedObject("cyst", ObjectPrompts(box=[[30, 41, 20], [38, 49, 25]])),
            NamedObject(
                "object",
                ObjectPrompts([[-1.5, 2, 3]], mask=tmp_path / "rough.nii.gz", world=True),
            ),
        ]
    }


def test_json_of_many_scans(tmp_path: Path) -> None:
    objects = [{"name": "liver", "points": [[1, 2, 3]]}]
    path = _json(tmp_path, {"world": True, "images": {"a.nii.gz": objects, "b/c": objects}})
    liver = NamedObject("liver", ObjectPrompts([[1, 2, 3]], world=True))
    assert read_prompts(path) == {"a.nii.gz": [liver], "b/c": [liver]}


def test_csv_collects_the_rows_of_an_object(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "image,object,i,j,k,label,i1,j1,k1,mask",
        "a.nii.gz,liver,40,52,31,1,,,,",
        "a.nii.gz,cyst,30,41,20,,38,49,25,",
        "",
        "a.nii.gz,liver,44,20,31.5,0,,,,",
        "b.nii.gz,liver,,,,,,,,rough/b.nii.gz",
        "b.nii.gz,,1,2,3,,,,,",
    )
    assert read_prompts(path) == {
        "a.nii.gz": [
            NamedObject("liver", ObjectPrompts([[40, 52, 31], [44, 20, 31.5]], [1, 0])),
            NamedObject("cyst", ObjectPrompts(box=[[30, 41, 20], [38, 49, 25]])),
        ],
        "b.nii.gz": [
            NamedObject("liver", ObjectPrompts(mask=tmp_path / "rough/b.nii.gz")),
            NamedObject("object", ObjectPrompts([[1, 2, 3]], [1])),
        ],
    }


def test_csv_in_millimetres_of_one_scan_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "prompts.CSV"
    path.write_text("\ufeffX;Y;Z;Label\r\n-1.5;2;3;\r\n", encoding="utf-8")
    prompts = ObjectPrompts([[-1.5, 2, 3]], [1], world=True)
    assert read_prompts(path) == {"": [NamedObject("object", prompts)]}
    tabs = tmp_path / "prompts.tsv"
    tabs.write_text("object\ti\tj\tk\nliver, left\t1\t2\t3\n", encoding="utf-8")
    prompts = ObjectPrompts([[1, 2, 3]], [1])
    assert read_prompts(tabs) == {"": [NamedObject("liver, left", prompts)]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,x,1,2,3,2,,,,", "line 3: label must be 1 or 0, got '2'"),
        ("a,x,1,two,3,,,,,", "line 3: j must be a number, got 'two'"),
        ("a,x,1,,3,,,,,", "line 3: j must be a number, got ''"),
        ("a,x,,,,,,,,", "line 3: a row needs i, j, k, or a mask"),
        ("a,x,,,,1,,,,", "line 3: a row needs i, j, k"),
        ("a,x,1,1,1,1,2,2,2,", "line 3: a box has i, j, k and no label"),
        ("a,x,,,,,2,2,2,", "line 3: a box has i, j, k and no label"),
        ("a,x,1,1,1,,2,2,2,,9", "line 3: it has 11 cells for 10 columns"),
        ("a,x,1,1,1,,2,2,2,\na,x,1,1,1,,2,2,2,", "line 4: the object has a box already"),
        ("a,x,,,,,,,,m.nii\na,x,,,,,,,,m.nii", "line 4: the object has a mask already"),
    ],
)
def test_bad_rows_are_told_with_their_lines(tmp_path: Path, row: str, message: str) -> None:
    path = _csv(tmp_path, "image,object,i,j,k,label,i1,j1,k1,mask", "a,y,1,2,3,1,,,,", row)
    with pytest.raises(ValueError, match=rf"prompts.csv {message}"):
        read_prompts(path)


def test_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    path = _csv(tmp_path, "i,j,k,label", "1,1,1,1", *(["1,1,1,5"] * 8))
    with pytest.raises(ValueError, match=r"line 3: .*; line 7: [^;]*; and 3 more lines$"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("i,j,k,lable", "line 1: 'lable' is no known column; known: image, object, label"),
        ("i,j,z", "line 1: 'i' is no known column; known: .* x, y, z, x1"),
        ("object,label", "line 1: the columns must be i, j, k or x, y, z, or mask"),
        ("i,j,k,k", "line 1: the column 'k' is there twice"),
        ("i,j,k", "must hold at least one object, got none"),
    ],
)
def test_bad_headers_are_told(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompts(_csv(tmp_path, header))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"objects": [\n{"name": "x",}]}', "line 2 is no JSON"),
        ([], 'either "objects" or "images"'),
        ({"objects": [], "images": {}}, 'either "objects" or "images"'),
        ({"images": []}, '"images" must map names of scans'),
        ({"images": {"a": {}}}, "a: objects must be a list, got {}"),
        ({"objects": []}, "at least one object, got none"),
        ({"objects": [3]}, r"objects\[0\] must be a JSON object, got 3"),
        ({"objects": [{"point": [1, 2, 3]}]}, r"objects\[0\] has the unknown key 'point'; known:"),
        ({"objects": [{"name": "x"}]}, r"objects\[0\] must have points, a box or a mask"),
        ({"objects": [{"points": [1, 2, 3]}]}, r"\.points must be triples of numbers"),
        ({"objects": [{"points": [[1, 2, "3"]]}]}, r"\.points must be triples of numbers"),
        ({"objects": [{"points": [[1, 2, 3]], "labels": [2]}]}, r"\.labels must be 1 or 0"),
        ({"objects": [{"points": [[1, 2, 3]], "labels": []}]}, r"\.labels must be 1 or 0"),
        ({"objects": [{"box": [1, 2, 3, 4, 5, 6]}]}, r"\.box must be \[\[min0"),
        ({"objects": [{"mask": 3}]}, r"\.mask must be the path of a file, got 3"),
        ({"objects": [{"mask": "m", "name": 3}]}, r"\.name must be a text, got 3"),
        ({"objects": [{"mask": "m", "name": " "}]}, "every object needs a name"),
        ({"objects": [{"mask": "m"}, {"mask": "n"}]}, "names of their own, got 'object' twice"),
        ({"world": 1, "objects": []}, "world must be true or false, got 1"),
    ],
)
def test_bad_json_is_told_with_its_place(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompts(_json(tmp_path, content))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in .json, .csv, .tsv, got .*prompts.txt"):
        read_prompts(tmp_path / "prompts.txt")
    (tmp_path / "prompts.csv").write_bytes(b"i,j,k,object\n1,2,3,\xff\n")
    with pytest.raises(ValueError, match="must be UTF-8 text"):
        read_prompts(tmp_path / "prompts.csv")
