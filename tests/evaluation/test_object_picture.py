"""Pictures without a truth: what they show of which object, where, and in which colour."""

from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from scipy import ndimage

from neurosam3d.evaluation.object_picture import DrawnObject, plot_objects
from neurosam3d.evaluation.object_scene import ObjectScene, arrange_objects
from neurosam3d.volume import Volume

# Axes run to the Posterior, Right and Superior, 1, 2 and 3 mm a voxel: the canonical order is axis
# 1, axis 0 flipped, axis 2.
SHAPE = (60, 80, 50)
AFFINE = np.array([[0, 2.0, 0, -40], [-1.0, 0, 0, 15], [0, 0, 3.0, 7], [0, 0, 0, 1]])
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
NONE = np.zeros((0, 3))


def _image() -> Volume:
    generator = torch.Generator().manual_seed(0)
    return Volume(torch.rand((1, *SHAPE), generator=generator) * 0.2, AFFINE)


def _values() -> np.ndarray:
    """Two blocks far from each other: 8 x 12 x 12 mm (P, R, S) each."""
    values = np.zeros(SHAPE, np.uint8)
    values[4:12, 3:9, 3:7] = 1
    values[40:48, 65:71, 40:44] = 2
    return values


def _arrange(values: np.ndarray, wanted: list[int], marks: np.ndarray = NONE) -> ObjectScene:
    boxes = ndimage.find_objects(values)
    return arrange_objects(_image(), values, boxes=boxes, wanted=wanted, marks=marks)


def test_an_object_is_cut_where_it_is_in_anatomical_axes() -> None:
    values = _values()
    values[10, 3:9, 7] = 1  # a thin part, through which no slice should go
    scene = _arrange(values, [1])
    np.testing.assert_array_equal(scene.spacing, (2, 1, 3))
    # 40 mm on all sides, at most to the border: axis 1, axis 0 flipped, axis 2.
    assert scene.image.shape == (9 + 20, 12 + 40, 8 + 14)
    expected = _image().data[0, :52, :29, :22].numpy().transpose(1, 0, 2)[:, ::-1]
    np.testing.assert_array_equal(scene.image, expected)
    cut = [scene.values.take(index, axis) for axis, index in enumerate(scene.slices)]
    assert [int((plane == 1).sum()) for plane in cut] == [8 * 4 + 1, 6 * 4 + 6, 6 * 8]
    np.testing.assert_array_equal(scene.place(np.array([[51.0, 0, 0]])), [[0, 0, 0]])
    assert scene.extent_mm.tolist() == [58, 52, 66]


def test_objects_together_are_cut_where_most_are_seen() -> None:
    values = _values()
    values[4:8, 60:66, 3:7] = 3  # in the axial and coronal slices of object 1
    scene = _arrange(values, [1, 2, 3])
    axial = scene.values.take(scene.slices[2], 2)
    coronal = scene.values.take(scene.slices[1], 1)
    for plane in (axial, coronal):
        assert set(np.unique(plane)) == {0, 1, 3}


def test_nothing_found_is_shown_where_it_was_asked_for() -> None:
    empty = np.zeros(SHAPE, np.uint8)
    marks = np.array([[20.0, 30, 10], [22.0, 30, 12]])
    scene = _arrange(empty, [1], marks)
    np.testing.assert_array_equal(scene.slices, np.rint(scene.place(marks).mean(axis=0)))
    whole = _arrange(empty, [1])
    assert whole.image.shape == (80, 60, 50)
    np.testing.assert_allclose(whole.slices, (40, 30, 24), atol=1)


def _draw(path: Path, objects: list[DrawnObject], values: np.ndarray | None = None) -> np.ndarray:
    values = _values() if values is None else values
    written = plot_objects(path, _image(), values, objects, window=lambda image, mask: (0, 1))
    assert written == path
    return matplotlib.image.imread(path)[..., :3]


def _rows_with(pixels: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    same = np.abs(pixels - np.array(colour)).max(-1) < 0.05
    return np.flatnonzero(same.any(axis=1)) / len(pixels)


def test_every_object_has_a_row_and_its_colour(tmp_path: Path) -> None:
    objects = [DrawnObject("one", RED), DrawnObject("two", BLUE)]
    pixels = _draw(tmp_path / "new" / "case.png", objects)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["case.png"]
    above_legend = pixels[: int(0.88 * len(pixels))]
    assert _rows_with(above_legend, RED).max() < 0.5 < _rows_with(above_legend, BLUE).min()


def test_prompts_are_marked(tmp_path: Path) -> None:
    green, orange = (0, 158 / 255, 115 / 255), (213 / 255, 94 / 255, 0)
    plain = _draw(tmp_path / "a.png", [DrawnObject("one", RED), DrawnObject("two", BLUE)])
    assert not len(_rows_with(plain, green))  # not in the legend either
    points = np.array([[7.0, 5, 5], [30, 20, 10]])
    clicked = DrawnObject("one", RED, points, (1, 0))
    pixels = _draw(tmp_path / "b.png", [clicked, DrawnObject("two", BLUE)])
    upper = pixels[: len(pixels) // 2]
    assert len(_rows_with(upper, green))
    assert len(_rows_with(upper, orange))
    boxed = DrawnObject("one", RED, box=np.array([[5.0, 4, 4], [10, 7, 5]]))
    pixels = _draw(tmp_path / "c.png", [boxed, DrawnObject("two", BLUE)])
    above_legend = int(0.9 * len(plain))
    changed = np.flatnonzero((pixels != plain)[:above_legend].any(axis=(1, 2)))
    assert changed.size
    assert changed.max() < 0.5 * len(plain)


def test_many_objects_share_one_row(tmp_path: Path) -> None:
    few = _draw(tmp_path / "few.png", [DrawnObject(str(n), RED) for n in range(3)])
    many = _draw(tmp_path / "many.png", [DrawnObject(str(n), RED) for n in range(40)])
    assert len(many) < len(few)


def test_without_objects_the_scan_is_drawn(tmp_path: Path) -> None:
    pixels = _draw(tmp_path / "x.png", [], values=np.zeros(SHAPE, np.uint8))
    assert len(np.unique(pixels[..., 0])) > 20
