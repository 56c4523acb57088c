"""Read what users write in YAML, with one sentence for each mistake."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from neurosam3d.documents import parse_yaml


def read_mapping(path: Path, *, known: Sequence[str] | None = None) -> dict[str, Any]:
    """Read a YAML file that holds keys and values.

    Args:
        path: The file.
        known: The keys it may have; None for any.

    Raises:
        ValueError: If the file is missing, is no YAML, or has a key that is not known.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold keys and values, got {content!r}")
    unknown = [key for key in content if known is not None and key not in known]
    if unknown:
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(known or ())}")
    return {str(key): value for key, value in content.items()}
