"""Networks in two files: one with LoRA, and the one that it is added to."""

from pathlib import Path

import pytest
import torch

import neurosam3d.__main__ as program
from neurosam3d.checkpoint_sam2d import published_content
from neurosam3d.checkpoints import load_model
from neurosam3d.models import Samed
from tests.models.sam2d_small import SIDE, slices_of, small_sam2d, small_samed
from tests.published import assert_equal, save

pytestmark = pytest.mark.usefixtures("small_vit_b")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Samed]:
    """Write SAM's file and SAMed's, and return them with the network of both."""
    sam, samed = small_sam2d(seed=5), small_samed(seed=6)
    samed.load_state_dict(sam.image_encoder.state_dict(prefix="image_encoder."), strict=False)
    additions = save(published_content(samed.state_dict()), tmp_path / "epoch_159.pth")
    return save(sam.state_dict(), tmp_path / "sam_vit_b.pth"), additions, samed


def convert(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        program.main(["convert", *map(str, words)])
    return int(end.value.code or 0)


def test_both_files_make_the_network(files: tuple[Path, Path, Samed]) -> None:
    base, additions, samed = files
    found = load_model(additions, image_size=SIDE, base=base)
    assert_equal(found, samed)


def test_two_files_become_one(files: tuple[Path, Path, Samed], tmp_path: Path) -> None:
    base, additions, samed = files
    both = tmp_path / "samed.safetensors"
    assert convert(additions, both, "--base", base, "--image_size", SIDE) == 0
    found = load_model(both)
    assert isinstance(found, Samed)
    assert (found.image_size, found.num_classes) == (SIDE, 2)
    assert_equal(found, samed)
    merged = tmp_path / "merged.pth"
    assert convert(additions, merged, "--base", base, "--image_size", SIDE, "--merge") == 0
    image = slices_of()
    with torch.no_grad():
        expected, plain = samed.eval()(image), load_model(merged)(image)
    torch.testing.assert_close(plain["masks"], expected["masks"], atol=1e-3, rtol=1e-3)


def test_tables_of_the_base_are_resized(files: tuple[Path, Path, Samed]) -> None:
    base, additions, _ = files
    found = load_model(additions, image_size=2 * SIDE, base=base).state_dict()
    expected = load_model(base, image_size=2 * SIDE).state_dict()
    tables = [name for name in expected if name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w"))]
    assert len(tables) == 7
    for name in tables:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{base}", "{out}", "--base", "{base}"], "a base holds a whole network and lies beneath"),
        (["{lora}", "{out}", "--base", "{lora}"], "epoch_159.pth (SAMed LoRA) beneath"),
        (["{lora}", "{out}.pth", "--base", "{base}"], "must have a place in OUT"),
        (["{lora}", "{out}", "--base", "{base}", "--lora"], "must have a place in OUT"),
        (["{lora}", "{out}", "--image_size", "64"], "--image_size is for --base, got 64"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_sentence(
    files: tuple[Path, Path, Samed],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    places = {"base": files[0], "lora": files[1], "out": tmp_path / "o.safetensors"}
    assert convert(*(word.format(**places) for word in words)) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_a_whole_network_has_no_base(files: tuple[Path, Path, Samed]) -> None:
    with pytest.raises(ValueError, match="a base holds a whole network and lies beneath a part"):
        load_model(files[0], base=files[0])
