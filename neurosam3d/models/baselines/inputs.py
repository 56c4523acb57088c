"""What the images must be that a network of this room takes, checked before every forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

Sides = tuple[int, int, int]  # along D, H, W

CROP_SIZE: Sides = (64, 160, 160)  # voxels, of the 3DSAM-adapter's comparison (arXiv:2306.13465)


@dataclass(frozen=True)
class InputRule:
    """Shape of the images that a network takes.

    Attributes:
        in_channels: Channels of an image.
        crop_size: Sides of the crops that the network is built for, in voxels.
        step: Sides must be multiples of these.
        is_fixed: Some weights depend on the crop, so that no other size fits.

    Raises:
        ValueError: If ``crop_size`` is not three positive multiples of ``step``.
    """

    in_channels: int
    crop_size: Sides
    step: Sides
    is_fixed: bool = False

    def __post_init__(self) -> None:
        if not _divides(self.step, self.crop_size):
            raise ValueError(
                f"crop_size must be three positive multiples of {self.step}, got {self.crop_size}"
            )

    def __call__(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check the image of a forward pass, however it is handed over.

        Raises:
            ValueError: If it is not an image (B, C, D, H, W) that the network takes.
        """
        image, *_ = (*args, *kwargs.values())
        shape = tuple(image.shape)
        if self.is_fixed:
            fits = shape[1:] == (self.in_channels, *self.crop_size)
            rule = f"{self.crop_size}, the crop_size that the network was built for"
        else:
            fits = shape[1:2] == (self.in_channels,) and _divides(self.step, shape[2:])
            rule = f"multiples of {self.step}"
        if not fits:
            raise ValueError(
                f"an image must be (B, {self.in_channels}, D, H, W) with sides that are {rule}, "
                f"got {shape}"
            )


def rule_inputs(network: nn.Module, rule: InputRule) -> nn.Module:
    """Let a network refuse other images, and name its crop: ``network.crop_size``.

    A hook, since networks of libraries shall keep the names of their weights.
    """
    network.register_forward_pre_hook(rule, with_kwargs=True)
    network.crop_size = rule.crop_size  # type: ignore[assignment]
    return network


def to_sides(crop_size: Sequence[int]) -> Sides:
    """Return three sides as they come from a file.

    Raises:
        ValueError: If they are not three.
    """
    if len(crop_size) != 3:
        raise ValueError(f"crop_size must be three sides (D, H, W), got {tuple(crop_size)}")
    depth, height, width = crop_size
    return depth, height, width


def _divides(step: Sides, sides: Sequence[int]) -> bool:
    return len(sides) == 3 and all(
        side > 0 and side % unit == 0 for side, unit in zip(sides, step, strict=True)
    )
