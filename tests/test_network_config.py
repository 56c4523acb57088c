"""Finding a network's configuration, and composing it over the defaults."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from neurosam3d import shipped
from neurosam3d.network_config import find_network_config, read_network_config

CONFIGS = Path(__file__).parent.parent / "configs"
SHIPPED = CONFIGS / "train" / "vit3d_highres.yaml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder and return it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "name",
    [
        "../configs/train/vit3d_highres",
        "../configs/train/vit3d_highres.yaml",
        "train/vit3d_highres",
        "vit3d_highres",
        "some/where/else/vit3d_highres",
        SHIPPED,
        SHIPPED.with_suffix(""),
    ],
)
def test_the_shipped_file_goes_by_many_names(name: str | Path) -> None:
    assert find_network_config(name) == SHIPPED


def test_the_working_directory_comes_first(here: Path) -> None:
    own = here.parent / "configs" / "train" / "vit3d_highres.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_network_config("../configs/train/vit3d_highres") == own
    assert find_network_config("train/vit3d_highres") == SHIPPED


def test_a_missing_file_tells_where_was_looked(here: Path) -> None:
    with pytest.raises(ValueError, match=r"must name a YAML file, got '\.\./x/y'; ") as caught:
        find_network_config("../x/y")
    places = [
        here.parent / "x/y.yaml",
        CONFIGS.parent / "x/y.yaml",
        f"y.yaml anywhere in {CONFIGS}",
    ]
    text = str(caught.value).partition("looked for ")[2]
    assert text.split(", ")[:3] == [str(place) for place in places]


def test_package_data_serve_where_there_is_no_checkout(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = here / "site-packages" / "configs"
    (packaged / "train").mkdir(parents=True)
    (packaged / "train" / "mine.yaml").touch()
    monkeypatch.setattr(shipped, "CHECKOUT_CONFIGS", here / "nowhere")
    monkeypatch.setattr(shipped.resources, "files", lambda package: packaged)
    for name in ("train/mine", "mine.yaml", "../configs/train/mine"):
        assert find_network_config(name) == packaged / "train" / "mine.yaml"


def test_what_a_file_says_is_laid_over_the_defaults(here: Path) -> None:
    (here / "mine.yaml").write_text(
        "side: 48\n"
        "student: {arch: vit_tiny_3d, layerscale: 1e-4}\n"
        "crops: {global_crops_size: '${side}'}\n"
        "train: {dataset_path: '???'}\n",
        encoding="utf-8",
    )
    settings = read_network_config("mine")
    assert settings["student"] == {
        "arch": "vit_tiny_3d",
        "patch_size": 16,
        "layerscale": 1e-4,
        "ffn_layer": "mlp",
        "block_chunks": 4,
        "qkv_bias": True,
        "proj_bias": True,
        "ffn_bias": True,
        "num_register_tokens": 0,
    }
    assert settings["crops"] == {"global_crops_size": 48}
    assert set(settings) == {"student", "crops"}


def test_a_file_may_be_made_of_parts(here: Path) -> None:
    (here / "base.yaml").write_text("student: {arch: vit_tiny_3d, block_chunks: 2}")
    (here / "mine.yaml").write_text("defaults: [base, _self_]\nstudent: {block_chunks: 0}")
    student = read_network_config("mine")["student"]
    assert (student["arch"], student["block_chunks"]) == ("vit_tiny_3d", 0)


def test_a_mapping_serves_as_well(here: Path) -> None:
    (here / "train").mkdir()
    (here / "train" / "ssl3d_default_config.yaml").write_text("student: {block_chunks: 3}")
    settings = read_network_config({"student": {"ffn_layer": "swiglu"}})
    assert settings["student"]["ffn_layer"] == "swiglu"
    assert settings["student"]["block_chunks"] == 4  # the defaults are the package's alone
    assert settings["crops"] == {"global_crops_size": 96}


def test_inside_a_program_of_hydra(here: Path) -> None:
    (here / "outer.yaml").write_text("name: outer")
    with initialize_config_dir(str(here), version_base=None):
        assert read_network_config("vit3d_highres")["crops"] == {"global_crops_size": 112}
        assert compose("outer").name == "outer"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("data: {}\nmodel: {}", "must hold a block student or crops, got data, model"),
        ("", "must hold a block student or crops, got nothing"),
        ("student: 3", "student must be a block of fields, got 3"),
        ("crops:", "crops must be a block of fields, got None"),
        ("student: {arch: '${nope}'}", "Interpolation key 'nope' not found"),
        ("student: [", "while parsing a flow"),
        ("- student", "must be a DictConfig, got ListConfig"),
        ("defaults: [nowhere, _self_]\nstudent: {}", r"Could not load 'nowhere'\.$"),
    ],
)
def test_a_file_that_describes_no_network_is_refused(here: Path, content: str, reason: str) -> None:
    (here / "mine.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=reason) as caught:
        read_network_config("mine")
    assert str(caught.value).startswith(f"{here / 'mine.yaml'} must ")
    assert "\n" not in str(caught.value)
