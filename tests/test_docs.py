"""Every command in the documentation is one that the programs understand."""

import re
import shlex
from pathlib import Path

import pytest

from neurosam3d.cli import run
from neurosam3d.commands import evaluate_options, segment_options
from neurosam3d.data.prepare.options import list_parser, parse_data_options
from neurosam3d.recipes import list_recipes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "neurosam3d evaluate": evaluate_options.parse_options,
    "python validation.py": evaluate_options.parse_options,
    "neurosam3d segment": segment_options.parse_options,
    "python data.py": parse_data_options,
    "python utils/prepare_json_data.py": list_parser().parse_args,
}


def list_commands(page: Path) -> list[str]:
    """Return the command lines of a page, those in its blocks and those in its tables."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    rows = [row.split("|") for row in prose.splitlines() if row.startswith("|")]
    here = [cell for row in rows for cell in row[2:]]  # the first column may be another program's
    quoted = re.findall(r"`([^`]+)`", " ".join(here))
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.split(" #")[0].strip() for line in [*lines, *quoted]]


COMMANDS = sorted({command for page in PAGES for command in list_commands(page)})
PARSED = [
    (program, command)
    for program in PARSERS
    for command in COMMANDS
    if command.startswith(f"{program} ") and "..." not in command
]
TRAINING = [
    command
    for command in COMMANDS
    if (found := re.match(r"python train\.py \w+ --config (\S+)", command))
    and found[1] in list_recipes()
]


def test_there_are_commands() -> None:
    found = {program for program, _ in PARSED}
    assert found == set(PARSERS)
    assert len(PARSED) > 20
    assert len(TRAINING) > 10


@pytest.mark.parametrize(("program", "command"), PARSED)
def test_a_command_is_understood(program: str, command: str) -> None:
    words = shlex.split(command.removeprefix(program))
    PARSERS[program](words)


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINING)
def test_a_training_command_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.removeprefix("python train.py"))
    with pytest.raises(SystemExit) as ended:
        run([*words, "--print_config"])
    assert ended.value.code == 0
    assert "model:" in capsys.readouterr().out
