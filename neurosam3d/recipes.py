"""Find the YAML recipes of a run and put its command line in the order that the parser needs.

A recipe is a YAML file in the folder `configs/` (`neurosam3d.shipped`) or in its sub-folder
`baselines/`; the other sub-folders hold other things.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from neurosam3d.documents import parse_yaml
from neurosam3d.shipped import config_folders

VERBS = ("fit", "validate", "test", "predict")
DEFAULT_RECIPE = "all.yaml"
DEFAULT_TASK = "promptable"
PATTERNS = ("*.yaml", "baselines/*.yaml")


def list_recipes() -> dict[str, Path]:
    """Return the shipped recipes, name -> path; a checkout's own come before package data.

    A name is a path below the folder, such as `all.yaml` or `baselines/unetr.yaml`.
    """
    recipes: dict[str, Path] = {}
    for folder in config_folders():
        for path in sorted(path for pattern in PATTERNS for path in folder.glob(pattern)):
            recipes.setdefault(path.relative_to(folder).as_posix(), path)
    return recipes


def find_recipe(name: str) -> Path:
    """Return the file that `name` means: a path, or the bare name of a shipped recipe.

    Raises:
        ValueError: If there is no such file and no shipped recipe of that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    recipes = list_recipes()
    if name in recipes:
        return recipes[name]
    close = difflib.get_close_matches(path.name, recipes, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(
        f"--config must be a file or a shipped recipe ({', '.join(recipes)}), got '{name}'{hint}"
    )


def arrange(args: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Put every recipe right after the verb, so that the flags override all of them.

    Without any recipe `fit` gets the default one. A call for help stays a call for help.

    Args:
        args: The command line without the program's name.

    Returns:
        The arranged command line, and the recipes in the order given.

    Raises:
        ValueError: If the verb or a recipe is unknown, or `--config` stands without a name.
    """
    names, rest = _take_option(args, "--config", "-c")
    asks_for_help = "-h" in rest or "--help" in rest
    if not rest or rest[0] not in VERBS:
        if asks_for_help or not args:
            return ["--help"], []
        got = f"'{rest[0]}'" if rest else "none"
        raise ValueError(f"the command must begin with one of {', '.join(VERBS)}, got {got}")
    if not names and rest[0] == "fit" and not asks_for_help:
        names = [DEFAULT_RECIPE]
    recipes = [find_recipe(name) for name in names]
    return [rest[0], *(f"--config={path}" for path in recipes), *rest[1:]], recipes


def read_task(args: Sequence[str], recipes: Sequence[Path]) -> str:
    """Return the task of a run: the last `--task` flag, else the last recipe's `task` key.

    It must be known before there is a parser, because it decides which arguments exist.

    Raises:
        ValueError: If a recipe is not a YAML mapping, or `--task` stands without a name.
    """
    flags, _ = _take_option(args, "--task")
    keys = [str(recipe["task"]) for recipe in map(_read_mapping, recipes) if "task" in recipe]
    return [DEFAULT_TASK, *keys, *flags][-1]


def _take_option(args: Sequence[str], *flags: str) -> tuple[list[str], list[str]]:
    """Separate the values given to a flag (`--x V`, `--x=V`) from the other words, in order."""
    values, rest = [], []
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in flags:
            rest.append(word)
        elif equals:
            values.append(value)
        elif (following := next(words, None)) is not None:
            values.append(following)
        else:
            raise ValueError(f"{flag} must be followed by a value, got nothing")
    return values, rest


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} must be a YAML file, got: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a YAML mapping of data, model and trainer, "
            f"got {type(content).__name__}"
        )
    for block in ("data", "model", "trainer"):
        if not isinstance(content.get(block, {}), dict):
            raise ValueError(
                f"{path}, {block} must be a mapping of arguments, got {content[block]!r}"
            )
    return content
