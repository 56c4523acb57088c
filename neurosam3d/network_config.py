"""Read the YAML that describes an image encoder.

Hydra composes it, so it may be made of parts; it is laid over the defaults of self-supervised
training in 3-D, so it needs only what differs from them.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from neurosam3d.documents import parse_yaml
from neurosam3d.shipped import config_folders

logger = logging.getLogger(__name__)

DEFAULTS = "train/ssl3d_default_config"
BLOCKS = ("student", "crops")  # the rest of such a file is about self-supervised training

Settings = dict[str, dict[str, Any]]


def read_network_config(source: str | os.PathLike[str] | Mapping[str, Any]) -> Settings:
    """Return an encoder's settings, those not given taken from the defaults.

    Args:
        source: Name of a YAML file, as `find_network_config` understands it, or the content of one.

    Returns:
        The blocks `student` (the architecture) and `crops` (the size it was trained at).

    Raises:
        ValueError: If there is no such file, it cannot be composed, or it holds neither block.
    """
    if isinstance(source, Mapping):
        return _lay_over_defaults(source, origin="model_cfg")
    path = find_network_config(source)
    logger.info("network configuration: %s", path)
    return _lay_over_defaults(_compose(path), origin=str(path))


def find_network_config(name: str | os.PathLike[str]) -> Path:
    """Return the YAML file that a name means, with or without its ending.

    It is looked for from the working directory, then from the package's configs, then by its last
    part anywhere in these.

    Raises:
        ValueError: If it is in none of these places; the message lists them.
    """
    return _find(os.fspath(name), from_folders=[Path.cwd(), *config_folders()])


def _find(name: str, *, from_folders: Sequence[Path]) -> Path:
    file = Path(name if name.endswith(".yaml") else f"{name}.yaml")
    places = [folder / file for folder in from_folders]
    shipped = [path for folder in config_folders() for path in sorted(folder.rglob("*.yaml"))]
    for path in [*places, *(path for path in shipped if path.name == file.name)]:
        if path.is_file():
            return path.resolve()
    looked = [str(path.resolve()) for path in places]
    looked += [f"{file.name} anywhere in {folder}" for folder in config_folders()]
    raise ValueError(
        f"model_cfg must name a YAML file, got '{name}'; "
        f"looked for {', '.join(dict.fromkeys(looked))}"
    )


def _compose(path: Path) -> DictConfig:
    with _complaints_about(str(path)), _own_hydra(path.parent):
        parse_yaml(path.read_text(encoding="utf-8"))  # Hydra's own reading has no bounds
        return compose(path.name)


def _lay_over_defaults(given: Mapping[str, Any], *, origin: str) -> Settings:
    if not any(block in given for block in BLOCKS):
        found = ", ".join(map(str, given)) or "nothing"
        raise ValueError(f"{origin} must hold a block {' or '.join(BLOCKS)}, got {found}")
    defaults = _compose(_find(DEFAULTS, from_folders=config_folders()))
    OmegaConf.set_struct(defaults, False)  # what a block may hold, the network itself knows
    with _complaints_about(origin):
        merged = OmegaConf.merge(defaults, given)
        blocks = {name: OmegaConf.select(merged, name) for name in BLOCKS}
        for name, block in blocks.items():
            if not isinstance(block, DictConfig):
                raise ValueError(f"{name} must be a block of fields, got {block!r}")
        return {name: dict(block) for name, block in blocks.items()}


@contextmanager
def _own_hydra(folder: Path) -> Iterator[None]:
    """Let Hydra read from a folder, also inside a program that Hydra itself has started."""
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(folder), version_base=None):
            yield
    finally:
        GlobalHydra.instance().hydra = outer  # by now another instance


@contextmanager
def _complaints_about(origin: str) -> Iterator[None]:
    """Turn what YAML, OmegaConf and Hydra complain about into one sentence that names the file."""
    try:
        yield
    except (HydraException, yaml.YAMLError, OSError, ValueError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())  # Hydra's search path comes below
        raise ValueError(f"{origin} must describe a network, but: {reason}") from error
