import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
import pytest
import torch
from torch import Tensor

from neurosam3d.inference import Predictor
from neurosam3d.inference.automatic import AutomaticMaskGenerator
from neurosam3d.inference.automatic_result import AutomaticResult
from neurosam3d.inference.network import WindowAnswer
from neurosam3d.prompts import Prompts
from neurosam3d.volume import Triple
from tests.inference.oracle import dice, ellipsoid, oblique

SHAPE = (60, 44, 38)
AFFINES = {
    "LPS, anisotropic": np.diag([-0.8, -1.2, 3.0, 1.0]),
    "permuted": oblique((2.0, 0.7, 1.1), axes=(2, 0, 1), signs=(1, -1, -1)),
    "oblique": oblique((1.5, 1.5, 4.0), axes=(0, 1, 2), signs=(-1, 1, 1)),
}
BODY, FAINT, FLOOD = 1, 9, 8  # intensities: answered with nothing, near 0, and with everything


@dataclass
class ComponentNetwork:
    """Answers with the component of one intensity around a point, or under a mask prompt."""

    roi_size: Triple = (24, 20, 22)
    iou: float = 0.0
    num_encoded: int = 0
    batches: list[int] = field(default_factory=list)
    takes_boxes = False
    device = torch.device("cpu")

    @property
    def mask_size(self) -> Triple:
        return self.roi_size

    def encode(self, image: Tensor) -> Tensor:
        """Return intensities and numbers of the components, (1, 2, D, H, W)."""
        self.num_encoded += 1
        values = image[0, 0].round().int()
        labels = components(values.numpy())
        return torch.stack([values, torch.from_numpy(labels)])[None]

    def decode(self, embedding: Tensor, prompts: Prompts) -> WindowAnswer:
        values, labels = embedding[0]
        assert prompts.points is None or (prompts.labels == 1).all()
        if prompts.points is None:
            assert prompts.mask is not None
            chosen = [labels[prompts.mask[0, 0] > 0].unique()]
        else:
            chosen = [labels[tuple(voxel)] for voxel in (prompts.points[:, 0] + 0.5).int()]
        answers = torch.stack([self._answer(values, labels, numbers) for numbers in chosen])
        self.batches.append(len(answers))
        return WindowAnswer(
            answers[:, None], answers[:, None], torch.full((len(answers), 1), self.iou)
        )

    def _answer(self, values: Tensor, labels: Tensor, numbers: Tensor) -> Tensor:
        found = torch.isin(labels, numbers[numbers > 0])
        if (values[found] == FLOOD).any():
            found = torch.ones_like(found)
        height = torch.where(values == FAINT, 0.5, 8.0)
        return torch.where(found, height, -height)


def components(values: np.ndarray) -> np.ndarray:
    """Number the components of equal intensity above the body's, int32."""
    objects = np.where(values > BODY, values, 0).astype(np.int32)
    return cc3d.connected_components(objects, connectivity=6).astype(np.int32)


def ball(centre: Sequence[float], radius: float) -> np.ndarray:
    return ellipsoid(SHAPE, centre=centre, radii=(radius,) * 3)


OBJECTS = (
    (2, ball((14, 12, 9), 6.5)),
    (3, ball((14, 12, 9), 3.5)),  # takes the core of the first
    (4, ball((46, 31, 30), 5.5)),
    (5, ball((29, 24, 20), 6.0)),  # in the middle of the scan, where windows meet
    (6, ellipsoid(SHAPE, centre=(56, 20, 37), radii=(6, 5, 5))),  # cut by the scan's border
    (4, ball((14, 32, 28), 5.0)),  # of the same intensity as another
)


def plant(*objects: tuple[int, np.ndarray]) -> np.ndarray:
    """Return a scan of a body in air with objects of given intensities, later ones on top."""
    scan = np.zeros(SHAPE, dtype=np.float32)
    scan[2:58, 2:42] = BODY
    for value, mask in objects:
        scan[mask > 0] = value
    return scan


def numbered(scan: np.ndarray) -> np.ndarray:
    """Return the label map of a scan's objects, the largest first."""
    labels = components(scan)
    order = np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")
    number = np.zeros(len(order) + 1, dtype=int)
    number[1 + order] = np.arange(1, len(order) + 1)
    return number[labels]


def make_predictor(
    scan: np.ndarray,
    affine: np.ndarray = AFFINES["permuted"],
    network: ComponentNetwork | None = None,
    **options: object,
) -> Predictor:
    settings = {"spacing": None, "intensity": "none", "max_windows": 60, **options}
    predictor = Predictor(network or ComponentNetwork(), **settings)  # type: ignore[arg-type]
    predictor.set_image((scan, affine))
    return predictor


def make_generator(predictor: Predictor, **options: object) -> AutomaticMaskGenerator:
    settings = {"points_per_side": 5, "min_volume_mm3": 0, "min_region_mm3": 0, **options}
    return AutomaticMaskGenerator(predictor, **settings)  # type: ignore[arg-type]


def generate(predictor: Predictor, **options: object) -> AutomaticResult:
    return make_generator(predictor, **options).generate()


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_planted_objects_are_found_exactly(affine: np.ndarray, overlap: float) -> None:
    scan = plant(*OBJECTS)
    result = generate(make_predictor(scan, affine), overlap=overlap)
    assert result.label_map.dtype == np.uint16
    np.testing.assert_array_equal(result.label_map, numbered(scan))
    assert len(result.records) == len(OBJECTS)


def test_a_click_at_a_records_point_gives_its_mask() -> None:
    scan = plant(*OBJECTS)
    predictor = make_predictor(scan, AFFINES["oblique"], spacing=(1.7, 1.3, 2.9))
    result = generate(predictor)
    truth = numbered(scan)
    assert len(result.records) >= len(OBJECTS)
    for value in range(1, truth.max() + 1):
        best = max(result.records, key=lambda one: dice(one.mask.dense(SHAPE), truth == value))
        assert dice(best.mask.dense(SHAPE), truth == value) > 0.75
        clicked = predictor.predict(points=[best.point], labels=[1])
        np.testing.assert_array_equal(clicked.mask, result.mask(best.id))


def test_an_object_larger_than_a_window_grows_whole() -> None:
    rod = ellipsoid(SHAPE, centre=(30, 20, 18), radii=(26, 5, 4))
    scan = plant((2, rod), (3, ball((14, 35, 30), 4)))
    result = generate(make_predictor(scan, max_windows=20))
    np.testing.assert_array_equal(result.label_map, numbered(scan))
    assert result.records[0].num_windows > 1


def test_cut_objects_are_dropped_if_they_may_not_grow_or_do_not_end() -> None:
    rod = ellipsoid(SHAPE, centre=(30, 20, 18), radii=(26, 5, 4))
    scan = plant((2, rod), (3, ball((46, 33, 8), 3.5)))
    for result, reason in (
        (generate(make_predictor(scan), grow=False), "cut off"),
        (generate(make_predictor(scan, max_windows=1)), "open end"),
    ):
        np.testing.assert_array_equal(result.label_map, scan == 3)
        assert result.counts[reason] > 0


def test_answers_that_are_no_objects_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    scan = plant((FAINT, ball((20, 20, 15), 6)), (FLOOD, ball((45, 25, 20), 5)))
    result = generate(make_predictor(scan))
    assert not result.label_map.any()
    counts = result.counts
    assert min(counts["empty"], counts["unstable"], counts["whole window"]) > 0
    assert counts["empty"] + counts["unstable"] + counts["whole window"] == counts["points"]
    assert "no object found" in caplog.text
    assert "the most stable answer reaches 1.00" in caplog.text
    # With a small offset the faint object is as stable as any.
    assert len(generate(make_predictor(scan), stability_offset=0.1).records) == 1


def test_small_objects_are_dropped_by_their_volume() -> None:
    scan = plant(*OBJECTS)
    affine = AFFINES["LPS, anisotropic"]
    volumes = np.sort(np.bincount(components(scan).ravel())[1:])[::-1] * 0.8 * 1.2 * 3
    result = generate(make_predictor(scan, affine), min_volume_mm3=volumes[2] + 0.01)
    assert [one.volume_mm3 for one in result.records] == pytest.approx(volumes[:2])
    result = generate(make_predictor(scan, affine), min_volume_mm3=volumes[2] - 0.01)
    assert [one.volume_mm3 for one in result.records] == pytest.approx(volumes[:3])


def test_small_holes_are_filled_in_cubic_millimetres() -> None:
    whole = ball((30, 22, 20), 7)
    scan = plant((2, whole))
    scan[29:31, 22, 20] = BODY  # a hole of two voxels of 2.88 mm^3
    affine = AFFINES["LPS, anisotropic"]
    kept = generate(make_predictor(scan, affine), min_region_mm3=5.7)
    np.testing.assert_array_equal(kept.mask(1), scan == 2)
    filled = generate(make_predictor(scan, affine), min_region_mm3=5.8)
    np.testing.assert_array_equal(filled.mask(1), whole)


def test_as_much_is_encoded_and_decoded_as_was_estimated() -> None:
    network = ComponentNetwork()
    predictor = make_predictor(plant(*OBJECTS), network=network)
    generator = make_generator(predictor, points_per_batch=7, grow=False)
    estimate = generator.estimate()
    assert network.num_encoded == 2  # the first is not timed; both are kept for the run
    assert network.batches == [7, 7]
    assert estimate.encode_s > 0
    assert estimate.decode_s > 0
    total = estimate.num_windows * estimate.encode_s + estimate.num_points * estimate.decode_s
    assert estimate.seconds == pytest.approx(total)
    network.batches.clear()
    result = generator.generate()
    assert network.num_encoded == estimate.num_windows == result.counts["windows"]
    asked, finished = (
        network.batches[: estimate.num_batches],
        network.batches[estimate.num_batches :],
    )
    assert sum(asked) == estimate.num_points == result.counts["points"]
    assert max(asked) == 7
    assert finished == [1] * len(result.records)


def test_a_batch_is_answered_as_one_by_one() -> None:
    scan = plant(*OBJECTS)
    one_by_one = generate(make_predictor(scan), points_per_batch=1)
    batched = generate(make_predictor(scan), points_per_batch=50)
    assert [one.to_dict() for one in one_by_one.records] == [
        one.to_dict() for one in batched.records
    ]
    np.testing.assert_array_equal(one_by_one.label_map, batched.label_map)


def test_batches_are_as_large_as_memory_allows() -> None:
    coarse, fine = ComponentNetwork(), ComponentNetwork(roi_size=(128, 128, 128))
    assert make_generator(Predictor(coarse, intensity="none")).batch_size == 64
    assert make_generator(Predictor(fine, intensity="none")).batch_size == 1


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    generator = make_generator(make_predictor(plant(*OBJECTS)), points_per_batch=40)
    estimate = generator.estimate()
    generator.generate(progress=lambda *step: told.append(step))
    asking = [step for step in told if step[0] == "asking"]
    finishing = [step for step in told if step[0] == "finishing"]
    assert told == asking + finishing
    assert len(asking) == estimate.num_batches
    assert asking[-1] == ("asking", estimate.num_points, estimate.num_points)
    assert [done for _, done, _ in finishing] == list(range(1, finishing[0][2] + 1))


def test_one_generator_serves_one_scan_after_the_other() -> None:
    predictor = make_predictor(plant(OBJECTS[0]))
    generator = make_generator(predictor)
    assert len(generator.generate().records) == 1
    predictor.set_image((plant(*OBJECTS[2:4])[:40], AFFINES["oblique"]))
    np.testing.assert_array_equal(
        generator.generate().label_map, components(plant(OBJECTS[3])[:40]) > 0
    )


def test_the_networks_own_estimate_counts_only_if_it_is_trained() -> None:
    scan = plant(*OBJECTS[:1])
    untrained = generate(make_predictor(scan, network=ComponentNetwork(iou=0.1)))
    assert untrained.records[0].predicted_iou is None
    assert untrained.settings["iou_threshold"] is None
    good = ComponentNetwork(iou=0.9)
    trained = generate(make_predictor(scan, network=good), iou_trained=True)
    assert trained.records[0].predicted_iou == pytest.approx(0.9)
    assert trained.settings["iou_threshold"] == 0.88
    bad = generate(make_predictor(scan, network=replace(good, iou=0.88)), iou_trained=True)
    assert bad.records == ()
    assert bad.counts["low IoU"] > 0


def test_an_untrained_estimate_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    predictor = make_predictor(plant(*OBJECTS[:1]), network=ComponentNetwork(iou=0.5))
    with caplog.at_level(logging.WARNING):
        generator = make_generator(predictor, iou_threshold=0.4)
    assert "iou_threshold is 0.4, but this network is not known to have learned" in caplog.text
    assert generator.generate().records[0].predicted_iou == 0.5
    caplog.clear()
    make_generator(predictor, iou_threshold=0.4, iou_trained=True)
    assert caplog.text == ""


def test_settings_and_times_go_with_the_result() -> None:
    result = generate(make_predictor(plant(*OBJECTS)), box_nms=0.6)
    assert result.settings["box_nms"] == 0.6
    assert result.settings["roi_size"] == [24, 20, 22]
    assert result.settings["intensity"] == "none"
    assert "predictor" not in result.settings
    json.dumps(result.settings)
    assert set(result.seconds) == {"encode", "decode", "restore"}
    assert result.counts["objects"] == len(result.records)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": 0}, "points_per_side must be at least 1, got 0"),
        ({"points_per_batch": -1}, "points_per_batch must be at least 1, got -1"),
        ({"overlap": 1.0}, "overlap must be from 0 to less than 1, got 1.0"),
        ({"stability_threshold": 1.5}, "stability_threshold must be from 0 to 1, got 1.5"),
        ({"mask_nms": float("nan")}, "mask_nms must be from 0 to 1, got nan"),
        ({"max_contained": 2}, "max_contained must be from 0 to 1, got 2"),
        ({"min_region_mm3": -3}, "min_region_mm3 must not be negative, got -3"),
    ],
)
def test_mistakes_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_generator(make_predictor(plant()), **options)


def test_a_scan_must_have_been_given() -> None:
    predictor = Predictor(ComponentNetwork(), intensity="none")
    with pytest.raises(ValueError, match="set_image must give the predictor a scan first"):
        make_generator(predictor).generate()
