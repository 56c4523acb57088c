"""Stored outputs of the published programs, and how a network is held against them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosam3d.models import Sam3D
from tests.reference.seeded import seeded_array

REFERENCE = Path(__file__).parent
TOLERANCE = 1e-4  # of the largest stored value, at least of 1


class Golden:
    """The stored outputs of one network.

    Args:
        file: A `golden_*.npz` of this folder.
        case: The network, as the entries' names begin.
    """

    def __init__(self, file: str, case: str) -> None:
        self.case = case
        self.arrays = np.load(REFERENCE / file)

    def input(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[f"{self.case}/inputs/{name}"]))

    def image(self) -> Tensor:
        return torch.from_numpy(seeded_array("input.image", (1, 1, *(self.image_size,) * 3)))

    def mask(self) -> Tensor:
        side = int(self.input("mask_side"))
        return torch.from_numpy(seeded_array("input.mask", (1, 1, side, side, side)))

    @property
    def image_size(self) -> int:
        return int(self.case.rpartition(".")[2])

    def holds(self, name: str) -> bool:
        return f"{self.case}/{name}/values" in self.arrays

    def check(self, name: str, tensor: Tensor) -> None:
        stored = {f: self.arrays[f"{self.case}/{name}/{f}"] for f in ("shape", "index", "values")}
        assert list(tensor.shape) == stored["shape"].tolist()
        tolerance = TOLERANCE * max(1, np.abs(stored["values"]).max())
        values = tensor.flatten().numpy()[stored["index"]]
        np.testing.assert_allclose(values, stored["values"], atol=tolerance, rtol=0, err_msg=name)

    def check_answers(self, model: Sam3D, embedding: Tensor) -> int:
        """Compare what every stored prompt gives; return how many there were."""
        coords, labels, box = (self.input(key) for key in ("points", "labels", "box"))
        prompts = {
            "point1": {"points": (coords[:, :1], labels[:, :1])},
            "points3": {"points": (coords, labels)},
            "points3_mask": {"points": (coords, labels), "masks": self.mask()},
            "mask_only": {"masks": self.mask()},
            "box": {"boxes": box},
            "box_points3": {"boxes": box, "points": (coords, labels)},
        }
        self.check("dense_pe", model.prompt_encoder.get_dense_pe())
        stored = [prompt for prompt in prompts if self.holds(f"{prompt}.dense")]
        for prompt in stored:
            sparse, dense = model.prompt_encoder(**prompts[prompt])
            if prompt != "mask_only":
                self.check(f"{prompt}.sparse", sparse)
            self.check(f"{prompt}.dense", dense)
            for suffix, multimask in (("", False), ("_multi", True)):
                logits, iou = model.decode(embedding, **prompts[prompt], multimask_output=multimask)
                self.check(f"{prompt}.low_res_masks{suffix}", logits)
                self.check(f"{prompt}.iou{suffix}", iou)
        return len(stored)
