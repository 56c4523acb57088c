"""Published divisions of public data sets, so that results can be held against a paper's.

`published_splits.json`, beside this module, names the cases as the data sets do. `adapter3d/...`
are the five folds of 3DSAM-adapter (arXiv:2306.13465) of KiTS 2021, MSD pancreas, LiTS 2017 and MSD
colon; the paper's figures are those of fold 0. `samed/synapse` is the one division of Synapse/BTCV
by SAMed (arXiv:2304.13785) and many others, without cases for validation. Case ids are facts;
nothing else of them is here.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from importlib import resources

from neurosam3d.data.prepare.division import HELD_OUT, divide, take_back
from neurosam3d.data.tree import Tree

Fold = Mapping[str, Collection[str]]  # set -> names of its cases


@cache
def published_splits() -> Mapping[str, list[Fold]]:
    """Return the folds of every published split by its name."""
    file = resources.files("neurosam3d.data.prepare") / "published_splits.json"
    return json.loads(file.read_text(encoding="utf-8"))


def apply_published_split(
    tree: Tree, name: str, split: str, *, fold: int = 0, keep_going: bool = False
) -> Mapping[str, int]:
    """Divide `<NAME>_Tr` into `<NAME>_Tr`, `<NAME>_Val` and `<NAME>_Ts` as was published.

    What an earlier split has moved is taken back first.

    Args:
        tree: The prepared tree.
        name: The dataset.
        split: One of `published_splits`.
        fold: Number of the fold.
        keep_going: Whether cases may be missing, or be there without a place in the split. Those
            stay in training. By default both are refused: figures for other cases, or of a network
            that has seen more, are not comparable with the published ones.

    Returns:
        Number of images in each set, for Tr, Val, Ts.

    Raises:
        ValueError: If there is no such split or fold, the training set is not prepared, nothing
            would be left of it, or the cases are not those of the split.
    """
    parts = _find_fold(split, fold)
    set_of = {case_id: set_name for set_name, case_ids in parts.items() for case_id in case_ids}
    cases = take_back(tree, name)
    found = {case.case_id for case in cases}
    if not keep_going:
        _refuse_others(name, split, found=found, wanted=set_of.keys())
    images = {case.image: set_of.get(case.case_id, "Tr") for case in cases}
    places = {image: set_name for image, set_name in images.items() if set_name != "Tr"}
    counts = Counter(images.values())
    if not counts["Tr"]:
        raise ValueError(f"a split leaves cases in training, {split} would leave none of {name}")
    divide(tree, name, cases, places, HELD_OUT)
    return {set_name: counts[set_name] for set_name in ("Tr", *HELD_OUT)}


def _find_fold(split: str, fold: int) -> Fold:
    splits = published_splits()
    if split not in splits:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(splits)}")
    if not 0 <= fold < len(splits[split]):
        raise ValueError(f"{split} has the folds 0 to {len(splits[split]) - 1}, got {fold}")
    return splits[split][fold]


def _refuse_others(
    name: str, split: str, *, found: Collection[str], wanted: Collection[str]
) -> None:
    """Refuse cases that are not those of a split."""
    problems = [
        f"{len(cases)} {what}, for example {min(cases)}"
        for what, cases in (
            (f"are not in {split}", set(found) - set(wanted)),
            ("are not prepared", set(wanted) - set(found)),
        )
        if cases
    ]
    if problems:
        raise ValueError(
            f"{name} must have the {len(wanted)} cases of {split}: {'; '.join(problems)}; with "
            "--keep-going those that it does not name stay in training"
        )
