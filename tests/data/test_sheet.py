"""Which slices a sheet shows, how they lie, and the picture itself."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from neurosam3d.data import sheet
from neurosam3d.data.case import Case
from neurosam3d.data.class_colours import colour_classes
from neurosam3d.data.sheet import count_columns, draw_sheet, legend_names
from neurosam3d.data.sheet_scans import Scan
from neurosam3d.data.sheet_tiles import (
    BONE_WINDOW,
    LUNG_WINDOW,
    SOFT_WINDOW,
    Slice,
    Tile,
    choose_window,
    cut_slices,
    read_tile,
)
from neurosam3d.volume import Volume

SHAPE = (16, 20, 12)
SPACING = (1.5, 1.25, 4.0)  # right, anterior, superior


def turned(array: np.ndarray, axes: str) -> Volume:
    """Store an array that runs to the right, front and top with other axes, e.g. "LPS"."""
    image = nib.Nifti1Image(array, np.diag([*SPACING, 1.0]))
    wanted = nib.orientations.axcodes2ornt(axes)
    image = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
    )
    data = np.ascontiguousarray(image.dataobj)
    return Volume(torch.from_numpy(data)[None], image.affine)


def marked() -> tuple[np.ndarray, np.ndarray]:
    """A chequered body with a bright part in the patient's left, front, upper corner; its label."""
    image = np.where(np.indices(SHAPE).sum(0) % 2, 100, 60).astype(np.int16)
    image[2:5, 14:18, 8:10] = 200  # low along the first axis: the patient's left
    labels = np.zeros(SHAPE, np.int16)
    labels[2:5, 14:18, 8:10] = 1
    return image, labels


# How slices lie


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LIA", "PSR"])
@pytest.mark.parametrize(
    ("plane", "shape", "rows", "columns", "pixel_mm"),
    [
        # The patient's left is on the right of the picture, the front on top or on the left.
        ("axial", (20, 16), slice(2, 6), slice(11, 14), (1.25, 1.5)),
        ("coronal", (12, 16), slice(2, 4), slice(11, 14), (4.0, 1.5)),
        ("sagittal", (12, 20), slice(2, 4), slice(2, 6), (4.0, 1.25)),
    ],
)
def test_slices_lie_as_radiologists_see_them(
    axes: str,
    plane: str,
    shape: tuple[int, int],
    rows: slice,
    columns: slice,
    pixel_mm: tuple[float, float],
) -> None:
    image, labels = marked()
    (shown,) = cut_slices(turned(image, axes), turned(labels, axes), [plane])
    expected = np.zeros(shape, int)
    expected[rows, columns] = 1
    assert np.array_equal(shown.labels, expected)
    assert np.array_equal(shown.image == 200, expected)
    assert shown.pixel_mm == pytest.approx(pixel_mm)


def test_all_planes_are_cut_in_order() -> None:
    image, labels = marked()
    slices = cut_slices(turned(image, "RAS"), turned(labels, "RAS"), ["sagittal", "axial"])
    assert [shown.plane for shown in slices] == ["sagittal", "axial"]


def axial(labels: np.ndarray) -> np.ndarray:
    """The labels of the axial slice that is chosen; the image's values tell which one it is."""
    image = np.broadcast_to(np.arange(1, SHAPE[2] + 1) * 10, SHAPE).astype(np.int16)
    (shown,) = cut_slices(turned(image, "RAS"), turned(labels, "RAS"), ["axial"])
    values = np.unique(shown.image)
    assert len(values) == 1
    return int(values[0]) // 10 - 1


def test_the_slice_with_most_foreground_is_shown() -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[4:6, 4:6, 1:9] = 1
    labels[4:9, 4:9, 6] = 1
    assert axial(labels) == 6


def test_of_equal_slices_the_middle_is_shown() -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[4:6, 4:6, 3:10] = 1
    assert axial(labels) == 6


def test_a_small_object_is_not_lost_beside_a_large_one() -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[1:12, 1:12, 1:9] = 1
    labels[1:13, 1:13, 3] = 1  # slightly more foreground than in any other slice
    labels[14:16, 14:16, 7] = 2
    assert axial(labels) == 7


def test_without_labels_the_middle_is_shown() -> None:
    assert axial(np.zeros(SHAPE, np.int16)) == SHAPE[2] // 2


def test_the_empty_margin_is_cut_off() -> None:
    image = np.zeros((80, 120, 3), np.int16)
    image[30:50, 60:100] = 500
    labels = np.zeros_like(image)
    labels[20:40, 70:80, 1] = 1  # sticks out of what is bright
    (shown,) = cut_slices(turned(image, "RAS"), turned(labels, "RAS"), ["axial"])
    assert shown.image.shape == (40 + 2 * 5, 30 + 2 * 4)
    assert shown.image[5 + 39, 4] == 500  # the lower left corner: posterior, right
    assert (shown.image > 0).sum() == 20 * 40
    assert (shown.labels == 1).sum() == 20 * 10


# Windows


@pytest.mark.parametrize(
    ("tissue", "window"),
    [(-850, LUNG_WINDOW), (40, SOFT_WINDOW), (230, SOFT_WINDOW), (700, BONE_WINDOW)],
)
def test_ct_is_windowed_by_what_is_labelled(tissue: int, window: tuple[float, float]) -> None:
    image = np.full((9, 7), -1000.0)
    mask = np.zeros((9, 7), bool)
    mask[2:5, 1:6] = True
    image[mask] = tissue
    assert choose_window(image, mask, is_ct=True) == window
    assert choose_window(image, np.zeros_like(mask), is_ct=True) == SOFT_WINDOW


def test_other_scans_are_windowed_by_percentiles() -> None:
    image = np.arange(1001.0).reshape(7, 143)
    image[0, 0] = -1e6
    assert choose_window(image, image > 0, is_ct=False) == pytest.approx((5, 995), abs=0.1)
    low, high = choose_window(np.full((4, 5), 3.0), np.zeros((4, 5), bool), is_ct=False)
    assert low < high


# Files

WriteScan = Callable[..., Scan]


@pytest.fixture
def write_scan(tmp_path: Path) -> WriteScan:
    """Write an image and its masks; class -> mask."""

    def write(image: np.ndarray, masks: dict[str, np.ndarray], modality: Any = None) -> Scan:
        affine = np.diag([*SPACING, 1.0])
        nib.save(nib.Nifti1Image(image, affine), tmp_path / "scan.nii.gz")
        cases = []
        for name, mask in masks.items():
            path = tmp_path / f"{name}.nii.gz"
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
            volume = float(mask.sum()) * 7.5
            extra = {} if modality is None else {"modality": modality}
            cases.append(Case(tmp_path / "scan.nii.gz", path, name, volume, SPACING, None, extra))
        return Scan("Tr", tuple(cases))

    return write


def masks() -> dict[str, np.ndarray]:
    inner, outer = np.zeros((2, *SHAPE), bool)
    outer[3:9, 4:12, 5:7] = True
    inner[4:6, 5:7, 5:7] = True
    return {"tumor": inner, "liver": outer}


def test_the_smaller_of_two_labels_is_on_top(write_scan: WriteScan) -> None:
    tile = read_tile(write_scan(np.full(SHAPE, 50, np.int16), masks()), ["axial"])
    assert tile.classes == ("liver", "tumor")
    labels = tile.slices[0].labels
    assert ((labels == 1).sum(), (labels == 2).sum()) == (48 - 4, 4)


@pytest.mark.parametrize(
    ("modality", "lowest", "is_ct"),
    [
        (["CT"], -1000, True),
        ("CT or MR T1", -1000, True),
        (["CBCT"], -1000, True),
        (None, -1000, True),
        (["unknown"], -1000, True),
        (["CT"], 0, False),  # not in Hounsfield units
        (["MRI"], -1000, False),
        (["fractional anisotropy"], -1000, False),
    ],
)
def test_only_ct_has_hounsfield_units(
    modality: Any, lowest: int, is_ct: bool, write_scan: WriteScan
) -> None:
    image = np.full(SHAPE, 50, np.int16)
    image[0, 0, 0] = lowest
    tile = read_tile(write_scan(image, masks(), modality), ["axial", "coronal"])
    assert [shown.is_ct for shown in tile.slices] == [is_ct, is_ct]


def test_what_cannot_be_read_is_told(write_scan: WriteScan, tmp_path: Path) -> None:
    scan = write_scan(np.full(SHAPE, 50, np.int16), masks())
    moved = np.diag([*SPACING, 1.0])
    moved[:3, 3] = 3
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), moved), tmp_path / "liver.nii.gz")
    tile = read_tile(scan, ["axial"])
    assert tile.slices == ()
    assert "liver.nii.gz does not lie on the grid of" in tile.problem
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    assert "scan.nii.gz" in read_tile(scan, ["axial"]).problem


# Colours


def test_a_new_class_leaves_the_colours_of_the_others() -> None:
    few = colour_classes(["liver", "spleen"])
    more = colour_classes(["liver", "spleen", *map(str, range(300))])
    assert more["liver"] == few["liver"] != few["spleen"] == more["spleen"]


@pytest.mark.parametrize(("num_classes", "distance"), [(15, 0.2), (120, 0.05)])
def test_colours_are_apart(num_classes: int, distance: float) -> None:
    colours = np.array(list(colour_classes([str(i) for i in range(num_classes)]).values()))
    distances = np.abs(colours[:, None] - colours).max(-1) + np.eye(num_classes)
    assert distances.min() > distance
    assert colours.max(axis=1).min() > 0.6  # none is lost on a dark scan


# The picture


def make_tile(case: str, classes: dict[str, int], *, height_mm: float = 2.0) -> Tile:
    """A slice of 12 x 10 pixels, 1 mm wide, with classes of so many pixels."""
    labels = np.zeros(120, np.int16)
    start = 0
    for number, size in enumerate(classes.values(), start=1):
        labels[start : start + size] = number
        start += size
    image = np.linspace(0, 100, 120, dtype=np.float32).reshape(12, 10)
    window = (-160.0, 240.0)
    shown = Slice("axial", image, labels.reshape(12, 10), (height_mm, 1.0), window, is_ct=True)
    image_path, label_path = Path(f"/t/{case}.nii.gz"), Path(f"/t/liver/{case}.nii.gz")
    scan = Scan("Val", (Case(image_path, label_path, "liver", 1.0, SPACING),))
    return Tile(scan, (shown,), tuple(classes))


def test_the_legend_names_what_is_seen_by_area() -> None:
    first = make_tile("a", {"liver": 10, "tumor": 1, "hidden": 0})  # 20 and 2 mm^2
    tiles = [first, make_tile("b", {"tumor": 4}, height_mm=5)]  # 20 mm^2
    assert legend_names(tiles) == ["tumor", "liver"]


@pytest.mark.parametrize(
    ("num_tiles", "num_planes", "columns"),
    [(1, 1, 1), (4, 1, 4), (5, 1, 3), (12, 1, 4), (13, 1, 4), (1, 3, 3), (12, 3, 6)],
)
def test_rows_are_filled(num_tiles: int, num_planes: int, columns: int) -> None:
    assert count_columns(num_tiles, num_planes) == columns


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def spy(figure: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def draw(path: Path, tiles: Sequence[Tile]) -> Path:
    names = sorted({name for tile in tiles for name in tile.classes})
    return draw_sheet(path, tiles, title="D$^{$", subtitle="a$_{$", colours=colour_classes(names))


def test_a_sheet_says_what_it_shows(tmp_path: Path, figures: list[Figure]) -> None:
    tiles = [make_tile("a$_{$", {"liver": 10, "_odd$^{$": 2}), make_tile("c" * 90, {"liver": 4})]
    path = draw(tmp_path / "new" / "sheet.png", tiles)
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    first, second = (panel.get_title() for panel in figure.axes)
    assert first == "a$_{$, Val\naxial, 1.5 x 1.25 x 4 mm, W 400 L 40"
    assert second.startswith("ccc")
    assert ".." in second
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ["liver", "_odd$^{$"]
    assert figure.axes[0].get_aspect() == 2.0
    assert [text.get_text() for text in figure.axes[0].texts][-4:] == ["R", "L", "A", "P"]


def test_captions_stay_apart(tmp_path: Path, figures: list[Figure]) -> None:
    one = make_tile("c" * 90, {"liver": 10})
    tile = Tile(one.scan, one.slices * 3, one.classes)
    draw(tmp_path / "sheet.png", [tile] * 4)
    (figure,) = figures
    boxes = [panel.title.get_window_extent() for panel in figure.axes]
    assert len(boxes) == 12
    assert all(
        left.x1 < right.x0 for row in (boxes[:6], boxes[6:]) for left, right in pairwise(row)
    )
    assert figure.axes[0].get_title().endswith("\naxial, 1.5 x 1.25 x 4 mm\nW 400 L 40")
    assert boxes[6].y1 < figure.axes[0].get_window_extent().y0


def test_a_long_legend_is_cut(tmp_path: Path, figures: list[Figure]) -> None:
    classes = {f"class {i}": 1 for i in range(sheet.MAX_LEGEND + 7)}
    draw(tmp_path / "sheet.png", [make_tile("a", classes)])
    texts = [text.get_text().strip() for text in figures[0].legends[0].get_texts()]
    assert len(texts) == sheet.MAX_LEGEND + 1
    assert texts[-1] == "and 7 more"


def test_a_sheet_without_labels_has_no_legend(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path / "sheet.png", [make_tile("a", {"liver": 0})])
    assert figures[0].legends == []


def test_a_failed_drawing_leaves_the_old_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")

    def fail(figure: Figure, partial: Path, **kwargs: Any) -> None:
        partial.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        draw(path, [make_tile("a", {"liver": 5})])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
