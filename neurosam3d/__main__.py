"""`python -m neurosam3d` and the console script `neurosam3d`: the verbs, each by its own module."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from neurosam3d.mistakes import told_in_one_sentence


@dataclass(frozen=True)
class Verb:
    """What follows `neurosam3d` on the command line.

    Args:
        module: Whose function `main` carries it out. It is imported when it is called for, gets the
            command line with the verb first, and returns the exit code or None.
        summary: What the verb does, for the list of all.
    """

    module: str
    summary: str


VERBS = {
    "fit": Verb("neurosam3d.cli", "train a network as a recipe says, or go on with a run"),
    "validate": Verb("neurosam3d.cli", "compute loss and Dice on the validation sets once"),
    "test": Verb("neurosam3d.cli", "judge a network click by click, with tables and pictures"),
    "predict": Verb(
        "neurosam3d.cli", "write the masks of the validation sets, or of scans with prompts"
    ),
    "segment": Verb(
        "neurosam3d.commands.segment", "segment new scans by clicks, boxes or masks, or all in them"
    ),
    "evaluate": Verb(
        "neurosam3d.commands.evaluate", "judge a network click by click on whole scans"
    ),
    "compare": Verb("neurosam3d.commands.compare", "put methods' results in one table, with tests"),
    "summary": Verb("neurosam3d.commands.summary", "show results by group, data set and class"),
    "datasets": Verb(
        "neurosam3d.data.datasets_command", "show what data is known and prepared, and draw it"
    ),
    "models": Verb(
        "neurosam3d.commands.models", "list the networks: costs, checkpoints, public weights"
    ),
    "inspect": Verb(
        "neurosam3d.commands.inspect", "tell what a checkpoint is and what of it would load"
    ),
    "convert": Verb(
        "neurosam3d.commands.convert", "write a checkpoint's weights as another kind of file"
    ),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command line and end the process with its exit code.

    Args:
        args: The command line without the program's name; by default the one of this process.
    """
    words = sys.argv[1:] if args is None else list(args)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        sys.exit(0)
    with told_in_one_sentence(words):
        sys.exit(import_module(_find(words[0]).module).main(words))


def _find(word: str) -> Verb:
    if word in VERBS:
        return VERBS[word]
    if word.startswith("-"):
        return VERBS["fit"]  # its parser also knows what may stand before the verb
    raise ValueError(f"unknown verb {word!r}; known: {', '.join(VERBS)}")


def _help() -> str:
    width = max(map(len, VERBS))
    lines = (f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items())
    return "\n".join(
        (
            "usage: neurosam3d VERB [options]\n",
            "Promptable 3-D segmentation of medical volumes.\n",
            *lines,
            "\n`neurosam3d VERB --help` explains a verb.\n",
        )
    )


if __name__ == "__main__":
    main()
