"""How slices of prepared scans, with their labels, become what a network of slices sees.

Shapes: H W rows and columns of a slice; S side of the network's image, C its channels: 1 or 3.
"""

from dataclasses import dataclass

from torch import Tensor

from neurosam3d.intensity import get_preset
from neurosam3d.slice_feeding import find_feeding
from neurosam3d.slice_zoom import zoom_labels, zoom_slices

SAMED = "samed"  # the feeding that `SliceSegmenter` has; the others are of promptable networks


@dataclass(frozen=True)
class SliceFeed:
    """How slices become what the network sees.

    Args:
        feeding: samed: scaled to S along each axis, whatever the slice's sides are. Others are
            those of promptable networks, see `neurosam3d.slice_feeding`.
        img_size: Side S of the network's image in pixels.
        detail: Side in pixels to which slices are reduced first, as SAMed's training data were;
            None keeps all that a scan shows. For samed only.

    Raises:
        ValueError: If the feeding is unknown, or a number is not allowed.
    """

    feeding: str = SAMED
    img_size: int = 512
    detail: int | None = None

    def __post_init__(self) -> None:
        if self.feeding != SAMED:
            find_feeding(self.feeding)
            if self.detail is not None:
                raise ValueError(f"detail is for feeding {SAMED}, got {self.feeding!r}")
        for name, side in (("img_size", self.img_size), ("detail", self.detail)):
            if side is not None and side < 1:
                raise ValueError(f"{name} is a positive number of pixels, got {side}")

    def reduce(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Take from a slice (H, W) and its label (H, W) what the network shall not see."""
        if self.detail is None:
            return image, label
        sides = (self.detail, self.detail)
        return zoom_slices(image, sides), zoom_labels(label, sides)

    def fit(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Bring a slice (H, W) and its label (H, W) to the network's (C, S, S) and (1, S, S)."""
        if self.feeding == SAMED:
            sides = (self.img_size, self.img_size)
            return zoom_slices(image, sides)[None], zoom_labels(label, sides)[None]
        feeding = find_feeding(self.feeding)
        fitted = feeding.frame.fit(label[None, None].float(), self.img_size, mode="nearest")
        return feeding.image(image[None, None], self.img_size)[0], fitted[0].to(label.dtype)


def require_same_in_parts(intensity: str) -> None:
    """Refuse intensities that a slice by itself would have otherwise than its scan.

    Raises:
        ValueError: If they are such, or unknown.
    """
    if not get_preset(intensity).is_pointwise:
        raise ValueError(
            "the intensities of slices must not depend on what else is seen, as those of "
            f"'clip LOW HIGH', neurosam3d or zscore; got {intensity!r}"
        )
