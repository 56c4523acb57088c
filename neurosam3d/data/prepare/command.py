"""The two preparation commands; the scripts in `utils/` and `data.py` hand over to them."""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from neurosam3d.data.prepare.check import check_tree
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator, list_dataset
from neurosam3d.data.prepare.labels import read_label_table
from neurosam3d.data.prepare.layouts.declared import list_declared, read_layout
from neurosam3d.data.prepare.layouts.known import list_raw_folder
from neurosam3d.data.prepare.layouts.layout import RawFolder
from neurosam3d.data.prepare.listing import Listing, read_listing, write_listing
from neurosam3d.data.prepare.options import list_parser, parse_data_options
from neurosam3d.data.prepare.progress import ConsoleHandler, console
from neurosam3d.data.prepare.published_split import apply_published_split
from neurosam3d.data.prepare.report import show_problems
from neurosam3d.data.prepare.roots import Roots, default_roots, read_roots
from neurosam3d.data.prepare.run import prepare_set
from neurosam3d.data.prepare.split import read_patients, split_training_set
from neurosam3d.data.tree import Tree

logger = logging.getLogger(__name__)


def list_command(
    find_generators: Callable[[], Mapping[str, BaseDatasetJSONGenerator]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run step 1, `python utils/prepare_json_data.py`, and return its exit code.

    Args:
        find_generators: Returns the generators of the dataset classes by dataset.
        arguments: The command's arguments; by default those it was called with.
    """
    options = list_parser().parse_args(arguments)
    return _report(lambda: _list_datasets(find_generators(), options))


def data_command(dataset_list: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Run step 2, `python data.py`, and return its exit code.

    Args:
        dataset_list: The datasets to prepare when none is named.
        arguments: The command's arguments; by default those it was called with.
    """
    options = parse_data_options(arguments)
    if options.check:
        return _report(lambda: _check(options))
    if options.split is not None:
        split = _split_as_published if isinstance(options.split, str) else _split
        return _report(lambda: split(options))
    if options.raw is not None:
        return _report(lambda: _prepare_raw(options))
    return _report(lambda: _prepare_listed(dataset_list, options))


def _report(action: Callable[[], bool]) -> int:
    """Run an action; its messages, and users' mistakes, go to standard error."""
    package_logger = logging.getLogger("neurosam3d")
    handler, level = ConsoleHandler(), package_logger.level
    package_logger.addHandler(handler)
    package_logger.setLevel(logging.INFO)
    try:
        return 0 if action() else 1
    except ValueError as error:
        logger.error(error)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        logger.error("%s%s", error.strerror or error, where)
    except KeyboardInterrupt:
        logger.error("stopped; run the command again to go on")
        return 130
    finally:
        package_logger.removeHandler(handler)
        package_logger.setLevel(level)
    return 1


def _list_datasets(generators: Mapping[str, BaseDatasetJSONGenerator], options: Namespace) -> bool:
    unknown = [name for name in options.names if name not in generators]
    if unknown:
        raise ValueError(f"unknown dataset {unknown[0]!r}; known: {', '.join(generators)}")
    roots = read_roots(options.root) or default_roots()
    folders = {name: roots.find(name, g.dir) for name, g in generators.items()}
    present = [name for name, folder in folders.items() if folder and folder.is_dir()]
    names = options.names or present
    if not names:
        looked_for = ", ".join(str(generator.dir) for generator in generators.values())
        raise ValueError(f"no raw folder in {roots}; looked for {looked_for}")
    all_listed = True
    for name in names:
        try:
            _list(generators[name], folders[name], roots, Tree(options.out))
        except ValueError as error:
            logger.error(error)
            all_listed = False
    if not options.names and len(present) < len(generators):
        absent = ", ".join(name for name in generators if name not in present)
        logger.info("no raw folder in %s of %s", roots, absent)
    return all_listed


def _list(
    generator: BaseDatasetJSONGenerator, folder: Path | None, roots: Roots, tree: Tree
) -> None:
    if folder is None:
        raise ValueError(f"{generator.name}: no raw folder is named by {roots.origin}")
    if not folder.is_dir():
        raise ValueError(roots.say_missing(generator.name, folder))
    if generator.name in roots.folders:
        generator.dir = folder.absolute()
    listing = list_dataset(generator, roots.root or folder.parent)
    _log_problems(listing)
    path = write_listing(tree, listing, raw=folder)
    logger.info("%s -> %s", listing, path)


def _log_problems(listing: Listing) -> None:
    for sentence in listing.sum_up_problems():
        logger.warning(sentence)


def _prepare_raw(options: Namespace) -> bool:
    tree = Tree(options.out.absolute())
    record = None
    if options.layout is not None:
        record = read_layout(options.layout, name=options.name, raw=options.raw)
    raw = RawFolder(
        path=options.raw,
        name=options.name if record is None else record.name,
        channel=options.channel,
        labels=None if options.labels is None else read_label_table(options.labels),
        threshold=options.threshold,
    )
    listing = list_raw_folder(raw) if record is None else list_declared(raw, record)
    _log_problems(listing)
    write_listing(tree, listing, raw=options.raw)
    return _prepare(tree, listing, options)


def _prepare_listed(dataset_list: Sequence[str], options: Namespace) -> bool:
    tree = Tree(options.out.absolute())
    listings: list[Listing] = []
    all_prepared = True
    for name in options.datasets or _find_listed(tree, dataset_list):
        try:
            listings.append(_found(read_listing(tree, name), options.root))
        except ValueError as error:
            if not options.keep_going:
                raise
            logger.error(error)
            all_prepared = False
    if not options.datasets:
        listings = _having_set(listings, options.data_type)
    for position, listing in enumerate(listings, start=1):
        try:
            complete = _prepare(tree, listing, options)
        except ValueError as error:
            logger.error(error)
            complete = False
        all_prepared &= complete
        if not complete and not options.keep_going:
            left = ", ".join(other.name for other in listings[position:])
            if left:
                logger.error("stopped before %s; --keep-going goes on", left)
            break
    return all_prepared


def _found(listing: Listing, option: Path | None) -> Listing:
    """The listing with its raw folder where it lies now; by default where step 1 found it."""
    if option is None and (listing.raw is None or listing.raw.is_dir()):
        return listing
    roots = read_roots(option)
    if roots is None or (folder := roots.find(listing.name, listing.raw_folder)) is None:
        return listing
    if not folder.is_dir():
        raise ValueError(roots.say_missing(listing.name, folder))
    return listing.moved_to(folder)


def _find_listed(tree: Tree, dataset_list: Sequence[str]) -> list[str]:
    """Those of the datasets that step 1 has listed."""
    listed = [name for name in dataset_list if tree.dataset_json(name).is_file()]
    unlisted = [name for name in dataset_list if name not in listed]
    if not listed:
        raise ValueError(
            f"no dataset.json in {tree.root} of {', '.join(unlisted)}; write them first with: "
            f"python utils/prepare_json_data.py --root DIR --out {tree.root}"
        )
    if unlisted:
        logger.info("not listed by step 1: %s", ", ".join(unlisted))
    return listed


def _having_set(listings: Sequence[Listing], set_name: str) -> list[Listing]:
    having = [listing for listing in listings if listing.items.get(set_name)]
    if not having:
        names = ", ".join(listing.name for listing in listings)
        raise ValueError(f"none of {names} has raw files for {set_name}")
    return having


def _prepare(tree: Tree, listing: Listing, options: Namespace) -> bool:
    if options.group is not None:
        patients = read_patients(options.group)
        try:
            listing = listing.with_patients(options.data_type, patients)
        except ValueError as error:
            raise ValueError(f"{options.group}: {error}") from error
    report = prepare_set(tree, listing, options.data_type, workers=options.workers)
    return report.is_complete


def _split_as_published(options: Namespace) -> bool:
    counts = apply_published_split(
        Tree(options.out),
        options.name,
        options.split,
        fold=options.fold or 0,
        keep_going=options.keep_going,
    )
    told = ", ".join(f"{options.name}_{set_name} {n}" for set_name, n in counts.items())
    logger.info("%s, fold %d: images in %s", options.split, options.fold or 0, told)
    return True


def _split(options: Namespace) -> bool:
    patients = None if options.group is None else read_patients(options.group)
    num_kept, num_moved = split_training_set(
        Tree(options.out),
        options.name,
        options.split,
        seed=options.seed,
        patients=patients,
        origin=str(options.group),
    )
    logger.info("%s: patients in training %d, in validation %d", options.name, num_kept, num_moved)
    return True


def _check(options: Namespace) -> bool:
    names = () if options.name is None else (options.name,)
    report = check_tree(Tree(options.out), names=names, workers=options.workers)
    for problem in report.problems:
        logger.log(logging.INFO if problem.is_note else logging.ERROR, problem)
    show_problems(console, str(options.out), report.problems)
    num_notes = sum(problem.is_note for problem in report.problems)
    logger.info(
        "%s: sets %d, labels %d, problems %d, notes %d",
        options.out,
        report.num_sets,
        report.num_labels,
        len(report.problems) - num_notes,
        num_notes,
    )
    return report.is_clean
