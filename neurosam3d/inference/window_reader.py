"""Asking the network about one window: what of the prompts lies in it, and the time it takes.

Shapes: N points; D H W voxels of a window; M side of a mask prompt.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurosam3d.inference.embeddings import EmbeddingCache
from neurosam3d.inference.network import Embedding, PromptableNetwork, WindowAnswer
from neurosam3d.inference.object_prompts import PlacedPrompts
from neurosam3d.inference.opening import box_extent
from neurosam3d.inference.stopwatch import Stopwatch
from neurosam3d.inference.windows import Window
from neurosam3d.inference.working_scan import WorkingScan
from neurosam3d.prompts import Prompts, boxes_from_masks, distance_transform


class WindowReader:
    """Asks a network about windows of one scan.

    Args:
        network: Encodes and answers.
        scan: The scan.
        embeddings: Embeddings of the scan's windows.
    """

    def __init__(
        self, network: PromptableNetwork, scan: WorkingScan, embeddings: EmbeddingCache
    ) -> None:
        self.network = network
        self.scan = scan
        self.embeddings = embeddings
        self.clock = Stopwatch(network.device)

    def ask(
        self,
        window: Window,
        prompts: PlacedPrompts,
        mask: Tensor,
        *,
        seed: Tensor | None = None,
    ) -> WindowAnswer:
        """Decode a window with the points and the box that lie in it.

        Args:
            window: The window.
            prompts: All prompts of an object.
            mask: Mask prompt (1, 1, M, M, M).
            seed: A further point (3,) inside the object, in voxels of the window.

        Returns:
            The network's answer, its logits in the host's memory.
        """
        asked = replace(self._prompts_in(window, prompts), mask=mask)
        if seed is not None:
            asked = asked.add_click(seed[None, None], torch.ones(1, 1, dtype=torch.int64))
        embedding = self.embedding(window)
        with self.clock.timed("decode"):
            answer = self.network.decode(embedding, asked)
            return replace(answer, logits=answer.logits.float().cpu())

    def embedding(self, window: Window) -> Embedding:
        """Return the embedding of a window, computed if it is not kept."""

        def encode(window: Window) -> Embedding:
            image = self.scan.cut(window)
            with self.clock.timed("encode"):
                return self.network.encode(image)

        return self.embeddings.get(window, encode)

    def mask_prompt(self, logits: Tensor) -> Tensor:
        """Bring logits (D, H, W) of a window to the size of a mask prompt, (1, 1, M, M, M)."""
        return F.adaptive_avg_pool3d(logits[None, None], self.network.mask_size)

    def concerns(self, window: Window, prompts: PlacedPrompts) -> bool:
        """Tell whether a point or the box lies in a window."""
        asked = self._prompts_in(window, prompts)
        return asked.points is not None or asked.box is not None

    def _prompts_in(self, window: Window, prompts: PlacedPrompts) -> Prompts:
        """Return the points in a window and, if its middle is in it, the box, cut at its border."""
        places = self.scan.place(prompts.points, level=window.level)
        inside = window.holds(places)
        points = labels = box = None
        if inside.any():
            points = torch.from_numpy(places[inside] - window.start).float()[None]  # (1, N, 3)
            labels = torch.from_numpy(prompts.labels[inside])[None]
        if prompts.box is not None and self.network.takes_boxes:
            corners = np.stack(box_extent(prompts.box, self.scan, level=window.level))
            if window.holds(corners.mean(axis=0)[None])[0]:
                corners = np.clip(corners - window.start, 0, np.subtract(window.shape, 1))
                box = torch.from_numpy(corners).float()[None]  # (1, 2, 3)
        return Prompts(points, labels, box)


def deepest_voxel(mask: Tensor) -> Tensor | None:
    """Return the voxel (3,) of a mask (D, H, W) that lies furthest inside it, if there is any."""
    if not mask.any():
        return None
    corners = boxes_from_masks(mask[None, None])[0].int()  # (2, 3)
    d, h, w = (slice(low, high + 1) for low, high in corners.T.tolist())
    depths = distance_transform(mask[None, None, d, h, w])[0, 0]
    deepest = torch.unravel_index(depths.argmax(), depths.shape)
    return corners[0] + torch.stack(deepest)
