"""Results of parts of an evaluation put together."""

from dataclasses import replace

import pytest

from neurosam3d.evaluation.results import Results, RoundResult, differing, merge_results
from tests.evaluation.made_up import PROTOCOL, case

LIVER, SPLEEN = (case("s1", name, RoundResult(1, 0.5)) for name in ("liver", "spleen"))
LEFT_OUT = {"case": "s9", "reason": "it is empty"}


def part(index: int, *cases: object, number: int = 2, **more: object) -> Results:
    return Results({**PROTOCOL, "split_num": number, "split_idx": index, **more}, cases)  # type: ignore[arg-type]


def test_parts_become_one_evaluation() -> None:
    merged = merge_results([part(1, SPLEEN, left_out=[LEFT_OUT]), part(0, LIVER, left_out=[])])
    assert merged.protocol == {**PROTOCOL, "left_out": [LEFT_OUT]}
    assert merged.cases == [LIVER, SPLEEN]  # by name, as an undivided run has them


def test_missing_parts_are_told() -> None:
    merged = merge_results([part(3, SPLEEN, number=4), part(0, LIVER, number=4)])
    assert merged.protocol["missing_parts"] == [1, 2]


def test_one_part_stays_as_it_is() -> None:
    single = part(0, SPLEEN, LIVER)
    assert merge_results([single]) is single


def test_weights_may_lie_elsewhere_on_another_machine_if_they_are_the_same() -> None:
    same = [part(i, c, checkpoint=f"/disk{i}/a.ckpt") for i, c in enumerate((LIVER, SPLEEN))]
    with pytest.raises(ValueError, match=r"got checkpoint: /disk0/a\.ckpt and /disk1/a\.ckpt"):
        merge_results(same)
    known = [Results({**p.protocol, "checkpoint_sha256": "ab"}, p.cases) for p in same]
    assert merge_results(known).protocol["checkpoint"] == "/disk0/a.ckpt"


def test_mixed_protocols_are_refused() -> None:
    with pytest.raises(ValueError, match="have one protocol, got seed: 7 and 8"):
        merge_results([part(0, LIVER), part(1, SPLEEN, seed=8)])


@pytest.mark.parametrize("label", [LIVER.label, ""])
def test_an_object_counts_once(label: str) -> None:
    again = replace(LIVER, label=label)
    with pytest.raises(ValueError, match="in the results once, got AMOS Ts liver s1 twice"):
        merge_results([Results({}, [LIVER]), Results({}, [again])])
    with pytest.raises(ValueError, match="once, got AMOS Ts liver s1 twice"):
        merge_results([Results({}, [again, again])])


def test_repeats_and_objects_of_one_name_are_no_duplicates() -> None:
    others = [replace(LIVER, repeat=1), replace(LIVER, label="elsewhere/s1.nii.gz")]
    assert len(merge_results([Results({}, [LIVER]), Results({}, others)]).cases) == 3


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(ValueError, match="there must be results to merge, got none"):
        merge_results([])


def test_what_differs_between_protocols() -> None:
    assert differing({"a": 1, "b": 2}, {"b": 3, "c": None}) == {"a": (1, None), "b": (2, 3)}
