"""Options of a verb from a flat YAML file: keys are the long names of its flags."""

import argparse
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from neurosam3d.documents import parse_yaml
from neurosam3d.shipped import config_folders


def find_config(name: str, *, verb: str) -> Path:
    """Return the file that a name means: a path, or one of the verb's files in the shipped configs.

    Raises:
        ValueError: If there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {p.name: p for folder in config_folders() for p in folder.glob(f"{verb}/*.yaml")}
    if name in shipped:
        return shipped[name]
    raise ValueError(
        f"--config must be a file or a shipped one ({', '.join(sorted(shipped))}), got '{name}'"
    )


def config_words(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """Return a YAML file as the command line that means the same.

    Flags that come after it win.

    Raises:
        ValueError: If the file is no YAML mapping, a key is unknown or a value cannot be a flag's.
    """
    return mapping_words(read_mapping(path), parser, place=str(path))


def mapping_words(
    values: Mapping[str, Any], parser: argparse.ArgumentParser, *, place: str
) -> list[str]:
    """Return values under the long names of flags as the command line that means the same.

    So a value is checked as a flag's would be. A key without a value (None) is not given.

    Args:
        values: The values.
        parser: It has the flags.
        place: Where the values are from, for errors.

    Raises:
        ValueError: If a key is unknown or a value cannot be a flag's.
    """
    flags = {
        action.dest: action
        for action in parser._actions
        if action.option_strings and action.dest not in ("help", "config")
    }
    words = []
    for key, value in values.items():
        if key not in flags:
            close = difflib.get_close_matches(str(key), flags, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(flags)}"
            raise ValueError(f"{place} has the unknown key {key!r}{hint}")
        words += _words(flags[key], value, place=f"{place}, {key}")
    return words


def _words(flag: argparse.Action, value: Any, *, place: str) -> list[str]:
    positive, *others = [name for name in flag.option_strings if name.startswith("--")]
    values = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict | list) for item in values):
        raise ValueError(f"{place} must be a value or a list of values, got {value!r}")
    if value is None:
        return []
    if isinstance(flag, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise ValueError(f"{place} must be true or false, got {value!r}")
        return [positive if value else others[0]]
    if isinstance(value, list):
        return [positive, *map(str, values)]
    return [f"{positive}={value}"]


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ValueError: If it cannot be read or holds something else.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} must be a YAML file, got: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a YAML mapping, got {type(content).__name__}")
    return content
