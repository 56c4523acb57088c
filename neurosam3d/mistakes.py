"""Tell a user's mistake, which deserves one sentence, from a bug, which deserves its traceback."""

import argparse
import traceback
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

PACKAGE_FOLDER = Path(__file__).resolve().parent


def describe_mistake(error: Exception) -> str | None:
    """Return one sentence if `error` tells of a user's mistake, nothing if it is a bug.

    Mistakes are what the parser, OmegaConf and the Trainer refuse, what the operating system says
    of a file or folder, and the ValueErrors that this package itself raises, in a worker process of
    the DataLoader too.
    """
    if isinstance(error, OmegaConfBaseException):
        reason = str(error).splitlines()[0]
        return f"{reason} (in {error.full_key})" if error.full_key else reason
    if isinstance(error, argparse.ArgumentError | MisconfigurationException):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if not isinstance(error, ValueError | FileNotFoundError):
        return None
    origin, message = _origin_and_message(error)
    return " ".join(message.split()) if PACKAGE_FOLDER in origin.parents else None


def _origin_and_message(error: Exception) -> tuple[Path, str]:
    """Find the file that raised, and what it said."""
    kind, message = type(error).__name__, str(error)
    if message.startswith(f"Caught {kind} in DataLoader worker"):
        # The worker's traceback comes as text: frames as `File "PATH", line N`, then the error.
        frames, _, message = message.rpartition(f"\n{kind}: ")
        return Path(frames.rpartition('File "')[2].partition('"')[0]), message
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename), message
