"""What the verbs share: how they parse and print."""

import argparse
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from neurosam3d.intensity import get_preset


class VerbParser(argparse.ArgumentParser):
    """A parser whose mistakes are exceptions: argparse's own exit prints the whole usage.

    Args:
        verb: The word after `neurosam3d`.
        description: What it does.
        epilog: Examples, shown as they are.
    """

    def __init__(self, verb: str, *, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"neurosam3d {verb}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has to say."""
        raise argparse.ArgumentError(None, message)


def intensity_name(text: str) -> str:
    """Return the value of an option if it is an intensity's name or expression.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    try:
        get_preset(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def plain_console() -> Console:
    """Return a console on standard output that takes brackets in file names for what they are."""
    return Console(markup=False, highlight=False)


def file_size(path: Path) -> str:
    """Return the size of a file in words."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
