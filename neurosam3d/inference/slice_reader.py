"""The slices of a scan, as a network of slices is asked about them.

Shapes: N slices of H rows and W columns; n points, (x, y); X Y Z voxels of the working grid.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from neurosam3d.inference.embeddings import EmbeddingCache
from neurosam3d.inference.mask_prompt import MASK_LOGIT
from neurosam3d.inference.object_prompts import PlacedPrompts
from neurosam3d.inference.opening import box_extent
from neurosam3d.inference.slice_network import (
    SliceAnswer,
    SliceEmbedding,
    SliceNetwork,
    SlicePrompts,
)
from neurosam3d.inference.slice_stack import slab_window
from neurosam3d.inference.stopwatch import Stopwatch
from neurosam3d.inference.windows import Window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.models.sam2d_masks import Sides
from neurosam3d.slices import Axis, in_slice_order, points_to_slices, to_slices
from neurosam3d.volume import Volume, restore


class SliceReader:
    """Asks a network about slices of one scan.

    Args:
        network: Encodes and answers.
        scan: The scan.
        axis: What the slices are stacked along.
        embeddings: Embeddings of the scan's slices.
    """

    def __init__(
        self, network: SliceNetwork, scan: WorkingScan, axis: Axis, embeddings: EmbeddingCache
    ) -> None:
        self.network = network
        self.scan = scan
        self.axis: Axis = axis
        self.embeddings = embeddings
        self.clock = Stopwatch(network.device)
        self.num_slices, *sides = in_slice_order(scan.grid().shape, axis)
        self.sides: Sides = (sides[0], sides[1])

    def ask(self, number: int, prompts: SlicePrompts, mask: Tensor | None) -> SliceAnswer:
        """Decode a slice; see `SliceNetwork.decode`."""
        embedding = self.embeddings.get(self._window(number), lambda _: self._encode(number))
        with self.clock.timed("decode"):
            return self.network.decode(embedding, prompts, mask)

    def points_by_slice(self, prompts: PlacedPrompts) -> dict[int, SlicePrompts]:
        """Return the points of each slice that has any."""
        places = torch.from_numpy(self.scan.place(prompts.points))
        depths, points = points_to_slices(places, self.axis)
        numbers = self._nearest(depths.numpy())
        return {
            int(number): SlicePrompts(
                points[numbers == number].numpy(), prompts.labels[numbers == number]
            )
            for number in np.unique(numbers)
        }

    def boxes_by_slice(self, box: np.ndarray) -> dict[int, np.ndarray]:
        """Return the part (4,) of a box (2, 3) of the scan's voxels in each slice that it meets."""
        corners = torch.from_numpy(np.stack(box_extent(box, self.scan)))
        depths, points = points_to_slices(corners, self.axis)
        height, width = self.sides
        flat = np.clip(points.numpy(), 0, (width - 1, height - 1)).ravel()
        first, last = self._nearest(depths.numpy())
        return dict.fromkeys(range(first, last + 1), flat)

    def logits_by_slice(self, mask: Volume) -> dict[int, Tensor]:
        """Return the logits (H, W) of a mask prompt in each slice that it has foreground in."""
        known = restore(mask, self.scan.grid(), fill=-MASK_LOGIT)
        slices = to_slices(known.data.float(), self.axis)
        marked = (slices > 0).flatten(1).any(1).nonzero()[:, 0]
        return {number: slices[number] for number in marked.tolist()}

    def _window(self, number: int) -> Window:
        return slab_window(self.scan.grid().shape, self.axis, number, number)

    def _encode(self, number: int) -> SliceEmbedding:
        with self.clock.timed("encode"):
            return self.network.encode(self._slices[number])

    @cached_property
    def _slices(self) -> Tensor:
        """The normalised slices (N, H, W): what is measured for that is measured on all of them."""
        whole = Window((0, 0, 0), self.scan.grid().shape)
        return to_slices(self.scan.cut(whole)[0], self.axis)

    def _nearest(self, depths: np.ndarray) -> np.ndarray:
        """Return the slices (n,) that places (n,) along their axis lie in."""
        return np.clip(np.floor(depths + 0.5), 0, self.num_slices - 1).astype(int)
