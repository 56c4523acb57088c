"""The network of a checkpoint, and how the verbs feed it: as in its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from neurosam3d.checkpoint_formats import Checkpoint, read_checkpoint
from neurosam3d.checkpoints import load_model
from neurosam3d.inference import Predictor
from neurosam3d.inference.prompt_free import PromptFreeSegmenter
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.slice_predictor import SlicePredictor
from neurosam3d.inference.slice_segmenter import SliceSegmenter, Unprompted
from neurosam3d.models import Sam2D, Sam3D, Samed
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.recognise import Identity, identify, stored_values
from neurosam3d.slices import Axis
from neurosam3d.volume import Spacing

# How the published families were trained, for files that do not say so: SAM-Med3D's masks are
# coarser than its images by mask_stride 4, NeuroSAM3D's are not.
_SAM_MED3D = {"spacing": (1.5, 1.5, 1.5), "intensity": "sam_med3d"}
_NEUROSAM3D = {"spacing": None, "intensity": "neurosam3d"}
# SAMed on Synapse (arXiv:2304.13785), from slices that had been reduced.
_SAMED = {"spacing": None, "intensity": "clip -125 275", "detail": 224}
# SAM, SAM-Med2D and MedSAM, which saw images of all kinds, as far as scans are not CT.
_SAM = {"spacing": None, "intensity": "medsam"}

OVERLAP = 0.5  # of the windows of networks without prompts

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
        axis: Of a network of slices: what they are stacked along.
        detail: Likewise: side in pixels to which slices are reduced first; None if they are not.
        base: Where the weights are from that the checkpoint lacks.
        style: Of a promptable network of slices: a name in `FEEDINGS`.
    """

    name: str
    model: nn.Module
    checkpoint: Path
    spacing: Spacing | None
    intensity: str
    origin: str
    iou_trained: bool = False
    classes: tuple[str, ...] = ()
    axis: Axis = "axial"
    detail: int | None = None
    base: Path | None = None
    style: str = "sam"

    @property
    def is_of_slices(self) -> bool:
        """Whether it looks at single slices of a scan."""
        return isinstance(self.model, Sam2D | Samed)

    @property
    def feeding(self) -> dict[str, Any]:
        """How it sees scans, in plain values; a spacing of None is the scan's own."""
        feeding: dict[str, Any] = {"spacing": self.spacing, "intensity": self.intensity}
        if self.is_of_slices:
            own = {"feeding": self.style} if self.is_promptable else {"detail": self.detail}
            feeding |= {"axis": self.axis, **own}
        return feeding

    @property
    def is_promptable(self) -> bool:
        """Whether it segments what prompts point at, or else the classes that it knows."""
        return takes_prompts(self.model)

    @property
    def crop_size(self) -> int | list[int]:
        """Voxels of its window: one side, or three along D, H, W."""
        side: Any = getattr(self.model, "image_size", None) or self.model.crop_size
        return side if isinstance(side, int) else list(side)

    def predictor(self, *, max_windows: int) -> ScanPredictor:
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
        if isinstance(self.model, Sam2D):
            return SlicePredictor(
                self.model,
                feeding=self.style,
                spacing=self.spacing,
                intensity=self.intensity,
                axis=self.axis,
            )
        return Predictor(self.model, self.spacing, None, self.intensity, max_windows=max_windows)

    def segmenter(
        self, *, overlap: float | None = None, mirror: bool = False, smooth: bool | None = None
    ) -> Unprompted:
        """Return what segments scans by itself with this network.

        Args:
            overlap: Share of a window's side that the next one covers, too; by default `OVERLAP`.
            mirror: Average over the eight ways to mirror a window.
            smooth: Of a network of slices: bring logits back to the slice, not labels as published;
                by default it does.

        Raises:
            ValueError: If it needs prompts, a value is not allowed, or it has no place for one.
        """
        if self.is_promptable:
            raise ValueError(
                f"segmenting without prompts needs a network that was trained to, got {self.name} "
                f"in {self.checkpoint}, which needs prompts"
            )
        if self.is_of_slices:
            if overlap is not None or mirror:
                raise ValueError(
                    f"overlap and mirror are for networks of windows, got {self.name} in "
                    f"{self.checkpoint}, which sees one slice after the other"
                )
            return SliceSegmenter(
                self.model,
                self.classes,
                spacing=self.spacing,
                intensity=self.intensity,
                axis=self.axis,
                detail=self.detail,
                smooth=smooth is not False,
            )
        if smooth is not None:
            raise ValueError(
                f"smooth is for networks of slices, got {self.name} in {self.checkpoint}"
            )
        return PromptFreeSegmenter(
            self.model,
            self.classes,
            spacing=self.spacing,
            intensity=self.intensity,
            overlap=OVERLAP if overlap is None else overlap,
            mirror=mirror,
        )

    def __str__(self) -> str:
        if self.spacing is None:
            seen = "the scan's own spacing"
        else:
            seen = f"{' x '.join(f'{side:g}' for side in self.spacing)} mm"
        if self.is_of_slices:
            seen += f", {self.axis} slices"
            seen += "" if self.detail is None else f" reduced to {self.detail} pixels"
        feeding = f"{seen}, intensities {self.intensity} ({self.origin})"
        files = self.checkpoint if self.base is None else f"{self.base} and {self.checkpoint}"
        return f"{self.name} from {files}: {feeding}"


def load_network(
    checkpoint: Path,
    *,
    name: str | None = None,
    spacing: Spacing | Native | None = None,
    intensity: str | None = None,
    device: str | None = None,
    image_size: int | None = None,
    classes: Sequence[str] = (),
    base: Path | None = None,
    axis: Axis | None = None,
    detail: int | None = None,
    style: str | None = None,
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
        base: Another file with the weights that the checkpoint lacks: SAM's beside SAMed's.
        axis: Of a network of slices: what they are stacked along; by default as in its training.
        detail: Likewise: side in pixels to which slices are reduced first, 0 for none; by default
            as in its training.
        style: Of a promptable network of slices: how they are fed, a name in `FEEDINGS`; by default
            as in its training.

    Raises:
        ValueError: If a file does not load or lacks weights, nobody says how its network is fed, or
            the device is unknown or not there.
    """
    place = find_device(device)
    content = read_checkpoint(checkpoint)
    identity = identify(content, name)
    _require_whole(content, identity, base)
    model = load_model(checkpoint, name, image_size=image_size, base=base).to(place)
    asked: dict[str, Any] = {}
    if spacing is not None:
        asked["spacing"] = None if spacing == "native" else spacing
    if intensity is not None:
        asked["intensity"] = intensity
    of_slices = {"axis": axis, "detail": detail, "feeding": style}
    asked |= {key: value or None for key, value in of_slices.items() if value is not None}
    _require_slices(model, asked, checkpoint)
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
        classes=() if takes_prompts(model) else _classes_of(model, identity, classes),
        axis=feeding.get("axis", "axial"),
        detail=feeding.get("detail"),
        base=base,
        style=feeding.get("feeding", "sam"),
    )


def takes_prompts(model: nn.Module) -> bool:
    """Tell whether a network segments what prompts point at."""
    if isinstance(model, Adapter3D):
        return model.prompt_encoder is not None
    return isinstance(model, Sam3D | Sam2D)


def _require_whole(checkpoint: Checkpoint, identity: Identity, base: Path | None) -> None:
    """Refuse a file that leaves most of its network random.

    Raises:
        ValueError: If it does and there is no other file with the rest.
    """
    if base is None and checkpoint.format.is_partial:
        raise ValueError(
            f"{checkpoint.path} ({checkpoint.format.name}) holds a part of "
            f"{identity.name or 'a network'} without what lies beneath: give --base, a file with "
            "those weights, or put both into one by neurosam3d convert --base"
        )


def _require_slices(model: nn.Module, asked: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse what only a network of slices has."""
    kind = type(model).__name__
    if "axis" in asked and not isinstance(model, Sam2D | Samed):
        raise ValueError(f"--axis is for networks of slices, got {kind} in {checkpoint}")
    if "detail" in asked and not isinstance(model, Samed):
        raise ValueError(
            f"--detail is for networks of slices without prompts, got {kind} in {checkpoint}"
        )
    if "feeding" in asked and not isinstance(model, Sam2D):
        raise ValueError(
            "--feeding is for networks of slices that take prompts, got "
            f"{type(model).__name__} in {checkpoint}"
        )


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
    elif isinstance(model, Samed) and not identity.feeding:
        family = _SAMED
    elif isinstance(model, Sam2D):
        family = {**_SAM, "feeding": _style_of(identity)}
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


def _style_of(identity: Identity) -> str:
    """Return how a promptable network of slices is fed, a name in `FEEDINGS`."""
    families = ("medsam", "sam_med2d", "sam")
    return next(family for family in families if str(identity.name).startswith(family))


def _classes_of(model: nn.Module, identity: Identity, names: Sequence[str]) -> tuple[str, ...]:
    """Return names of the classes of a network; numbers, as in label maps, where none are known."""
    # SAMed counts the classes beside the background, all others count that, too.
    known = identity.options.get("num_classes", 2)
    number = model.num_classes if isinstance(model, Samed) else int(known) - 1
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
