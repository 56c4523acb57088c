"""The network of a checkpoint, and how the verbs feed it: as in its training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoints import load_model
from neurosam3d.inference import Predictor
from neurosam3d.models import Sam3D
from neurosam3d.recognise import identify, stored_values
from neurosam3d.volume import Spacing

# How the published families were trained, for files that do not say so: SAM-Med3D's masks are
# coarser than its images by mask_stride 4, NeuroSAM3D's are not.
_SAM_MED3D = {"spacing": (1.5, 1.5, 1.5), "intensity": "sam_med3d"}
_NEUROSAM3D = {"spacing": None, "intensity": "neurosam3d"}

Native = Literal["native"]


@dataclass(frozen=True, eq=False)
class Network:
    """A network with its weights.

    Args:
        name: Its name in `list_models()`.
        model: The network, in evaluation mode.
        checkpoint: Where its weights are from.
        spacing: Voxel size in mm at which it sees scans; None for their own.
        intensity: Preset of the intensities.
        origin: Where these two are from, in words.
        iou_trained: Whether it has learned to estimate the IoU of its masks.
    """

    name: str
    model: nn.Module
    checkpoint: Path
    spacing: Spacing | None
    intensity: str
    origin: str
    iou_trained: bool = False

    def predictor(self, *, max_windows: int) -> Predictor:
        """Return what answers prompts with this network.

        Raises:
            ValueError: If the number of windows or the intensity preset is not allowed.
        """
        return Predictor(self.model, self.spacing, None, self.intensity, max_windows=max_windows)

    def __str__(self) -> str:
        if self.spacing is None:
            seen = "the scan's own spacing"
        else:
            seen = f"{' x '.join(f'{side:g}' for side in self.spacing)} mm"
        feeding = f"{seen}, intensities {self.intensity} ({self.origin})"
        return f"{self.name} from {self.checkpoint}: {feeding}"


def load_network(
    checkpoint: Path,
    *,
    name: str | None = None,
    spacing: Spacing | Native | None = None,
    intensity: str | None = None,
    device: str | None = None,
    image_size: int | None = None,
) -> Network:
    """Load a network and tell how to feed it.

    Args:
        checkpoint: A file of any kind that `neurosam3d inspect` recognises.
        name: The network, where the file does not say.
        spacing: Voxel size in mm, or "native" for each scan's own; by default that of its training.
        intensity: Preset of the intensities; by default that of its training.
        device: Where to compute; by default the first GPU, if there is one.
        image_size: Side of its window in voxels; by default that of its training.

    Raises:
        ValueError: If the file does not load, its network does not take SAM-Med3D's prompts, or the
            device is unknown or not there.
    """
    place = find_device(device)
    content = read_checkpoint(checkpoint)
    identity = identify(content, name)
    model = load_model(checkpoint, name, image_size=image_size).to(place)
    if not isinstance(model, Sam3D):
        raise ValueError(
            f"the network must take prompts as SAM-Med3D does, got {identity.name} in {checkpoint}"
        )
    family = _NEUROSAM3D if identity.options.get("mask_stride") == 1 else _SAM_MED3D
    feeding: Mapping[str, Any] = {**family, **identity.feeding}
    origin = "as in its training"
    if family.keys() - identity.feeding.keys():
        origin = "the checkpoint does not say; as its family was trained"
    if spacing is not None:
        feeding, origin = {**feeding, "spacing": None if spacing == "native" else spacing}, "asked"
    if intensity is not None:
        feeding, origin = {**feeding, "intensity": intensity}, "asked"
    side = feeding["spacing"]
    return Network(
        name=str(identity.name),
        model=model,
        checkpoint=checkpoint,
        spacing=None if side is None else (float(side[0]), float(side[1]), float(side[2])),
        intensity=feeding["intensity"],
        origin=origin,
        iou_trained=bool(stored_values(content.content).get("iou_loss_weight")),
    )


def find_device(name: str | None) -> torch.device:
    """Return a device by its name; without one, the first GPU if there is one.

    Raises:
        ValueError: If it is unknown or not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device must be there, for example cpu or cuda:0: {reason}") from error
