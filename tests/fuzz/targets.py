"""What reads files of others: for each kind its sound files, how they are damaged, who reads them.

Readers are called as the commands call them, and go on with what they read as far as no network
has to run.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from neurosam3d.checks import check_same_network
from neurosam3d.cli import NeuroSamCLI, run
from neurosam3d.commands import compare, inspect, summary
from neurosam3d.commands.compare_plan import read_plan
from neurosam3d.commands.evaluate_options import parse_options
from neurosam3d.commands.network import load_network
from neurosam3d.data.index import read_index
from neurosam3d.data.prepare.labels import read_label_table
from neurosam3d.data.prepare.layouts.declared import read_layout
from neurosam3d.data.prepare.layouts.known import list_raw_folder
from neurosam3d.data.prepare.layouts.layout import RawFolder
from neurosam3d.data.prepare.listing import read_listing
from neurosam3d.data.prepare.split import read_patients
from neurosam3d.data.store.chunks import read_chunks
from neurosam3d.data.tree import Tree
from neurosam3d.evaluation.case_files import read_classes
from neurosam3d.evaluation.groups import read_groups
from neurosam3d.evaluation.journal import Journal
from neurosam3d.evaluation.session_files import SessionFiles
from neurosam3d.inference.cvpr25 import segment_cvpr25
from neurosam3d.inference.object_prompts import place_prompts
from neurosam3d.inference.prompt_file import read_prompts
from neurosam3d.models import build_model
from neurosam3d.npz_cases import read_npz_case
from neurosam3d.volume import Grid, read_grid, read_volume
from tests.evaluation.made_up import PROTOCOL
from tests.fuzz import archives, corpus, mutations
from tests.fuzz.mutations import Mutation
from tests.inference.oracle import Oracle, oracle_predictor

GRID = Grid(corpus.SHAPE, corpus.AFFINE)


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Args:
        name: What the counts call it.
        write: Writes sound files into a folder.
        read: Reads one, and raises what it cannot read.
        mutations: Ways to damage one, each as likely as the others.
        share: How many of a thousand inputs are of this kind.
        refusals: Errors of libraries that the command which reads it tells as a mistake.
    """

    name: str
    write: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    mutations: Sequence[Mutation]
    share: int
    refusals: tuple[type[Exception], ...] = ()


def _read_volume(path: Path) -> None:
    grid = read_grid(path)
    volume = read_volume(path)
    assert volume.grid.same_as(grid)
    assert not volume.data.is_floating_point() or bool(volume.data.isfinite().all())


def _read_prompts(path: Path) -> None:
    for objects in read_prompts(path).values():
        for one in objects:
            place_prompts(one.prompts, GRID)


def _read_recipe(path: Path) -> None:
    nothing = lambda self, *_: None  # noqa: E731
    with patch.multiple(
        NeuroSamCLI,
        instantiate_classes=nothing,
        after_instantiate_classes=nothing,
        _run_subcommand=nothing,
    ):
        run(["fit", f"--config={path}"])


def _read_network_config(path: Path) -> None:
    with torch.device("meta"):
        build_model("dinov2", model_cfg=str(path))


def _read_results(path: Path) -> None:
    summary.main(["summary", str(path)])
    compare.main(["compare", str(path), str(path), "--names", "a", "b"])


def _read_session(path: Path) -> None:
    start = path.with_name("a")
    steps = SessionFiles(path.parent, PROTOCOL).read(start, clicks=(1, 2), grid=GRID)
    list(steps or ())


def _read_store(path: Path) -> None:
    arrays, _ = read_chunks(path)
    for array in arrays.values():
        array[tuple(slice(0, side) for side in array.shape)]


def _read_raw(path: Path) -> None:
    read_classes(path)
    list_raw_folder(RawFolder(path.parent, "Toy"))


def _read_checkpoint(path: Path) -> None:
    inspect.main(["inspect", str(path), "--json"])
    with contextlib.suppress(ValueError):  # what `--ckpt_path` names must be of `fit`
        check_same_network(path, corpus.hyper_parameters())
    load_network(path, device="cpu")


def _read_case(path: Path) -> None:
    segment_cvpr25(oracle_predictor(Oracle(), roi_size=8), read_npz_case(path))


_BYTES = (mutations.damage_bytes,)
_JSON = (mutations.damage_json, mutations.damage_json, mutations.damage_text, *_BYTES)
_YAML = (mutations.damage_yaml, mutations.damage_yaml, mutations.damage_text, *_BYTES)
_TABLE = (mutations.damage_lines, mutations.damage_text, *_BYTES)
_VOLUME = (mutations.damage_start, mutations.damage_unpacked, *_BYTES)
_HEADER = (mutations.damage_nifti_header, mutations.damage_nifti_header)

TARGETS = (
    Target("NIfTI", corpus.nifti_files, _read_volume, (*_HEADER, *_VOLUME), 250),
    Target("NRRD, MetaImage, MGH", corpus.other_volumes, _read_volume, _VOLUME, 100),
    Target("index", corpus.index_files, lambda p: list(read_index(p)), _JSON, 100),
    Target(
        "dataset.json of step 1",
        corpus.listing_files,
        lambda p: read_listing(Tree(p.parent.parent), "Toy"),
        _JSON,
        30,
    ),
    Target("dataset.json, raw", corpus.raw_folders, _read_raw, _JSON, 30),
    Target(
        "label table",
        corpus.label_tables,
        read_label_table,
        (mutations.damage_text, mutations.damage_bytes),
        15,
    ),
    Target("table of patients", corpus.patient_tables, read_patients, _TABLE, 15),
    Target("layout", corpus.layout_files, read_layout, _YAML, 25),
    Target(
        "prompts",
        corpus.prompt_files,
        _read_prompts,
        (mutations.damage_text, mutations.damage_lines, *_BYTES),
        60,
    ),
    Target("prompts, JSON", lambda f: corpus.prompt_files(f)[:2], _read_prompts, _JSON, 60),
    Target("recipe", corpus.recipe_files, _read_recipe, _YAML, 30, (MisconfigurationException,)),
    Target("model_cfg", corpus.network_configs, _read_network_config, _YAML, 20),
    Target(
        "options of evaluate",
        corpus.evaluation_configs,
        lambda p: parse_options(["--config", str(p)]),
        _YAML,
        25,
    ),
    Target("plan", corpus.plan_files, read_plan, _YAML, 20),
    Target("groups", corpus.group_files, read_groups, _YAML, 15),
    Target(
        "checkpoint",
        corpus.checkpoint_files,
        _read_checkpoint,
        (archives.damage_checkpoint, mutations.damage_start, *_BYTES),
        80,
    ),
    Target(
        "challenge case",
        corpus.npz_files,
        _read_case,
        (archives.damage_npz, archives.damage_npz, *_BYTES),
        60,
    ),
    Target("results", corpus.result_files, _read_results, _TABLE, 15),
    Target(
        "results, JSON",
        lambda f: [corpus.result_files(f)[0], f / "older.json"],
        _read_results,
        _JSON,
        15,
    ),
    Target("journal", corpus.journal_files, lambda p: Journal.start(p, PROTOCOL), _JSON, 15),
    Target("clicks of a session", corpus.session_files, _read_session, _JSON, 10),
    Target("store", corpus.store_files, _read_store, (mutations.damage_start, *_BYTES), 10),
)


def silently(read: Callable[[Path], object], path: Path) -> None:
    """Read a file; what commands print is of no matter."""
    with contextlib.redirect_stdout(io.StringIO()):
        read(path)
