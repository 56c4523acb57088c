"""What a file says of its network, and what its weights show."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoints import load_model
from neurosam3d.models import MODELS, Sam3D, build_model
from neurosam3d.models.hiera3d import build_hiera_sam3d
from neurosam3d.models.lora import LoraConfig
from neurosam3d.recognise import (
    Identity,
    decode_metadata,
    encode_metadata,
    identify,
    recognise_network,
)
from tests.published import (
    assert_equal,
    lightning_content,
    lora_content,
    lora_network,
    save,
    small_network,
)

REFERENCE = Path(__file__).parent / "reference"
IDENTITY = Identity(
    "vit_b",
    {"image_size": 112, "mask_stride": 1, "box_prompts": True, "published_quirks": False},
    LoraConfig(rank=8, alpha=4.0, targets=("attn.qkv", "lin1"), parts="qk"),
    {"intensity": "neurosam3d", "spacing": [1.5, 1.0, 2.0]},
)


@pytest.fixture
def _small_hiera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "hiera_tiny", partial(build_hiera_sam3d, "hiera_tiny"))


def test_an_identity_survives_its_values_and_metadata() -> None:
    texts = encode_metadata({**IDENTITY.to_values(), "licence": "Apache-2.0"})
    assert texts["format"] == "pt"  # what other readers of safetensors ask for
    assert texts["model_type"] == "vit_b"
    assert texts["spacing"] == "[1.5, 1.0, 2.0]"
    assert all(isinstance(text, str) for text in texts.values())
    values = decode_metadata(json.loads(json.dumps(texts)))
    assert values["licence"] == "Apache-2.0"
    assert Identity.from_values(values) == IDENTITY


def test_what_is_unknown_stays_unknown() -> None:
    plain = Identity("vit_b")
    assert plain.to_values() == {"model_type": "vit_b"}
    assert Identity.from_values(decode_metadata(encode_metadata(plain.to_values()))) == plain
    assert Identity.from_values({"model_type": "resnet", "img_size": None}) == Identity()
    assert Identity.from_values({"spacing": None}).feeding == {"spacing": None}  # native
    for foreign in ({"spacing": "isotropic"}, {"spacing": (1.5, 1.5)}, {"intensity": 3}):
        assert Identity.from_values(foreign) == Identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neurosam3d_format": "2"}, "metadata must be of neurosam3d_format 1, got '2'"),
        ({"img_size": "12 voxels"}, "metadata must be JSON, got '12 voxels'"),
    ],
)
def test_metadata_that_cannot_be_read_are_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    path = tmp_path / "weights.safetensors"
    metadata = {**encode_metadata(IDENTITY.to_values()), **change}
    save_file({"w": torch.ones(2)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        identify(read_checkpoint(path))


def test_metadata_of_others_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata={"model_type": "vit_b", "img_size": "112"})
    assert identify(read_checkpoint(path)) == Identity()


def test_shapes_come_before_what_is_said(tmp_path: Path) -> None:
    content = lightning_content(small_network(), img_size=64, mask_stride=1, published_quirks=False)
    identity = identify(read_checkpoint(save(content, tmp_path / "last.ckpt")))
    assert identity.name == "vit_tiny"
    assert identity.options == {
        "image_size": 32,
        "mask_stride": 4,
        "box_prompts": False,
        "published_quirks": False,
    }


def test_a_network_that_others_name_otherwise_is_told_by_its_shapes(tmp_path: Path) -> None:
    content = lightning_content(small_network(), model_type="default")
    assert identify(read_checkpoint(save(content, tmp_path / "last.ckpt"))).name == "vit_tiny"


def test_lora_is_known_only_where_there_is_some(tmp_path: Path) -> None:
    config = LoraConfig(rank=2, alpha=1.0)
    content = lora_content(lora_network(config=config), config)
    assert identify(read_checkpoint(save(content, tmp_path / "a.ckpt"))).lora == config
    content["state_dict"] = {
        name: value for name, value in content["state_dict"].items() if ".lora_" not in name
    }
    assert identify(read_checkpoint(save(content, tmp_path / "b.ckpt"))).lora is None


def test_hiera_is_recognised_by_its_published_shapes() -> None:
    keys = json.loads((REFERENCE / "keys_vit_hiera.json").read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in keys["state_dict"].items()}
    name, options = recognise_network(shapes)
    assert (name, options) == ("vit_hiera", {"mask_stride": 1, "box_prompts": True})
    with torch.device("meta"):
        model = build_model("vit_hiera", **options)
    assert isinstance(model, Sam3D)
    assert model.image_size == 128
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes
    shallow = {key: shape for key, shape in shapes.items() if ".blocks.19." not in key}
    assert recognise_network(shallow)[0] is None


def test_a_hiera_outside_the_list_is_not_recognised() -> None:
    model = build_hiera_sam3d("hiera_tiny", image_size=32)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert recognise_network(shapes)[0] is None


@pytest.mark.usefixtures("_small_hiera")
@pytest.mark.parametrize(("said", "image_size"), [(64, 64), (None, 128)])
def test_the_image_size_of_hiera_is_what_is_said(
    tmp_path: Path, said: int | None, image_size: int
) -> None:
    source = small_network(name="hiera_tiny", image_size=64)
    content = lightning_content(source, img_size=said, model_type="hiera_tiny")
    model = load_model(save(content, tmp_path / "last.ckpt"))
    assert isinstance(model, Sam3D)
    assert model.image_size == image_size
    assert_equal(model, source)


def test_classes_and_the_side_of_an_adapters_crop_are_read_back() -> None:
    said = {"model_type": "adapter3d_vit_b", "crop_size": (64, 64, 64), "classes": ["tumor"]}
    identity = Identity.from_values(said)
    assert identity.options == {"crop_size": 64}
    assert identity.classes == ("tumor",)
    texts = encode_metadata(identity.to_values())
    assert Identity.from_values(decode_metadata(texts)) == identity
    baseline = Identity.from_values({**said, "model_type": "unetr", "crop_size": [32, 48, 64]})
    assert baseline.options == {"crop_size": (32, 48, 64)}
    assert Identity.from_values({"classes": "tumor"}).classes == ()
