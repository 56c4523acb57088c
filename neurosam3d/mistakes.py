"""Tell a user's mistake, which deserves one sentence, from a bug, which deserves its traceback."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

_LONGEST = 4000  # signs of a sentence
PACKAGE_FOLDER = Path(__file__).resolve().parent

# PyTorch's words for a worker that was killed, is missed, or has no room for its batches.
_LOST_WORKER = re.compile(
    r"DataLoader worker \(pid.*\) is killed by signal: (Killed|Terminated|Bus error)"
    r"|DataLoader worker \(pid.*\) exited unexpectedly"
    r"|unable to \w+ shared memory.*"
)


@contextmanager
def told_in_one_sentence(
    words: Sequence[str], *, refusals: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """End the process with exit code 2 and one sentence if the block meets a user's mistake.

    A command line that holds --debug, or NEUROSAM3D_DEBUG=1, lets the traceback through. Ctrl-C
    ends the process with code 130.

    Args:
        words: The command line.
        refusals: Errors of libraries that tell of a user's mistake wherever they come from.
    """
    try:
        yield
    except Exception as error:
        sentence = _bounded(describe_mistake(error, refusals=refusals))
        if sentence is None or "--debug" in words or os.environ.get("NEUROSAM3D_DEBUG") == "1":
            raise
        sys.stderr.write(f"error: {sentence}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)  # as shells count an interrupt


def _bounded(sentence: str | None) -> str | None:
    """Leave out the middle of a sentence that repeats pages of what it got."""
    if sentence is None or len(sentence) <= _LONGEST:
        return sentence
    return f"{sentence[: _LONGEST // 2]} ... {sentence[-_LONGEST // 2 :]}"


def describe_mistake(error: Exception, *, refusals: tuple[type[Exception], ...] = ()) -> str | None:
    """Return one sentence if `error` tells of a user's mistake, nothing if it is a bug.

    Mistakes are what the parser and OmegaConf refuse, what the operating system says of a file or
    folder, a device without memory, the ValueErrors that this package itself raises, in a worker
    process of the DataLoader too, and the loss of such a process, which lack of memory causes.

    Args:
        error: What was raised.
        refusals: Errors of libraries that tell of a user's mistake wherever they come from.
    """
    if isinstance(error, OmegaConfBaseException):
        reason = str(error).splitlines()[0]
        return f"{reason} (in {error.full_key})" if error.full_key else reason
    if isinstance(error, (argparse.ArgumentError, *refusals)):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if is_out_of_memory(error):
        reason = str(error).split(". ")[0]
        return f"{reason}; take a smaller network or image, or a device with more memory"
    if isinstance(error, RuntimeError) and (lost := _LOST_WORKER.search(str(error))):
        return (
            f"{lost[0]}: memory, or shared memory (/dev/shm), most likely ran out; try fewer "
            "--data.num_workers or a smaller --data.batch_size; fit goes on with --ckpt_path last"
        )
    if not isinstance(error, ValueError | FileNotFoundError):
        return None
    origin, message = _origin_and_message(error)
    return " ".join(message.split()) if PACKAGE_FOLDER in origin.parents else None


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether PyTorch says that a device has no memory left; it has no type for the CPU."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    )


def _origin_and_message(error: Exception) -> tuple[Path, str]:
    """Find the file that raised, and what it said."""
    kind, message = type(error), str(error)
    if message.startswith(f"Caught {kind.__name__} in DataLoader worker"):
        # The worker's traceback comes as text: frames as `File "PATH", line N`, then the error.
        place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        frames, _, message = message.rpartition(f"\n{place}{kind.__qualname__}: ")
        return Path(frames.rpartition('File "')[2].partition('"')[0]), message
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename), message
