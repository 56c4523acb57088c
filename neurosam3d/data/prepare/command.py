"""The two preparation commands; the scripts in `utils/` and `data.py` hand over to them."""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from neurosam3d.data.prepare.check import check_tree
from neurosam3d.data.prepare.generator import BaseDatasetJSONGenerator, list_dataset
from neurosam3d.data.prepare.layouts import list_raw_folder
from neurosam3d.data.prepare.listing import Listing, read_listing, write_listing
from neurosam3d.data.prepare.options import list_parser, parse_data_options
from neurosam3d.data.prepare.progress import ConsoleHandler
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
        return _report(lambda: _split(options))
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
    absent = [name for name, g in generators.items() if not (options.root / g.dir).is_dir()]
    names = options.names or [name for name in generators if name not in absent]
    if not names:
        folders = ", ".join(str(generators[name].dir) for name in absent)
        raise ValueError(f"no raw folder in {options.root}; looked for {folders}")
    all_listed = True
    for name in names:
        try:
            listing = list_dataset(generators[name], options.root)
            path = write_listing(Tree(options.out), listing, raw=Path(generators[name].dir))
            logger.info("%s -> %s", listing, path)
        except ValueError as error:
            logger.error(error)
            all_listed = False
    if absent and not options.names:
        logger.info("no raw folder in %s of %s", options.root, ", ".join(absent))
    return all_listed


def _prepare_raw(options: Namespace) -> bool:
    tree = Tree(options.out.absolute())
    listing = list_raw_folder(options.raw, name=options.name, channel=options.channel)
    write_listing(tree, listing, raw=options.raw)
    return _prepare(tree, listing, options)


def _prepare_listed(dataset_list: Sequence[str], options: Namespace) -> bool:
    tree = Tree(options.out.absolute())
    listings: list[Listing] = []
    all_prepared = True
    for name in options.datasets or _find_listed(tree, dataset_list):
        try:
            listing = read_listing(tree, name)
            listings.append(listing if options.root is None else listing.moved_to(options.root))
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
    report = prepare_set(tree, listing, options.data_type, workers=options.workers)
    return report.num_skipped == 0


def _split(options: Namespace) -> bool:
    patients = None if options.group is None else read_patients(options.group)
    num_kept, num_moved = split_training_set(
        Tree(options.out), options.name, options.split, seed=options.seed, patients=patients
    )
    logger.info("%s: patients in training %d, in validation %d", options.name, num_kept, num_moved)
    return True


def _check(options: Namespace) -> bool:
    names = () if options.name is None else (options.name,)
    report = check_tree(Tree(options.out), names=names, workers=options.workers)
    for problem in report.problems:
        logger.error(problem)
    logger.info(
        "%s: sets %d, labels %d, problems %d",
        options.out,
        report.num_sets,
        report.num_labels,
        len(report.problems),
    )
    return not report.problems
