"""What is checked and settled before a run begins: its sets, its checkpoint, its W&B account."""

import difflib
import logging
import netrc
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurosam3d.checkpoint_io import read_content
from neurosam3d.data.tree import Tree

logger = logging.getLogger(__name__)

# What a network and its checkpoint must agree on, and how both were fed.
NETWORK = (
    "model_type",
    "img_size",
    "mask_stride",
    "box_prompts",
    "published_quirks",
    "crop_size",
    "rank",
    "classes",
    "prompt_free",
    "labelled_clicks",
    "intensity",
    "spacing",
    "axis",
    "feeding",
    "detail",
)


def check_set_names(names: Iterable[str], possible: Iterable[str], *, data_dir: Path) -> None:
    """Refuse a set that is neither listed as possible nor prepared on this machine.

    Args:
        names: Set names of a run, `<NAME>_<SET>`.
        possible: The names that a recipe may hold whether they are prepared or not.
        data_dir: Root of the prepared tree.

    Raises:
        ValueError: If a name is neither, with the closest known names, the sets found, and the
            command that prepares one.
    """
    prepared = Tree(data_dir).list_sets()
    known = sorted({*possible, *prepared})
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known) or ["none"]
            raise ValueError(
                f"a set must be in POSSIBLE_DATASETS of utils/data_list.py or prepared under "
                f"{data_dir}, got '{name}'; close names: {', '.join(close)}; "
                f"found there: {', '.join(prepared) or 'none'}; prepare one with: "
                f"python data.py -dt Tr --raw DIR --name NAME --out {data_dir}"
            )


def check_same_network(path: Path, hyper_parameters: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another network, or of one that was fed in another way.

    Args:
        path: A checkpoint that `fit` wrote.
        hyper_parameters: The arguments of the LightningModule that is to take its weights.

    Raises:
        ValueError: If there is no such file, it is no checkpoint of `fit`, or it does not fit.
    """
    if not path.is_file():
        raise ValueError(f"--ckpt_path must be a file or 'last', got '{path}'")
    try:
        saved = dict(read_content(path)["hyper_parameters"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--ckpt_path must be a checkpoint that fit wrote, other weights belong to "
            f"model.checkpoint; got '{path}'"
        ) from error
    for name in NETWORK:
        if name in saved and saved[name] != hyper_parameters.get(name):
            raise ValueError(
                f"a run must match its checkpoint {path}, made with {name} {saved[name]}, "
                f"got {hyper_parameters.get(name)}"
            )


def go_offline_without_account() -> None:
    """Let Weights & Biases write to disk only when no account is configured, and say so.

    A choice made by WANDB_MODE stands. Accounts are looked for where `wandb login` puts them: the
    environment, then the netrc file.
    """
    if "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ:
        return
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0]
    try:
        account = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        account = None
    if account is None:
        os.environ["WANDB_MODE"] = "offline"
        logger.warning("no Weights & Biases account found: this run is logged offline to disk")
