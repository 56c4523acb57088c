"""Who may import whom: the rooms of the package, kept by reading every import with `ast`."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "neurosam3d"
# Heavy and optional: only inside functions.
LAZY = {
    "matplotlib",
    "wandb",
    "tensorboard",
    "pydicom",
    "highdicom",
    "dynamic_network_architectures",
}


@dataclass(frozen=True)
class Room:
    """What the modules of a room may import besides each other and the standard library."""

    rooms: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


ARRAYS = ("torch", "numpy", "scipy", "edt", "cc3d")
METRICS = tuple(  # what scores masks knows arrays and nothing else
    f"evaluation.{module}"
    for module in (
        *("metrics", "conventions", "foreground_box"),
        *("surface", "surface_area", "nearest"),
    )
)

# A module belongs to the room with the longest name that begins its own.
ROOMS = {
    "version": Room(),
    "files": Room(),
    "claims": Room(),
    "memory": Room(),
    "documents": Room(packages=("yaml",)),
    "volume_io": Room(("files", "memory"), ("numpy", "nibabel", "SimpleITK")),
    "separable": Room(packages=("torch", "numpy")),
    "volume": Room(("separable", "volume_io"), ("torch", "numpy", "nibabel", "SimpleITK")),
    "intensity": Room(packages=("torch", "numpy")),
    "axes": Room(packages=("torch",)),
    "slices": Room(packages=("torch",)),
    "slice_feeding": Room(("models.sam2d_masks",), ("torch",)),
    "slice_zoom": Room(packages=("torch", "numpy", "scipy")),
    "shipped": Room(),
    "network_config": Room(("documents", "shipped"), ("hydra", "omegaconf", "yaml")),
    "models": Room(("models.baselines", "network_config"), ("torch",)),
    "models.baselines": Room(
        ("models.layers", "models.windows"), ("torch", "monai", "dynamic_network_architectures")
    ),
    "checkpoint_io": Room(("documents",), packages=("torch", "numpy", "safetensors")),
    "checkpoint_adapter3d": Room(("checkpoint_io", "models"), ("torch",)),
    "checkpoint_sam2d": Room(("checkpoint_io",), ("torch",)),
    "checkpoint_formats": Room(
        ("checkpoint_adapter3d", "checkpoint_io", "checkpoint_sam2d", "models"), ("torch",)
    ),
    "recognise": Room(("documents", "checkpoint_io", "checkpoint_formats", "models")),
    "checkpoint_lora": Room(("checkpoint_formats", "models"), ("torch",)),
    "checkpoint_writing": Room(
        ("checkpoint_adapter3d", "checkpoint_sam2d", "files", "recognise"),
        ("torch", "safetensors"),
    ),
    "checkpoints": Room(
        ("checkpoint_formats", "checkpoint_lora", "recognise", "models"), ("torch",)
    ),
    "prompts": Room(packages=ARRAYS),
    "sliding_window": Room(packages=("torch", "monai")),
    "data": Room(
        (
            "data.prepare.dicom",
            "claims",
            "documents",
            "files",
            "volume",
            "volume_io.errors",
            "intensity",
            "axes",
            "slices",
            "slice_zoom",
            "slice_feeding",
            "prompts.components",
        ),
        ("torch", "numpy", "torchio", "nibabel", "rich", "yaml", "blosc2", "matplotlib"),
    ),
    "data.prepare.dicom": Room(
        ("data", "files", "volume", "volume_io.errors"),
        ("torch", "numpy", "pydicom", "highdicom", "matplotlib"),
    ),
    **{
        f"data.{module}": Room(("data", "volume", "intensity", "slices"), ("torch", "lightning"))
        for module in (
            *("datamodule", "patch_datamodule", "prepared_datamodule", "slice_datamodule"),
        )
    },
    "npz_cases": Room(("memory",), ("numpy",)),
    "inference": Room(
        (
            *("files", "volume", "volume_io", "intensity", "models", "checkpoints", "prompts"),
            *(
                "documents",
                "axes",
                "slices",
                "slice_feeding",
                "slice_zoom",
                "sliding_window",
                "version",
            ),
        ),
        (*ARRAYS, "SimpleITK", "rich", "yaml", "pydicom", "highdicom"),
    ),
    **{module: Room(METRICS, ARRAYS) for module in METRICS},
    "evaluation": Room(
        (
            *("claims", "documents", "files", "npz_cases", *METRICS),
            *("prompts", "slices", "volume", "volume_io"),
        ),
        (*ARRAYS, "matplotlib", "rich", "yaml"),
    ),
    "training.losses": Room(packages=(*ARRAYS, "monai")),
    "training.prompt_losses": Room(packages=(*ARRAYS, "monai")),
    "training": Room(
        (
            "training.losses",
            "training.prompt_losses",
            "files",
            "models",
            "checkpoints",
            "mistakes",
            "prompts",
            "sliding_window",
            "intensity",
            "evaluation",
            "slices",
            "volume",
        ),
        ("torch", "numpy", "lightning", "rich", "matplotlib"),
    ),
    "recipes": Room(("documents", "shipped"), ("yaml",)),
    "mistakes": Room(packages=("omegaconf",)),
    "commands": Room(
        (
            "documents",
            "checkpoint_io",
            "checkpoint_formats",
            "recognise",
            "checkpoint_lora",
            "checkpoint_sam2d",
            "checkpoint_writing",
            "checkpoints",
            "models",
            "mistakes",
            "files",
            "volume",
            "volume_io",
            "intensity",
            "npz_cases",
            "prompts",
            "sliding_window",
            "slices",
            "slice_feeding",
            "data",
            "inference",
            "evaluation",
            "shipped",
            "version",
        ),
        ("torch", "numpy", "rich", "yaml"),
    ),
    "checks": Room(("checkpoint_io", "data")),
    "cli": Room(
        (
            *("claims", "files", "data", "training", "recipes", "mistakes", "checks"),
            *("inference", "commands"),
        ),
        ("torch", "lightning", "jsonargparse"),
    ),
    "__main__": Room(("mistakes",)),
    "__init__": Room(("version", "volume", "models", "checkpoints", "inference")),
}


def list_modules() -> dict[str, Path]:
    """Return every module below the package: dotted name without the package's -> file."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        modules[".".join(parts)] = path
    return modules


MODULES = list_modules()


def room_of(module: str) -> str | None:
    """Return the room of a module, given without the package's name."""
    found = [room for room in ROOMS if f"{module}.".startswith(f"{room}.")]
    return max(found, key=len, default=None)


def imports_of(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what is imported, as a dotted name, and the statement that does it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.removeprefix("neurosam3d.") in MODULES
                yield name if is_module else str(node.module), node


def deferred_statements(tree: ast.Module) -> set[ast.stmt]:
    """Return the imports that do not run with the module: in functions, or for type checkers."""
    deferred: set[ast.stmt] = set()
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if is_function or for_types:
            deferred.update(n for n in ast.walk(node) if isinstance(n, ast.stmt))
    return deferred


def find_violations(module: str, source: str) -> list[str]:
    """Say what a module's source does against the rules of its room."""
    name = room_of(module)
    assert name is not None
    room, tree, problems = ROOMS[name], ast.parse(source), []
    deferred = deferred_statements(tree)
    for target, statement in imports_of(tree):
        package, _, inner = target.partition(".")
        if package == "neurosam3d":
            own = room_of(inner) == name
            allowed = any(f"{inner}.".startswith(f"{other}.") for other in room.rooms)
            if not own and not allowed:
                problems.append(f"imports {target}")
        elif package not in room.packages and package not in sys.stdlib_module_names:
            problems.append(f"imports {target}")
        if package in LAZY and statement not in deferred:
            problems.append(f"imports {package} when it is loaded")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            problems.append("imports relatively")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            problems.append("prints")
    return problems


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_to_its_room(module: str) -> None:
    assert find_violations(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_every_module_has_a_room_and_every_room_a_module() -> None:
    assert [module for module in MODULES if room_of(module) is None] == []
    assert {room_of(module) for module in MODULES} == set(ROOMS)


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("models.vit3d", "import numpy", "imports numpy"),
        ("models.vit3d", "def f():\n    import monai", "imports monai"),
        (
            "models.baselines.nnunet",
            "import dynamic_network_architectures",
            "imports dynamic_network_architectures when it is loaded",
        ),
        (
            "models.baselines.nnformer",
            "from neurosam3d.models.sam3d import Sam3D",
            "imports neurosam3d.models.sam3d",
        ),
        ("models.vit3d", "def f():\n    import lightning", "imports lightning"),
        ("models.vit3d", "from neurosam3d.volume import Volume", "imports neurosam3d.volume"),
        ("models.vit3d", "from neurosam3d import volume", "imports neurosam3d.volume"),
        ("data.dataset", "import lightning.pytorch", "imports lightning.pytorch"),
        ("data.dataset", "import neurosam3d.data.datamodule", "imports neurosam3d.data.datamodule"),
        (
            "data.index",
            "from neurosam3d.prompts.clicks import x",
            "imports neurosam3d.prompts.clicks",
        ),
        ("training.optim", "import neurosam3d.data.index", "imports neurosam3d.data.index"),
        ("cli", "from utils.data_list import POSSIBLE_DATASETS", "imports utils.data_list"),
        ("evaluation.plots", "import matplotlib", "imports matplotlib when it is loaded"),
        ("volume", "from . import intensity", "imports relatively"),
        ("volume", "def f():\n    print(1)", "prints"),
    ],
)
def test_a_breach_is_found(module: str, source: str, problem: str) -> None:
    assert find_violations(module, source) == [problem]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data.index", "from neurosam3d.prompts.components import largest_component"),
        ("data.datamodule", "import lightning.pytorch, neurosam3d.data.index"),
        ("evaluation.plots", "def f():\n    import matplotlib"),
        ("volume", "import os, torch\nfrom neurosam3d.volume_io import read"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert find_violations(module, source) == []
