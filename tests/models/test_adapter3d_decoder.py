"""The decoder of 3DSAM-adapter against a plain reading, and against the published program."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neurosam3d.models.adapter3d_decoder import MultiLevelDecoder, doubled_conv3d
from tests.models.adapter3d_small import randomise


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)


@pytest.mark.parametrize("sides", [(3, 4, 5), (1, 2, 6)])
def test_convolution_of_a_doubled_volume_and_its_gradients(sides):
    torch.manual_seed(1)
    x = torch.randn(2, 6, *sides, dtype=torch.float64)
    weight = torch.randn(8, 6, 3, 3, 3, dtype=torch.float64)
    outputs, gradients = [], []
    for convolve in (doubled_conv3d, lambda a, b: F.conv3d(doubled(a), b, padding=1)):
        inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
        outputs.append(convolve(*inputs))
        outputs[-1].square().sum().backward()
        gradients.append([tensor.grad for tensor in inputs])
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def plain_decoder(
    decoder: MultiLevelDecoder, features: list[Tensor], image: Tensor, size: tuple[int, int, int]
) -> Tensor:
    part = dict(decoder.named_parameters())

    def convolve(x: Tensor, name: str) -> Tensor:
        return F.conv3d(x, part[f"{name}.weight"], padding=1)

    def activate(x: Tensor) -> Tensor:
        axes = (2, 3, 4)
        variance = x.var(axes, unbiased=False, keepdim=True)
        return F.relu((x - x.mean(axes, keepdim=True)) / (variance + 1e-5).sqrt())

    levels = []
    for index, x in enumerate(features, 2):
        for layer in (0, 3):
            x = activate(convolve(x, f"mlahead.head{index}.{layer}"))
        levels.append(doubled(x))
    sides = levels[0].shape[2:]
    image = F.interpolate(image, sides, mode="trilinear", align_corners=False)
    x = convolve(activate(convolve(torch.cat([*levels, image], dim=1), "cls.0")), "cls.3")
    return F.interpolate(x, size, mode="trilinear", align_corners=True)


@pytest.mark.parametrize("training", [True, False])
def test_decoder_equals_plain_reading(training):
    decoder = randomise(MultiLevelDecoder(8, num_classes=3)).double().train(training)
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(2, 8, 2, 3, 4, generator=generator).double() for _ in range(4)]
    image = torch.randn(2, 1, 8, 12, 16, generator=generator).double()
    expected = plain_decoder(decoder, features, image, (9, 10, 11))
    assert expected.shape == (2, 3, 9, 10, 11)
    torch.testing.assert_close(decoder(features, image, size=(9, 10, 11)), expected)
