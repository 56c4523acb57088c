"""Count what every network costs and store it: ``python -m benchmarks.model_costs``.

Nothing is computed: the networks run on tensors without data (torch's FakeTensorMode), which pass
through the same operators as on a CPU. So the figures are the same on every machine, and the
largest network takes no memory.

- Operations: torch's FlopCounterMode counts matrix products, convolutions and attention, two for a
  multiplication and an addition. It does not know the CPU's fused attention; that is counted by the
  formula which it has for the GPU's.
- Memory of a forward pass: the most bytes of tensors alive at a time, input and weights left out.
- Memory of a training step: the bytes that autograd keeps for the backward pass (`measure`).

What kernels need inside and what an allocator rounds up is not in these.
"""

import argparse
import json
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.flops import flop_counter
from benchmarks.measure import saved_megabytes
from neurosam3d.models import (
    BASELINES,
    SAM2D,
    SAMED,
    Sam2D,
    Sam3D,
    Samed,
    build_model,
    list_models,
)
from neurosam3d.models.adapter3d import Adapter3D
from neurosam3d.models.adapter3d_encoder import ADAPTER3D_CONFIGS
from neurosam3d.models.sam2d_prompts import MASK_STRIDE
from neurosam3d.training.early_gradient import take_gradient

NUM_CLICKS = 11  # of a training step, as the recipes have it
ADAPTER3D_CLICKS = 30  # likewise, as published
MASK_STRIDES = (4, 1)  # SAM-Med3D's decoder, NeuroSAM3D's
ENCODER_KEYS = ("image_size", "parameters", "encoder_parameters", "encoder_gflops")
COSTS = Path(str(resources.files("neurosam3d.models") / "costs.json"))


class LiveBytes(TorchDispatchMode):
    """Follows the memory of the tensors that operators return.

    Args:
        given: Storages, by `_cdata`, that were there before; views of them count nothing.

    Attributes:
        peak: The most bytes that were alive at a time.
    """

    def __init__(self, given: Iterable[int]) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known = set(given)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and watch what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def count_network(name: str) -> dict[str, Any]:
    """Count a network in the form in which `neurosam3d.models.catalogue` reads it."""
    if name in BASELINES:
        return count_baseline(name)
    if name in ADAPTER3D_CONFIGS:
        return count_adapter3d(name)
    if name in SAM2D or name in SAMED:
        return count_sam2d(name)
    counts = {stride: count_costs(name, mask_stride=stride) for stride in MASK_STRIDES}
    of_network = {key: counts[MASK_STRIDES[0]][key] for key in ENCODER_KEYS}
    of_decoders = {
        str(stride): {key: count[key] for key in count if key not in ENCODER_KEYS}
        for stride, count in counts.items()
    }
    return {**of_network, "decoders": of_decoders}


def count_costs(name: str, *, fake: bool = True, **overrides: Any) -> dict[str, float]:
    """Count parameters, operations and memory of a network for one image.

    Args:
        name: One of `list_models()`.
        fake: Run on tensors without data; False computes, which gives the same.
        **overrides: As `build_model` takes them.
    """
    with torch.device("meta" if fake else "cpu"):
        model = build_model(name, **overrides)
    assert isinstance(model, Sam3D)
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        if fake:
            _lay_out(model)
        image = torch.zeros(1, 1, *(model.image_size,) * 3)
        model.eval()
        with torch.no_grad():
            with flop_counter() as of_encoder:
                embeddings = model.image_encoder(image)
            with flop_counter() as of_click:
                model.upsample(_decode(model, embeddings, num_points=1))
            del embeddings
            given = _storages(image, *model.parameters(), *model.buffers())
            with LiveBytes(given) as live:
                model.upsample(_decode(model, model.image_encoder(image), num_points=1))
        # MONAI's loss asks for values; nothing of any loss is kept but its gradient.
        kept = saved_megabytes(
            lambda: play_session(model.train(), image, Tensor.sum), _storages(*model.parameters())
        )
    return {
        "image_size": model.image_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in model.image_encoder.parameters()),
        "encoder_gflops": round(of_encoder.get_total_flops() / 1e9, 2),
        "click_gflops": round(of_click.get_total_flops() / 1e9, 2),
        "forward_mib": round(live.peak / 2**20, 1),
        "step_mib": round(kept, 1),
    }


def count_adapter3d(name: str, *, fake: bool = True, **overrides: Any) -> dict[str, Any]:
    """Count parameters, operations and memory of a 3DSAM-adapter for one crop.

    A click is all that comes after the encoder, and a training step has all its clicks at once.

    Args:
        name: A key of ``ADAPTER3D_CONFIGS``.
        fake: Run on tensors without data; False computes, which gives the same.
        **overrides: As `build_model` takes them.
    """
    with torch.device("meta" if fake else "cpu"):
        model = build_model(name, **overrides)
    assert isinstance(model, Adapter3D)
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        if fake:
            _lay_out(model)
        image = torch.zeros(1, 1, *(model.crop_size,) * 3)
        clicks = None if model.prompt_encoder is None else torch.zeros(1, ADAPTER3D_CLICKS, 3)
        click = None if clicks is None else clicks[:, :1]
        model.eval()
        with torch.no_grad():
            with flop_counter() as of_encoder:
                features = model.encode(image)
            with flop_counter() as of_click:
                model.decode(features, image, click)
            del features
            with LiveBytes(_storages(image, *model.parameters(), *model.buffers())) as live:
                model(image, click)
        kept = saved_megabytes(
            lambda: model.train()(image, clicks).sum(), _storages(*model.parameters())
        )
    decoder = {
        "click_gflops": round(of_click.get_total_flops() / 1e9, 2),
        "forward_mib": round(live.peak / 2**20, 1),
        "step_mib": round(kept, 1),
    }
    return {
        "image_size": model.crop_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in model.image_encoder.parameters()),
        "encoder_gflops": round(of_encoder.get_total_flops() / 1e9, 2),
        "decoders": {"1": decoder},
    }


def count_sam2d(name: str, *, fake: bool = True, **overrides: Any) -> dict[str, Any]:
    """Count parameters, operations and memory of a network of slices for one slice.

    A click, and a training step's only one, is a point with a previous mask; of SAMed, which takes
    no prompts, all that comes after the encoder.

    Args:
        name: One of `SAM2D` or `SAMED`.
        fake: Run on tensors without data; False computes, which gives the same.
        **overrides: As `build_model` takes them.
    """
    with torch.device("meta" if fake else "cpu"):
        model = build_model(name, **overrides)
    assert isinstance(model, Sam2D | Samed)
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        if fake:
            _lay_out(model)
        image = torch.zeros(1, 3, model.image_size, model.image_size)
        learning = [p for p in model.parameters() if p.requires_grad]
        model.eval().requires_grad_(False)  # torch's counter trips over views of what learns
        with torch.no_grad():
            with flop_counter() as of_encoder:
                embeddings = model.image_encoder(image)
            with flop_counter() as of_click:
                _segment_slice(model, embeddings)
            del embeddings
            with LiveBytes(_storages(image, *model.parameters(), *model.buffers())) as live:
                _segment_slice(model, model.image_encoder(image))
        for parameter in learning:
            parameter.requires_grad_(True)
        if isinstance(model, Sam2D):
            model.freeze_unreachable(
                points=True, boxes=False, masks=True, multimask=False, iou=False
            )
        model.train()
        kept = saved_megabytes(
            lambda: _segment_slice(model, model.image_encoder(image)).sum(),
            _storages(*model.parameters()),
        )
    decoder = {
        "click_gflops": round(of_click.get_total_flops() / 1e9, 2),
        "forward_mib": round(live.peak / 2**20, 1),
        "step_mib": round(kept, 1),
    }
    return {
        "image_size": model.image_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in model.image_encoder.parameters()),
        "encoder_gflops": round(of_encoder.get_total_flops() / 1e9, 2),
        "decoders": {str(MASK_STRIDE): decoder},
    }


def count_baseline(name: str, *, fake: bool = True, **overrides: Any) -> dict[str, Any]:
    """Count parameters, operations and memory of a network without prompts for one crop.

    Args:
        name: One of `BASELINES`.
        fake: Run on tensors without data; False computes, which gives the same.
        **overrides: As `build_model` takes them.
    """
    with torch.device("meta" if fake else "cpu"):
        model = build_model(name, **overrides)
    crop_size: Any = model.crop_size
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        if fake:
            _lay_out(model)
        image = torch.zeros(1, 1, *crop_size)
        model.eval()
        with torch.no_grad():
            with flop_counter() as of_pass:
                model(image)
            given = _storages(image, *model.parameters(), *model.buffers())
            with LiveBytes(given) as live:
                model(image)
        kept = saved_megabytes(
            lambda: model.train()(image).sum(), _storages(*model.parameters(), *model.buffers())
        )
    return {
        "crop_size": list(crop_size),
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflops": round(of_pass.get_total_flops() / 1e9, 2),
        "forward_mib": round(live.peak / 2**20, 1),
        "step_mib": round(kept, 1),
    }


def _lay_out(model: nn.Module) -> None:
    """Move a network to the CPU without data, layers that have two names once."""
    for module in model.modules():
        module.to_empty(device="cpu", recurse=False)


def _storages(*tensors: Tensor) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def _decode(model: Sam3D, embeddings: Tensor, *, num_points: int) -> Tensor:
    """Ask for one mask by points and a previous mask, as in every round of a session."""
    points = (torch.zeros(1, num_points, 3), torch.ones(1, num_points, dtype=torch.long))
    previous = torch.zeros(1, 1, *(model.mask_size,) * 3)
    return model.decode(embeddings, points=points, masks=previous)[0]


def _segment_slice(model: Sam2D | Samed, embeddings: Tensor) -> Tensor:
    """Return logits at the slice's side."""
    if isinstance(model, Samed):
        return model.decode(embeddings)["masks"]
    points = (torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.long))
    previous = torch.zeros(1, 1, model.mask_size, model.mask_size)
    return model.upsample(model.decode(embeddings, points=points, masks=previous)[0])


def play_session(model: Sam3D, image: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the loss of a training step, in each of whose rounds one click is added.

    Args:
        model: The network.
        image: (1, 1, S, S, S).
        loss_of: Maps a round's logits (1, 1, S, S, S) to a scalar.
    """
    model.freeze_unreachable(boxes=False, mask_always_given=True, multimask=False, iou=False)
    embeddings = model.image_encoder(image)
    losses = []
    for number in range(NUM_CLICKS):
        low_res = _decode(model, embeddings, num_points=number + 1)
        losses.append(take_gradient(loss_of(model.upsample(low_res)), low_res))
    return torch.stack(losses).mean()


def main() -> None:
    """Count every network and write the package's data."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    costs = {name: count_network(name) for name in list_models()}
    COSTS.write_text(f"{json.dumps(costs, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
