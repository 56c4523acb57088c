"""Faults that once ended in a traceback, each in one sound file: now a sentence tells them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fuzz.fuzzer import read_once
from tests.fuzz.targets import TARGETS

_TARGETS = {target.name: target for target in TARGETS}

Change = Callable[[bytes], bytes]


def put(new: str, *, over: str) -> Change:
    """Write a text over the first place of another."""

    def change(content: bytes) -> bytes:
        assert over.encode() in content
        return content.replace(over.encode(), new.encode(), 1)

    return change


def put_value(key: str, value: object) -> Change:
    """Write another value into the checkpoint of a run."""

    def change(content: bytes) -> bytes:
        saved = torch.load(io.BytesIO(content), weights_only=True)
        holder, _, name = key.rpartition("/")
        (saved[holder] if holder else saved)[name] = value
        file = io.BytesIO()
        torch.save(saved, file)
        return file.getvalue()

    return change


def put_array(name: str, array: np.ndarray) -> Change:
    """Write another array into a case."""

    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content), allow_pickle=True) as archive:
            entries = {**archive, name: array}
        file = io.BytesIO()
        np.savez(file, **entries)
        return file.getvalue()

    return change


DEEP, LONG, WIDE = "[" * 100_000, "9" * 400, "x" * 140_000
LISTING = ("dataset.json of step 1", "dataset.json")
JOURNAL, SESSION = ("journal", "run.jsonl"), ("clicks of a session", "a_clicks.json")
CHECKPOINT, CASE = ("checkpoint", "last.ckpt"), ("challenge case", "plain.npz")
RAGGED = np.array([{"fg": [[1, [2], 3]], "bg": []}], dtype=object)
NO_LABELS = put('"labels": {}', over='"labels": [\n    1\n   ]')
# What is damaged, how, and what the sentence says; None where the rest of the file is enough.
CASES: list[tuple[tuple[str, str], Change, str | None]] = [
    # What a damaged line of a journal has lost is judged again.
    (JOURNAL, put('"left": [', over='"left_out": ['), None),
    (JOURNAL, put('"dice": "x"', over='"dice": 0'), None),
    (JOURNAL, put('"case": [', over='"case": {'), None),
    (JOURNAL, lambda content: content[:40] + b"\xc0" + content[40:], "of an unfinished evaluation"),
    (SESSION, put("{", over="["), "must be the clicks of a session"),
    (SESSION, NO_LABELS, "must be the clicks of a session"),
    (LISTING, put("5", over='[\n  "CT"\n ]'), "modality must be"),
    (LISTING, put('"image": [],"x": "', over='"image": "'), "must be texts"),
    (LISTING, put('"training": 3,"x": [', over='"training": ['), "must be a list of items"),
    (LISTING, put('"root": [1],"x": "', over='"root": "'), "root must be a text"),
    (
        ("dataset.json, raw", "msd/dataset.json"),
        put('"/"', over='"./imagesTr/a.nii.gz"'),
        "unfit entry",
    ),
    (
        ("dataset.json, raw", "nnunet/dataset.json"),
        put('"liver": Infinity', over='"liver": 1'),
        "must hold",
    ),
    (("prompts, JSON", "one.json"), put(DEEP, over='"liver"'), "Nested too deeply"),
    (("prompts, JSON", "one.json"), put(LONG, over="2.5"), "at most 300 digits"),
    (("prompts", "rows.csv"), put(WIDE, over="liver"), "field larger than field limit"),
    (("results", "run.csv"), put(WIDE, over="liver"), "field larger than field limit"),
    (("label table", "c.tsv"), put(WIDE, over="liver"), "field larger than field limit"),
    (("index", "Toy_Tr.json"), put(DEEP, over='"X"'), "Nested too deeply"),
    (("groups", "groups.yaml"), put("[" * 5000, over="[brain]"), "nests too deeply"),
    (
        ("recipe", "toy.yaml"),
        put("trainer: 5\nrest:", over="trainer:"),
        "trainer must be a mapping",
    ),
    (("recipe", "toy.yaml"), put(str(10**29), over="11"), "seed_everything must be a seed"),
    (CHECKPOINT, put_value("hyper_parameters/model_type", [1]), None),
    (CHECKPOINT, put_value("hyper_parameters/num_classes", -3), None),
    (CHECKPOINT, put_value("hyper_parameters", 5), "how segresnet was fed"),
    (CHECKPOINT, put_value("state_dict/model.convInit.conv.weight", torch.ones(3)), "other shapes"),
    (CASE, put_array("spacing", np.array(1.0)), "three positive lengths"),
    (CASE, put_array("boxes", np.array(3)), "boxes must be a list"),
    (CASE, put_array("clicks", RAGGED), "clicks must be a list"),
]


@pytest.mark.parametrize(
    ("place", "change", "sentence"),
    [pytest.param(*case, id=f"{case[0][0]}-{number}") for number, case in enumerate(CASES)],
)
@pytest.mark.usefixtures("small_segresnet")
def test_a_fault_is_told(
    place: tuple[str, str], change: Change, sentence: str | None, tmp_path: Path
) -> None:
    target = _TARGETS[place[0]]
    target.write(tmp_path)
    (path,) = [path for path in tmp_path.rglob("*") if str(path).endswith(place[1])]
    path.write_bytes(change(path.read_bytes()))
    kind, told, _ = read_once(target, path)
    assert kind == ("accepted" if sentence is None else "refused"), told
    assert (sentence or "") in told
