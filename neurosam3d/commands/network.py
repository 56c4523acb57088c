"""The network of a checkpoint, and how the verbs feed it: as in its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from neurosam3d.checkpoint_formats import read_checkpoint
from neurosam3d.checkpoints import load_model
from neurosam3d.inference import Predictor
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.models import Sam3D
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.recognise import Identity, identify, stored_values
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
        classes: Names of what it finds by itself; none of a promptable network.
    """

    name: str
    model: nn.Module
    checkpoint: Path
    spacing: Spacing | None
    intensity: str
    origin: str
    iou_trained: bool = False
    classes: tuple[str, ...] = ()

    @property
    def is_promptable(self) -> bool:
        """Whether it segments what prompts point at, or else the classes that it knows."""
        return takes_prompts(self.model)

    @property
    def crop_size(self) -> int | list[int]:
        """Voxels of its window: one side, or three along D, H, W."""
        side: Any = getattr(self.model, "image_size", None) or self.model.crop_size
        return side if isinstance(side, int) else list(side)

    def predictor(self, *, max_windows: int) -> Predictor:
        """Return what answers prompts with this network.

        Raises:
            ValueError: If it takes none, or the number of windows or the intensity preset is not
                allowed.
        """
        if not self.is_promptable:
            raise ValueError(
                f"prompts need a promptable network, got {self.name} in {self.checkpoint}, which "
                f"segments {', '.join(self.classes)} by itself"
            )
        return Predictor(self.model, self.spacing, None, self.intensity, max_windows=max_windows)

    def segmenter(self, *, overlap: float, mirror: bool) -> PromptFreeSegmenter:
        """Return what segments scans by itself with this network.

        Args:
            overlap: Share of a window's side that the next one covers, too.
            mirror: Average over the eight ways to mirror a window.

        Raises:
            ValueError: If it needs prompts, or the overlap or the intensity preset is not allowed.
        """
        if self.is_promptable:
            raise ValueError(
                f"segmenting without prompts needs a network that was trained to, got {self.name} "
                f"in {self.checkpoint}, which needs prompts"
            )
        return PromptFreeSegmenter(
            self.model,
            self.classes,
            spacing=self.spacing,
            intensity=self.intensity,
            overlap=overlap,
            mirror=mirror,
        )

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
    classes: Sequence[str] = (),
) -> Network:
    """Load a network and tell how to feed it.

    Args:
        checkpoint: A file of any kind that `neurosam3d inspect` recognises.
        name: The network, where the file does not say.
        spacing: Voxel size in mm, or "native" for each scan's own; by default that of its training.
        intensity: Preset of the intensities; by default that of its training.
        device: Where to compute; by default the first GPU, if there is one.
        image_size: Side of its window in voxels; by default that of its training.
        classes: Names of what it segments without prompts, where the file does not say.

    Raises:
        ValueError: If the file does not load, nobody says how its network is fed, or the device is
            unknown or not there.
    """
    place = find_device(device)
    content = read_checkpoint(checkpoint)
    identity = identify(content, name)
    model = load_model(checkpoint, name, image_size=image_size).to(place)
    asked: dict[str, Any] = {}
    if spacing is not None:
        asked["spacing"] = None if spacing == "native" else spacing
    if intensity is not None:
        asked["intensity"] = intensity
    feeding, origin = _feeding_of(model, identity, asked, checkpoint)
    side = feeding["spacing"]
    return Network(
        name=str(identity.name),
        model=model,
        checkpoint=checkpoint,
        spacing=None if side is None else (float(side[0]), float(side[1]), float(side[2])),
        intensity=feeding["intensity"],
        origin=origin,
        iou_trained=bool(stored_values(content.content).get("iou_loss_weight")),
        classes=() if takes_prompts(model) else _classes_of(identity, classes),
    )


def takes_prompts(model: nn.Module) -> bool:
    """Tell whether a network segments what prompts point at."""
    if isinstance(model, Adapter3D):
        return model.prompt_encoder is not None
    return isinstance(model, Sam3D)


def _feeding_of(
    model: nn.Module, identity: Identity, asked: Mapping[str, Any], checkpoint: Path
) -> tuple[Mapping[str, Any], str]:
    """Return voxel size and intensities that a network sees, and where they are from, in words.

    Raises:
        ValueError: If nobody says so.
    """
    family: Mapping[str, Any] = {}
    if isinstance(model, Sam3D):
        family = _NEUROSAM3D if identity.options.get("mask_stride") == 1 else _SAM_MED3D
    feeding = {**family, **identity.feeding, **asked}
    if missing := [key for key in ("spacing", "intensity") if key not in feeding]:
        raise ValueError(
            f"{checkpoint} does not say how {identity.name} was fed in its training, which differs "
            f"from data set to data set: give --{' and --'.join(missing)}"
        )
    if asked:
        return feeding, "asked"
    if feeding.keys() - identity.feeding.keys():
        return feeding, "the checkpoint does not say; as its family was trained"
    return feeding, "as in its training"


def _classes_of(identity: Identity, names: Sequence[str]) -> tuple[str, ...]:
    """Return names of the classes of a network; numbers, as in label maps, where none are known."""
    number = int(identity.options.get("num_classes", 2)) - 1
    numbered = (f"label_{value}" for value in range(1, number + 1))
    return identity.classes or tuple(names) or tuple(numbered)


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
