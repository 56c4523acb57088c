"""Verify a prepared tree: its files, what its indexes say of them, and that no set knows another.

Nothing is written.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neurosam3d.data.case import Case
from neurosam3d.data.index import read_index
from neurosam3d.data.prepare.check_files import check_files, plan_jobs
from neurosam3d.data.prepare.duplicates import find_duplicates, name_places
from neurosam3d.data.prepare.listing import read_listing
from neurosam3d.data.prepare.problems import Kind, Problem
from neurosam3d.data.prepare.progress import run_jobs
from neurosam3d.data.prepare.record import CaseRecord, read_prepared
from neurosam3d.data.tree import SETS, Tree, read_json, split_set_name
from neurosam3d.files import find_partial, is_being_written

Sets = Mapping[str, Sequence[Case]]  # set, as `<NAME>_<SET>`, -> its cases


@dataclass(frozen=True)
class CheckReport:
    """What was looked at and what is wrong with it.

    Args:
        num_sets: Indexes read.
        num_labels: Labels read.
        problems: What is wrong, notes among it.
    """

    num_sets: int
    num_labels: int
    problems: tuple[Problem, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there are notes at most."""
        return all(problem.is_note for problem in self.problems)


def check_tree(tree: Tree, *, names: Sequence[str] = (), workers: int = 1) -> CheckReport:
    """Read every image and label that the indexes of a tree name.

    Args:
        tree: The prepared tree.
        names: Datasets to check; none for all.
        workers: Number of processes.

    Raises:
        ValueError: If there is no index to check.
    """
    tree = Tree(tree.root.absolute())
    set_names = [s for s in tree.list_sets() if not names or split_set_name(s)[0] in names]
    if not set_names:
        wanted = f" of {', '.join(names)}" if names else ""
        raise ValueError(f"no index{wanted} to check in {tree.root}")
    datasets = sorted(
        {split_set_name(s)[0] for s in set_names} | {*(names or tree.list_datasets())}
    )
    sets, problems = _read_sets(tree, set_names)
    problems += _check_json(tree, datasets)
    for set_name, cases in sets.items():
        problems += _check_entries(tree, set_name, cases)
    problems += _check_reports(tree, datasets, sets)
    problems += _check_separation(sets)
    problems += _check_duplicates(tree, sets)
    problems += _check_folders(tree, datasets, sets)
    problems += _check_images(sets, workers)
    return CheckReport(len(sets), sum(map(len, sets.values())), tuple(problems))


def _read_sets(tree: Tree, set_names: Iterable[str]) -> tuple[Sets, list[Problem]]:
    sets: dict[str, Sequence[Case]] = {}
    problems = []
    for set_name in set_names:
        try:
            sets[set_name] = read_index(tree.index(*split_set_name(set_name)))
        except ValueError as error:
            problems.append(Problem(Kind.BAD_JSON, str(error)))
    return sets, problems


def _check_json(tree: Tree, datasets: Iterable[str]) -> Iterator[Problem]:
    """The lists of raw files and the reports can be read, where there are any."""
    for name in datasets:
        reports = (tree.report(name, set_name) for set_name in SETS)
        readers: list[tuple[Path, Callable[[], object]]] = [
            (tree.dataset_json(name), partial(read_listing, tree, name)),
            *((path, partial(read_json, path)) for path in reports),
        ]
        for path, read in readers:
            try:
                if path.exists():
                    read()
            except ValueError as error:
                yield Problem(Kind.BAD_JSON, str(error))


def _check_entries(tree: Tree, set_name: str, cases: Sequence[Case]) -> Iterator[Problem]:
    """An index has entries, names no label twice, and each file lies where the tree has it."""
    if not cases:
        yield Problem(Kind.EMPTY_INDEX, f"{set_name} has no entries")
    name, suffix = split_set_name(set_name)
    # A split moves training entries to held-out sets and leaves their files where they are.
    folders = dict.fromkeys((suffix, "Tr"))
    seen: set[Path] = set()
    for case in cases:
        if case.label in seen:
            sentence = f"{set_name} names {case.label} twice"
            yield Problem(Kind.WRONG_ENTRY, sentence, case.case_id)
        seen.add(case.label)
        places = [
            (tree.image(name, s, case.case_id), tree.label(name, s, case.class_name, case.case_id))
            for s in folders
        ]
        # Other programs that write such indexes have their own places for files.
        if "label_sha256" in case.extra and (case.image, case.label) not in places:
            sentence = f"{set_name}: {case.label} is not the place of class {case.class_name}"
            yield Problem(Kind.WRONG_ENTRY, f"{sentence} of {case.image}", case.case_id)


def _check_reports(tree: Tree, datasets: Iterable[str], sets: Sets) -> Iterator[Problem]:
    """Every label that a report tells of has an entry, in whichever set, with its digests."""
    for name in datasets:
        own = [s for s in SETS if tree.index(name, s).exists()]
        if any(f"{name}_{s}" not in sets for s in own):
            continue  # what an index that cannot be read holds is not known
        entries = {case.label: case for s in own for case in sets[f"{name}_{s}"]}
        for set_name in SETS:
            records = [r for r in read_prepared(tree.report(name, set_name)) if r.labels]
            if records and set_name not in own:
                path = tree.index(name, set_name)
                sentence = f"{path} is not there, but cases were prepared: {len(records)}"
                yield Problem(Kind.MISSING, sentence)
            else:
                for record in records:
                    yield from _check_record(tree, f"{name}_{set_name}", record, entries)


def _check_record(
    tree: Tree, title: str, record: CaseRecord, entries: Mapping[Path, Case]
) -> Iterator[Problem]:
    image_digests = {"image_sha256": record.image_sha256, "content": record.content}
    for class_name, label in record.labels.items():
        path = tree.label(*split_set_name(title), class_name, record.case)
        digests = {**image_digests, "label_sha256": label.sha256}
        if path not in entries:
            sentence = f"{path} was prepared for {title} and is in no index"
            yield Problem(Kind.LOST_ENTRY, sentence, record.case)
        elif wrong := [k for k, v in digests.items() if entries[path].extra.get(k) != v]:
            sentence = f"the entry of {path} lacks what the report says: {', '.join(wrong)}"
            yield Problem(Kind.WRONG_ENTRY, sentence, record.case)


def _check_separation(sets: Sets) -> Iterator[Problem]:
    """No patient and no image is in two sets of one dataset."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for set_name, cases in sets.items():
        name = split_set_name(set_name)[0]
        for case in cases:
            whom = f"patient {case.patient!r}" if case.patient else f"image {case.image}"
            found[name, whom].add(set_name)
    for (_, whom), names in found.items():
        if len(names) > 1:
            yield Problem(Kind.DIVIDED, f"{whom} is in {' and '.join(sorted(names))}")


def _check_duplicates(tree: Tree, sets: Sets) -> Iterator[Problem]:
    """No picture is trained on and evaluated with, under whatever names, in any dataset."""
    others, _ = _read_sets(tree, set(tree.list_sets()) - sets.keys())
    for group in find_duplicates({**sets, **others}):
        if any(place.set_name in sets for place in group):
            is_leak = len({place.is_training for place in group}) > 1
            sentence = f"one picture is {name_places(group)}"
            yield Problem(Kind.LEAK if is_leak else Kind.DUPLICATE, sentence, group[0].case)


def _check_folders(tree: Tree, datasets: Sequence[str], sets: Sets) -> Iterator[Problem]:
    """No run has left anything unfinished, and indexes name every file."""
    unfinished = find_partial(tree.root, below=False)
    named = {path for cases in sets.values() for case in cases for path in (case.image, case.label)}
    unnamed: dict[Path, list[Path]] = defaultdict(list)
    for name in datasets:
        unfinished += find_partial(tree.dataset(name))
        unfinished += [p for s in SETS if (p := tree.journal(name, s)).exists()]
        for pattern in ("images*/*", "labels*/*/*"):
            for path in sorted(tree.dataset(name).glob(pattern)):
                if path not in named and path.is_file() and not path.name.startswith("."):
                    unnamed[path.parent].append(path)
    for path in unfinished:
        if not is_being_written(path):
            yield Problem(Kind.UNFINISHED, f"{path} is left by a run that did not end")
    for folder, paths in unnamed.items():
        sentence = f"{folder} holds files of no index: {len(paths)}, the first {paths[0].name}"
        yield Problem(Kind.NOT_NAMED, sentence)


def _check_images(sets: Sets, workers: int) -> Iterator[Problem]:
    jobs = plan_jobs(case for cases in sets.values() for case in cases)
    results = dict(run_jobs(check_files, jobs, workers=workers, title="check"))
    for position in range(len(jobs)):
        yield from results[position]
