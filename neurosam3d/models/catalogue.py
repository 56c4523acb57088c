"""What is to be known of each network before one is chosen: its make, its cost, its public weights.

The costs are counted by ``python -m benchmarks.model_costs``, which says how.
"""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from neurosam3d.models import SAM2D, SAMED, list_models
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS
from neurosam3d.models.baselines.inputs import Sides
from neurosam3d.models.dinov2_config import SIZES as DINOV2_SIZES
from neurosam3d.models.hiera3d import HIERA3D_CONFIGS
from neurosam3d.models.sam2d_encoder import SAM2D_CONFIGS
from neurosam3d.models.vit3d import VIT3D_CONFIGS


@dataclass(frozen=True)
class PublicWeights:
    """Weights that anyone can get.

    Attributes:
        title: What their authors call them.
        url: The page from which they are downloaded.
        licence: Their licence.
        part: What of the network they fill.
        remark: What to know before.
    """

    title: str
    url: str
    licence: str
    part: str = "whole network"
    remark: str = ""


@dataclass(frozen=True)
class DecoderCosts:
    """What prompting and training cost for one image, with one of the two decoders.

    Attributes:
        click_gflops: Operations of a click, decoder and upsampling, in units of 10^9.
        forward_mib: Most memory of a forward pass at a time, beside weights and image.
        step_mib: What a training step of 11 clicks keeps for its backward pass, beside weights and
            optimizer.
    """

    click_gflops: float
    forward_mib: float
    step_mib: float


@dataclass(frozen=True)
class Costs:
    """What a network costs for one image.

    Attributes:
        image_size: Side of the image in voxels or pixels.
        parameters: Parameters in all, with SAM-Med3D's decoder.
        encoder_parameters: Those of the image encoder.
        encoder_gflops: Operations of the encoder, in units of 10^9.
        decoders: The rest by mask stride: 4 for SAM-Med3D's decoder, 1 for NeuroSAM3D's. Of
            3DSAM-adapter, whose only decoder works at the image's resolution, it is at 1; of the
            networks of slices at 4.
    """

    image_size: int
    parameters: int
    encoder_parameters: int
    encoder_gflops: float
    decoders: dict[int, DecoderCosts]


@dataclass(frozen=True)
class CropCosts:
    """What a network without prompts costs for one crop.

    Attributes:
        crop_size: Sides of the crop in voxels.
        parameters: Parameters in all.
        gflops: Operations of a forward pass, in units of 10^9.
        forward_mib: Most memory of a forward pass at a time, beside weights and image.
        step_mib: What a training step keeps for its backward pass, beside weights, optimizer and
            loss.
    """

    crop_size: Sides
    parameters: int
    gflops: float
    forward_mib: float
    step_mib: float


Family = Literal["sam3d", "adapter3d", "sam2d"]


@dataclass(frozen=True)
class Entry:
    """A network with an image encoder and a mask decoder, most of them promptable.

    Attributes:
        name: As `build_model` knows it.
        family: What it segments, and how: windows of scans as SAM-Med3D does, crops of scans as
            3DSAM-adapter does, or slices.
        encoder: Kind of its image encoder, width in channels x number of blocks.
        costs: What it costs.
        weights: Public weights that fit, if any.
    """

    name: str
    family: Family
    encoder: str
    costs: Costs
    weights: PublicWeights | None = None


@dataclass(frozen=True)
class BaselineEntry:
    """A network without prompts of the catalogue.

    Attributes:
        name: As `build_model` knows it.
        title: What its authors call it.
        paper: Where they describe it: a number of arXiv, or else a title.
        costs: What it costs.
        weights: Public weights that fit, if any.
    """

    name: str
    title: str
    paper: str
    costs: CropCosts
    weights: PublicWeights | None = None


PAPERS = {
    "swin_unetr": ("Swin UNETR", "2201.01266"),
    "unetr": ("UNETR", "2103.10504"),
    "3d_uxnet": ("3D UX-Net", "2209.15076"),
    "nnformer": ("nnFormer", "2109.03201"),
    "unetr++": ("UNETR++", "2212.04497"),
    "transbts": ("TransBTS", "2103.04430"),
    "nnunet_resenc": ("nnU-Net, residual encoder", "2404.09556"),
    "nnunet_plain": ("nnU-Net", "1904.08128"),
    "mednext_s": ("MedNeXt-S", "2303.09975"),
    "mednext_b": ("MedNeXt-B", "2303.09975"),
    "mednext_m": ("MedNeXt-M", "2303.09975"),
    "mednext_l": ("MedNeXt-L", "2303.09975"),
    "segresnet": ("SegResNet", "1810.11654"),
    "segresnet_ds": ("SegResNet of Auto3DSeg", "1810.11654"),
    "swin_unetr_v2": ("Swin UNETR-V2", "MICCAI 2023"),
}
SAM = "https://github.com/facebookresearch/segment-anything"
PUBLIC_WEIGHTS = {
    **{
        f"sam_vit_{size}": PublicWeights(f"SAM ViT-{size.upper()}", url=SAM, licence="Apache-2.0")
        for size in "blh"
    },
    "medsam_vit_b": PublicWeights(
        "MedSAM", url="https://github.com/bowang-lab/MedSAM", licence="Apache-2.0"
    ),
    "sam_med2d_vit_b": PublicWeights(
        "SAM-Med2D", url="https://github.com/OpenGVLab/SAM-Med2D", licence="Apache-2.0"
    ),
    **{
        name: PublicWeights(
            title,
            url="https://github.com/hitachinsk/SAMed",
            licence="MIT",
            part="LoRA, prompts and decoder",
            remark="to be loaded after SAM's; 8 organs in CT",
        )
        for name, title in (
            ("samed_vit_b", "SAMed"),
            ("samed_vit_h", "SAMed_h"),
            ("samed_s_vit_b", "SAMed_s"),
        )
    },
    **{
        f"adapter3d_vit_{size}": PublicWeights(
            f"SAM ViT-{size.upper()}",
            url=SAM,
            licence="Apache-2.0",
            part="image encoder",
            remark="all but the adapters and necks, which are to be trained",
        )
        for size in "blh"
    },
    "vit_b_ori": PublicWeights(
        "SAM-Med3D-turbo",
        url="https://huggingface.co/blueyo0/SAM-Med3D",
        licence="Apache-2.0",
        remark="mask_stride 4",
    ),
    "dinov2": PublicWeights(
        "3DINO-ViT",
        url="https://huggingface.co/AICONSlab/3DINO-ViT",
        licence="CC BY-NC-ND 4.0",
        part="image encoder",
        remark="terms to accept, no commercial use",
    ),
    "swin_unetr": PublicWeights(
        "model_swinvit.pt",
        url="https://monai.io/research/swin-unetr",
        licence="licence not stated",
        part="Swin encoder",
        remark="in_channels 1, feature_size 48",
    ),
}


def catalogue() -> list[Entry | BaselineEntry]:
    """Return every network of `list_models`, in its order."""
    file = resources.files("neurosam3d.models") / "costs.json"
    counted = json.loads(file.read_text(encoding="utf-8"))
    return [_read_entry(name, counted[name]) for name in list_models()]


def _read_entry(name: str, counted: dict[str, Any]) -> Entry | BaselineEntry:
    weights = PUBLIC_WEIGHTS.get(name)
    if name not in PAPERS:
        return Entry(name, _family(name), _describe(name), _read_costs(counted), weights)
    title, paper = PAPERS[name]
    costs = CropCosts(**{**counted, "crop_size": tuple(counted["crop_size"])})
    return BaselineEntry(name, title, paper, costs, weights)


def _read_costs(counted: dict[str, Any]) -> Costs:
    decoders = {int(stride): DecoderCosts(**d) for stride, d in counted["decoders"].items()}
    return Costs(**{**counted, "decoders": decoders})


def _family(name: str) -> Family:
    if name in SAM2D or name in SAMED:
        return "sam2d"
    return "adapter3d" if name in ADAPTER3D_CONFIGS else "sam3d"


def _describe(name: str) -> str:
    """Name an encoder's kind, its width and the number of its blocks."""
    if _family(name) == "sam2d":
        slices = SAM2D_CONFIGS[name[-len("vit_b") :]]
        return f"ViT {slices.dim} x {slices.depth}"
    if name in ADAPTER3D_CONFIGS:
        adapted = ADAPTER3D_CONFIGS[name]
        return f"ViT {adapted.dim} x {adapted.depth}"
    if name in HIERA3D_CONFIGS:
        hiera = HIERA3D_CONFIGS[name]
        return f"Hiera {hiera.dims[0]}-{hiera.dims[-1]} x {sum(hiera.depths)}"
    if name in VIT3D_CONFIGS:
        vit = VIT3D_CONFIGS[name]
        return f"ViT {vit.dim} x {vit.depth}"
    dim, depth, _ = DINOV2_SIZES["vit_large_3d"]  # the shipped default
    return f"DINOv2 {dim} x {depth}"
