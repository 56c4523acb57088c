"""Clicks in 3DSAM-adapter: where they are read, what they change, and the published outputs."""

import pytest
import torch
from torch import Tensor, nn

from neurosam3d.models.adapter3d_decoder import MultiLevelDecoder
from neurosam3d.models.adapter3d_prompts import VisualPromptEncoder, sample_features
from tests.models.adapter3d_small import randomise
from tests.reference.golden import Golden
from tests.reference.seeded import seed_weights, seeded_array

CROP = (24, 32, 40)
GOLDEN = Golden("golden_adapter3d.npz", "adapter3d.128")


def seeded_prompt_encoder() -> VisualPromptEncoder:
    encoder = seed_weights(VisualPromptEncoder(256))
    for name, parameter in encoder.named_parameters():
        if name.endswith("global_query"):
            seeded = torch.from_numpy(seeded_array(name, tuple(parameter.shape)))
            parameter.data = 0.5 * seeded
    return encoder


def test_features_are_read_at_the_centres_of_voxels():
    features = torch.zeros(1, 1, 3, 4, 5)
    features[0, 0, 1, 2, 3] = 1  # the token of voxels (8..15, 16..23, 24..31)
    between = torch.tensor([[[11, 19, 27], [12, 20, 28], [7, 19, 27]]])
    sampled = sample_features(features, between, crop=CROP)[0, :, 0]
    # Half a voxel beside the token's centre on every axis; then 4.5 voxels before it on one.
    torch.testing.assert_close(
        sampled,
        torch.tensor([15 / 16, 15 / 16, 7 / 16]).pow(torch.tensor([3.0, 3.0, 1.0]))
        * torch.tensor([1, 1, (15 / 16) ** 2]),
    )


def test_clicks_far_outside_read_nothing():
    features = torch.ones(1, 2, 3, 4, 5)
    points = torch.tensor([[[-5, 0, 0], [0, 36, 0], [0, 0, 50], [0, 31, 39], [-2, 16, 20]]])
    sampled = sample_features(features, points, crop=CROP)[0, :, 0]
    assert sampled[:3].tolist() == [0, 0, 0]
    assert sampled[3] == pytest.approx((9 / 16) ** 3)
    assert sampled[4] == pytest.approx(5 / 16)


def test_positions_stay_exact_in_half_precision():
    features = torch.arange(192.0).expand(1, 1, 2, 2, -1)
    points = torch.tensor([[[64, 64, 2]]])
    sampled = sample_features(features.bfloat16(), points, crop=(128, 128, 192))
    assert sampled.dtype == torch.bfloat16
    assert sampled.item() == 2


def test_clicks_are_a_set_and_each_counts():
    encoder = randomise(VisualPromptEncoder(16))
    features = torch.randn(1, 16, 3, 4, 5)
    points = torch.tensor([[[3, 5, 7], [20, 30, 2], [9, 9, 33]]])
    given = points.clone()
    out = encoder(features, points, crop=CROP)
    assert torch.equal(points, given)
    torch.testing.assert_close(encoder(features, points[:, [2, 0, 1]], crop=CROP), out)
    assert (encoder(features, points[:, :2], crop=CROP) - out).abs().max() > 1e-3


def test_what_published_weights_have_for_nothing_is_neither_computed_nor_trained():
    encoder = randomise(VisualPromptEncoder(16))
    features, points = torch.randn(1, 16, 3, 4, 5), torch.tensor([[[3, 5, 7]]])
    before = encoder(features, points, crop=CROP)
    before.sum().backward()
    unused = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert unused == [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert unused == [name for name in dict(encoder.named_parameters()) if "token_to_image" in name]
    for name, tensor in encoder.state_dict().items():
        if name in unused or name == "positional_encoding_gaussian_matrix":
            nn.init.constant_(tensor, torch.nan)
    assert torch.equal(encoder(features, points, crop=CROP), before)


def test_what_is_not_a_point_changes_nothing():
    encoder = randomise(VisualPromptEncoder(16))
    features = torch.randn(2, 16, 3, 4, 5)
    points = torch.tensor([[[3, 5, 7], [20, 30, 2], [9, 9, 33]]]).expand(2, -1, -1)
    labels = torch.tensor([[1, -1, 1], [1, 1, 1]])
    out = encoder(features, points, labels, crop=CROP)
    torch.testing.assert_close(out[:1], encoder(features[:1], points[:1, [0, 2]], crop=CROP))
    torch.testing.assert_close(out[1:], encoder(features[1:], points[1:], crop=CROP))
    nothing = encoder(features[:1], points[:1], torch.full((1, 3), -1), crop=CROP)
    assert (nothing - out[:1]).abs().max() > 1e-3


def test_labels_are_learnt_from_zero():
    plain, labelled = VisualPromptEncoder(16), VisualPromptEncoder(16, labelled_clicks=True)
    assert set(labelled.state_dict()) - set(plain.state_dict()) == {"label_embedding"}
    features = torch.randn(1, 16, 3, 4, 5)
    points, labels = torch.tensor([[[3, 5, 7], [20, 30, 2]]]), torch.tensor([[1, 0]])
    labelled.load_state_dict(plain.state_dict(), strict=False)
    before = labelled(features, points, labels, crop=CROP)
    torch.testing.assert_close(before, plain(features, points, crop=CROP))
    labelled(features, points, labels, crop=CROP).square().sum().backward()
    assert labelled.label_embedding.grad.abs().amin(1).gt(0).all()


def test_a_label_is_its_vector_and_without_labels_all_clicks_are_on_the_object():
    encoder = randomise(VisualPromptEncoder(16, labelled_clicks=True))
    features = torch.randn(1, 16, 3, 4, 5)
    points = torch.tensor([[[3, 5, 7], [20, 30, 2]]])
    outs = [
        encoder(features, points, torch.tensor([labels]), crop=CROP)
        for labels in ([1, 1], [1, 0], [0, 1])
    ]
    torch.testing.assert_close(encoder(features, points, crop=CROP), outs[0])
    assert min((outs[a] - outs[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-3


@pytest.mark.parametrize(
    ("labelled", "label", "message"),
    [
        (False, 0, r"among \[-1, 1\] without labelled_clicks, got \[0, 1\]"),
        (True, 2, r"among \[-1, 0, 1\] with labelled_clicks, got \[1, 2\]"),
    ],
)
def test_unknown_labels_are_refused(labelled, label, message):
    encoder = VisualPromptEncoder(16, labelled_clicks=labelled)
    features, points = torch.randn(1, 16, 3, 4, 5), torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match=message):
        encoder(features, points, torch.tensor([[1, label]]), crop=CROP)


def published_features() -> list[Tensor]:
    shape = (1, 256, 6, 8, 10)
    names = [f"adapter3d/small/feature{level}" for level in range(4)]
    return [torch.from_numpy(seeded_array(name, shape)) for name in names]


@pytest.mark.parametrize("clicks", ["three", "one", "outside"])
@torch.no_grad()
def test_outputs_of_the_published_prompt_encoder(clicks):
    points = GOLDEN.input(f"small/clicks_{clicks}")[None][..., [1, 2, 0]]
    prompted = seeded_prompt_encoder()(published_features()[3], points, crop=CROP)
    GOLDEN.check(f"small/prompted_{clicks}", prompted)


@pytest.mark.parametrize(
    ("scale", "name"),
    [(1, "scale1"), (2, "scale2"), (4, "scale4"), (2, "auto")],
)
@torch.no_grad()
def test_outputs_of_the_published_decoder(scale, name):
    features = published_features()
    if name != "auto":
        points = GOLDEN.input("small/clicks_three")[None][..., [1, 2, 0]]
        features[3] = seeded_prompt_encoder()(features[3], points, crop=CROP)
    image = torch.from_numpy(seeded_array("adapter3d/small/image", (1, 1, 12, 16, 20)))
    size = (12 * scale, 16 * scale, 20 * scale)
    logits = seed_weights(MultiLevelDecoder(256))(features, image, size=size)
    GOLDEN.check(f"small/logits_{name}", logits.permute(0, 1, 4, 2, 3))
