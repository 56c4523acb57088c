"""3DSAM-adapter behind the predictor: clicks in, masks out, on the scan's own grid."""

import numpy as np
import pytest
import torch

from neurosam3d.inference import Predictor
from neurosam3d.inference.adapter_network import SILENT_LOGIT, AdapterNetwork
from neurosam3d.prompts import Prompts
from tests.inference.adapter_oracle import AdapterOracle, adapter_predictor
from tests.inference.oracle import ellipsoid, oblique
from tests.models.adapter3d_small import CROP, crop_of, small_adapter3d

PERMUTED = oblique((2.0, 0.7, 1.1), axes=(2, 0, 1), signs=(1, -1, -1))


def ask(network: AdapterNetwork, **prompts: torch.Tensor) -> torch.Tensor:
    return network.decode(network.encode(crop_of()), Prompts(**prompts)).logits


def test_logits_are_the_object_less_the_background() -> None:
    model = small_adapter3d()
    network = AdapterNetwork(model)
    points = torch.tensor([[[3.0, 8, 12], [4, 4, 2]], [[9, 1, 5], [2, 2, 2]]])
    labels = torch.tensor([[1, 1], [1, 0]])  # the last click lies outside, which it cannot know
    with torch.no_grad():
        image = crop_of().transpose(2, 4)  # slices first
        alone = [model(image, p[..., [2, 1, 0]]) for p in (points[:1], points[1:, :1])]
    expected = torch.cat([logits[:, 1:] - logits[:, :1] for logits in alone]).transpose(2, 4)
    found = ask(network, points=points, labels=labels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not found.requires_grad
    assert not model.training


def test_the_predictor_knows_it_by_its_class() -> None:
    predictor = Predictor(small_adapter3d(), None, None, "none")
    assert isinstance(predictor.network, AdapterNetwork)
    assert predictor.network.roi_size == (CROP,) * 3
    with pytest.raises(ValueError, match=f"roi_size must be the network's own {CROP}, got 32"):
        Predictor(small_adapter3d(), None, 32, "none")
    with pytest.raises(ValueError, match="a promptable network has a prompt_encoder, this Ad"):
        Predictor(small_adapter3d(prompt_free=True), None, None, "none")


def test_without_a_click_the_mask_tells_where_and_without_it_nothing_is_found() -> None:
    oracle = AdapterOracle(CROP)
    network = AdapterNetwork(oracle)  # type: ignore[arg-type]
    mask = torch.full((1, 1, CROP, CROP, CROP), -3.0)
    mask[0, 0, 2:9, 4:11, 6:13] = 2
    click = {"points": torch.tensor([[[1.0, 1, 1]]]), "labels": torch.tensor([[0]])}
    ask(network, mask=mask, **click)
    assert oracle.asked.pop()[0].tolist() == [[9, 7, 5]]  # slices first
    assert (ask(network, mask=mask * 0, **click) == SILENT_LOGIT).all()
    assert ask(network).shape == (1, 1, CROP, CROP, CROP)
    assert oracle.asked == []


def test_labels_are_told_to_a_network_that_learned_them() -> None:
    oracle = AdapterOracle(CROP, labelled_clicks=True)
    points = torch.tensor([[[1.0, 2, 3], [4, 5, 6], [0, 0, 0]]])
    network = AdapterNetwork(oracle)  # type: ignore[arg-type]
    ask(network, points=points, labels=torch.tensor([[1, 0, -1]]))
    ((found, labels),) = oracle.asked
    assert (found.tolist(), labels.tolist()) == ([[3, 2, 1], [6, 5, 4]], [1, 0])


@pytest.mark.parametrize("affine", [np.diag([-0.8, -1.2, 3.0, 1.0]), PERMUTED])
def test_an_oracle_returns_the_truth_over_several_windows(affine: np.ndarray) -> None:
    truth = ellipsoid((40, 44, 38), centre=(19, 22, 18), radii=(14, 15, 13))
    oracle = AdapterOracle(24)
    predictor = adapter_predictor(oracle, max_windows=100)
    predictor.set_image((truth.astype(np.float32), affine))
    prediction = predictor.predict(points=[[19, 22, 18], [2, 2, 2]], labels=[1, 0])
    np.testing.assert_array_equal(prediction.mask, truth)
    assert prediction.is_quiet
    assert all(len(points) > 0 for points, _ in oracle.asked)
    again = predictor.predict(points=[[19, 22, 18]])
    np.testing.assert_array_equal(again.mask, truth)
    assert oracle.num_encoded == prediction.num_windows  # all of them were kept


def test_an_embedding_is_as_large_as_all_of_its_parts() -> None:
    embedding = AdapterNetwork(small_adapter3d()).encode(crop_of())
    assert len(embedding.features) == 4
    assert embedding.nbytes == 4 * embedding.features[0].nbytes + 4 * CROP**3
