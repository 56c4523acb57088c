"""`neurosam3d models`: every network with its costs; README shows the same table."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import neurosam3d.__main__ as program
from neurosam3d.commands.models import markdown_table
from neurosam3d.models import BASELINES, list_models
from neurosam3d.models.catalogue import PAPERS, BaselineEntry, catalogue

README = Path(__file__).parent.parent.parent / "README.md"


def main(arguments: Sequence[str]) -> int:
    """Run the verb as a user does; return the exit code."""
    with pytest.raises(SystemExit) as end:
        program.main(["models", *arguments])
    return int(end.value.code or 0)


def test_readme_has_the_table_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(
        r"<!-- begin: neurosam3d models --markdown -->\n(.*?)<!-- end -->",
        README.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    assert found is not None
    assert main(["--markdown"]) == 0
    assert found[1].strip() == capsys.readouterr().out.strip()


def test_every_row_of_the_markdown_has_every_column() -> None:
    pieces = markdown_table(catalogue()).split("\n\n")
    tables, notes = pieces[::2], pieces[1::2]
    names = []
    for table, num_columns in zip(tables, (8, 8, 8, 7), strict=True):
        rows = [line.strip("|").split("|") for line in table.splitlines()]
        assert {len(row) for row in rows} == {num_columns}
        names += [row[0].strip(" `") for row in rows[2:]]
    assert names == list_models()
    for note, part in zip(
        notes,
        (
            "image of side 128 (112 for dinov2)",
            "crop of side 128.",
            "slice of side 1024 (512 for samed_vit_b, samed_vit_l, samed_vit_h, samed_s_vit_b; "
            "256 for sam_med2d_vit_b).",
            "crop of 64 x 160 x 160 voxels",
        ),
        strict=True,
    ):
        assert part in note


def test_every_baseline_has_a_title_and_a_paper() -> None:
    assert list(PAPERS) == list(BASELINES)
    text = markdown_table(catalogue())
    assert "| `unetr++` | [UNETR++](https://arxiv.org/abs/2212.04497) | 56 | 148 |" in text
    assert "| `swin_unetr_v2` | Swin UNETR-V2, MICCAI 2023 |" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_nothing_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= width
    for entry in catalogue():
        if isinstance(entry, BaselineEntry):
            start = rf"^{re.escape(entry.name)} +{re.escape(entry.title)} "
            figures = f"{entry.costs.gflops:.0f} +{entry.costs.forward_mib:.0f} "
            assert re.search(f"{start}.* {figures}", text, re.MULTILINE), entry.name
            continue
        costs, first = entry.costs, next(iter(entry.costs.decoders.values()))
        start = rf"^{re.escape(entry.name)} +{re.escape(entry.encoder)} "
        figures = f"{costs.encoder_gflops:.0f} +{first.click_gflops:.1f}[/ ]"
        assert re.search(f"{start}.*{figures}", text, re.MULTILINE), entry.name
    for part in ("huggingface.co/AICONSlab/3DINO-ViT", "CC BY-NC-ND 4.0", "Apache-2.0"):
        assert part in text
    assert "dinov2 reads, too: 3DINO teacher." in text
    assert "swin_unetr reads, too: baseline checkpoint, Swin encoder." in text
    assert "…" not in text


def test_chosen_networks_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vit_l", "dinov2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [fact["name"] for fact in facts] == ["vit_l", "dinov2"]
    assert facts[0]["costs"]["parameters"] == 319_104_560
    assert facts[0]["weights"] is None
    assert "3DINO teacher" in facts[1]["formats"]
    assert "3DINO teacher" not in facts[0]["formats"]
    assert facts[1]["weights"]["licence"] == "CC BY-NC-ND 4.0"
    assert main(["vit_b", "--markdown"]) == 0
    text = capsys.readouterr().out
    assert "`vit_l`" not in text
    assert "without prompts" not in text
    assert main(["unetr", "--markdown"]) == 0
    text = capsys.readouterr().out
    assert "`unetr`" in text
    assert "click" not in text
    assert main(["nnformer", "--json"]) == 0
    (fact,) = json.loads(capsys.readouterr().out)
    assert fact["costs"]["crop_size"] == [64, 160, 160]
    assert (fact["title"], fact["paper"]) == ("nnFormer", "2109.03201")


def test_an_unknown_name_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vit_x"]) == 2
    assert capsys.readouterr().err == (
        f"error: unknown model 'vit_x'; known: {', '.join(list_models())}\n"
    )
