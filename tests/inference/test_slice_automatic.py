"""Objects of one slice without a prompt, against SAM's program and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurosam3d.inference.candidates import (
    count_voxels,
    end_at_window,
    stability_scores,
    tight_boxes,
)
from neurosam3d.inference.foreground_grid import cell_centres
from neurosam3d.inference.slice_automatic import SliceMaskGenerator, lay_crops, run_lengths
from neurosam3d.models import Sam2D, build_model
from tests.models.sam2d_small import small_sam2d
from tests.reference.golden import REFERENCE
from tests.reference.seeded import seed_weights, seeded_array

SHAPE = (40, 56)
GOLDEN = np.load(REFERENCE / "golden_automatic2d.npz")


def field(name: str, shape: tuple[int, ...], sides: tuple[int, int]) -> Tensor:
    values = torch.from_numpy(seeded_array(f"amg/{name}", shape))
    return F.interpolate(values, sides, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("side", [1, 4, 32])
def test_grids_of_points_are_the_published_ones(side: int) -> None:
    points = cell_centres(np.array([[0, 0], [1, 1]]), (side, side))[:, ::-1]  # x, y
    np.testing.assert_array_equal(points, GOLDEN[f"grid_{side}"])


def test_crops_are_the_published_ones() -> None:
    crops = lay_crops(300, 500, 2, 512 / 1500)
    corners = [(*crop.start[:0:-1], *crop.stop[:0:-1]) for _, crop in crops]
    np.testing.assert_array_equal(corners, GOLDEN["crop_boxes_300x500"])
    assert [layer for layer, _ in crops] == GOLDEN["crop_layers_300x500"].tolist()


def test_measures_of_masks_are_the_published_ones() -> None:
    logits = 4 * field("logits", (6, 1, 6, 8), (60, 80))[:, 0]
    np.testing.assert_array_equal(stability_scores(logits, offset=1.0), GOLDEN["stability"])
    masks = logits > 0
    np.testing.assert_array_equal(count_voxels(masks), GOLDEN["area"])
    boxes = tight_boxes(masks).numpy()  # (6, 2, 2), rows first
    np.testing.assert_array_equal(boxes[..., ::-1].reshape(6, 4), GOLDEN["boxes"])
    assert run_lengths(masks[0].numpy()) == GOLDEN["run_lengths"].tolist()
    crop, whole = np.array([[10, 20], [70, 90]]), np.array([[0, 0], [80, 100]])
    at_edge = end_at_window(boxes, crop, whole, tolerance=20)
    np.testing.assert_array_equal(at_edge, GOLDEN["near_edge_crop_20_10_90_70"])


def test_run_lengths_go_down_the_columns_and_begin_with_background() -> None:
    mask = np.array([[0, 1, 1], [1, 1, 0]], dtype=bool)
    assert run_lengths(mask) == [1, 4, 1]
    assert run_lengths(~mask) == [0, 1, 4, 1]
    assert run_lengths(np.zeros((2, 3), dtype=bool)) == [6]


@pytest.mark.slow
def test_objects_of_an_image_are_those_of_the_published_program() -> None:
    with torch.device("meta"):
        model = build_model("sam_vit_b", image_size=256)
    assert isinstance(model, Sam2D)
    seed_weights(model.to_empty(device="cpu"))
    image = (255 * field("uint8", (1, 3, 12, 16), (96, 128))[0].sigmoid()).round() / 255
    generator = SliceMaskGenerator(
        model,
        points_per_side=3,
        crop_layers=1,
        crop_point_divisor=3,
        iou_threshold=-np.inf,
        stability_threshold=0.0,
        box_nms=1.0,
        crop_nms=1.0,
    )
    records = [one.record((96, 128)) for one in generator.generate(image)]
    assert len(records) == 27
    for name in ("bbox", "point_coords", "predicted_iou", "stability_score", "crop_box", "area"):
        found = np.array([record[name] for record in records])
        tolerance = {"predicted_iou": 1e-4, "area": 2}.get(name, 0)  # pixels at a logit of 0
        np.testing.assert_allclose(found, GOLDEN[f"e2e/{name}"], atol=tolerance, rtol=0)


def small_generator() -> SliceMaskGenerator:
    """Return one that keeps everything, of a network that gives 3 masks of 4 points."""
    return SliceMaskGenerator(
        small_sam2d(seed=1),
        points_per_side=2,
        iou_threshold=-np.inf,
        stability_threshold=0.0,
        stability_offset=0.01,  # its logits are small
        box_nms=1.0,
    )


def grey() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))


class Blobs(nn.Module):
    """Answers a point with three round masks around it, the first of which is estimated best."""

    image_size = 64

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.image_encoder = nn.Identity()

    def decode(
        self, image: Tensor, *, points: tuple[Tensor, Tensor], multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        assert multimask_output
        assert image.shape == (1, 3, 64, 64)
        centres = points[0][:, 0] / 4  # (P, 2)
        grid = torch.stack(torch.meshgrid(*[torch.arange(16.0) + 0.5] * 2, indexing="xy"))
        distance = (grid - centres[:, :, None, None]).norm(dim=1)[:, None]  # (P, 1, M, M)
        radii = torch.tensor([2.0, 1.5, 1.0])[:, None, None]
        return radii - distance, torch.tensor([0.9, 0.5, 0.3]).expand(len(centres), 3)


def test_masks_of_crops_lie_where_their_points_do_in_the_slice() -> None:
    shape = (120, 160)  # crops of the first layer have 80 rows and 100 columns
    generator = SliceMaskGenerator(
        Blobs(),  # type: ignore[arg-type]
        points_per_side=2,
        crop_layers=1,
        crop_point_divisor=2,
        iou_threshold=0.8,
        stability_threshold=0.0,
    )
    masks = generator.generate(torch.rand(shape, generator=torch.Generator().manual_seed(2)))
    starts = [(0, 0), (0, 40), (60, 0), (60, 40)]
    assert [one.crop for one in masks[:4]] == [(x, y, 100, 80) for x, y in starts]
    assert [one.point for one in masks[:4]] == [(x + 50, y + 40) for x, y in starts]
    assert {one.crop for one in masks[4:]} == {(0, 0, 160, 120)}
    assert {one.point for one in masks[4:]} == {(x, y) for x in (40, 120) for y in (30, 90)}
    for one in masks:
        rows, columns = np.nonzero(one.mask.dense(shape))
        middle = (columns.mean() + 0.5, rows.mean() + 0.5)
        assert middle == pytest.approx(one.point, abs=1.5)
        (x, y, width, height), scale = one.record(shape)["bbox"], one.crop[2] / 64
        assert (x + width / 2 + 0.5, y + height / 2 + 0.5) == pytest.approx(one.point, abs=2)
        assert np.sqrt(one.mask.num_voxels / np.pi) == pytest.approx(8 * scale, rel=0.1)


@pytest.mark.usefixtures("small_vit_b")
def test_every_point_has_three_answers_and_filters_drop_some() -> None:
    keeps_all = small_generator()
    masks = keeps_all.generate(grey())
    ious = sorted(one.iou for one in masks)
    assert len(masks) == 12
    assert {one.point for one in masks} == {(14, 10), (14, 30), (42, 10), (42, 30)}  # x, y
    assert {one.crop for one in masks} == {(0, 0, 56, 40)}
    middle = (ious[5] + ious[6]) / 2
    better = replace(keeps_all, iou_threshold=middle).generate(grey())
    assert sorted(one.iou for one in better) == ious[6:]
    stabilities = sorted(one.stability for one in masks)
    assert 0 < stabilities[3] < stabilities[4] < 1
    stable = replace(keeps_all, stability_threshold=stabilities[4]).generate(grey())
    assert sorted(one.stability for one in stable) == stabilities[4:]
    assert len(replace(keeps_all, box_nms=0.0).generate(grey())) < 12


@pytest.mark.usefixtures("small_vit_b")
def test_batches_and_colour_change_nothing() -> None:
    generator = small_generator()
    whole = [one.record(SHAPE) for one in generator.generate(grey())]
    assert [one.record(SHAPE) for one in generator.generate(grey().expand(3, -1, -1))] == whole
    batches = replace(generator, points_per_batch=3).generate(grey())
    for one, other in zip(batches, whole, strict=True):
        assert one.record(SHAPE)["point_coords"] == other["point_coords"]
        assert one.iou == pytest.approx(other["predicted_iou"], abs=1e-4)


@pytest.mark.usefixtures("small_vit_b")
def test_small_regions_go_and_the_box_follows() -> None:
    generator = small_generator()
    before, after = generator.generate(grey()), replace(generator, min_region=60).generate(grey())
    changed = 0
    for one, other in zip(before, after, strict=True):
        mask = other.mask.dense(SHAPE)
        assert other.mask.num_voxels == mask.sum()
        changed += not np.array_equal(one.mask.dense(SHAPE), mask)
    assert changed


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("feeding", "png", "unknown feeding 'png'"),
        ("points_per_side", 0, "points_per_side must be at least 1, got 0"),
        ("crop_layers", -1, "crop_layers must not be negative, got -1"),
        ("box_nms", 1.5, "box_nms must be from 0 to 1, got 1.5"),
    ],
)
def test_mistakes_are_told(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(small_generator(), **{name: value})
