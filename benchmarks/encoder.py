"""Benchmark the image encoder and a click against their plain readings: ``python -m
benchmarks.encoder``.

One run measures everything, in turns, as multiples of one matrix product (see
`benchmarks.measure`).
"""

import argparse
import json
import sys

import torch
from torch.nn import functional as F

from benchmarks.measure import interleaved_minima, saved_megabytes
from benchmarks.plain_attention import plain_encoder
from neurosam3d.models import Sam3D, build_model
from neurosam3d.models.vit3d import ViT3D


def seeded_model(name: str, *, image_size: int, mask_stride: int) -> Sam3D:
    """Build a network whose position tables are not zero, as training leaves them."""
    torch.manual_seed(0)
    model = build_model(name, image_size=image_size, mask_stride=mask_stride)
    assert isinstance(model, Sam3D)
    for parameter_name, parameter in model.named_parameters():
        if "rel_pos" in parameter_name or "pos_embed" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def benchmark_encoder(name: str, *, image_size: int, repeats: int) -> dict[str, float]:
    """Compare the encoder with its plain reading: time, memory kept for the backward pass,
    equality.
    """
    model = seeded_model(name, image_size=image_size, mask_stride=4)
    encoder = model.image_encoder
    assert isinstance(encoder, ViT3D)
    image = torch.randn(1, 1, image_size, image_size, image_size)
    coords = torch.randint(0, image_size, (1, 3, 3))
    points = (coords, torch.ones(1, 3, dtype=torch.long))
    with torch.inference_mode():
        embedding = encoder(image)
        low_res = torch.randn(1, 1, *(model.mask_size,) * 3)
        difference = (embedding - plain_encoder(encoder, image)).abs().max()

        def click() -> torch.Tensor:
            return model.upsample(model.decode(embedding, points=points, masks=low_res)[0])

        def click_torch_upsample() -> torch.Tensor:
            logits, _ = model.decode(embedding, points=points, masks=low_res)
            return F.interpolate(logits, (image_size,) * 3, mode="trilinear")

        seconds = interleaved_minima(
            {
                "plain": lambda: plain_encoder(encoder, image),
                "encoder": lambda: encoder(image),
                "click": click,
                "click_torch_upsample": click_torch_upsample,
            },
            repeats=repeats,
        )
    training = interleaved_minima(
        {"training": lambda: encoder(image).square().mean().backward()}, repeats=repeats
    )
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    kept = saved_megabytes(lambda: encoder(image), parameters)
    kept_plain = saved_megabytes(lambda: plain_encoder(encoder, image), parameters)
    unit = seconds["gemm"]
    return {
        "gemm_seconds": round(unit, 4),
        "encoder_gemms": round(seconds["encoder"] / unit, 2),
        "plain_encoder_gemms": round(seconds["plain"] / unit, 2),
        "times_faster": round(seconds["plain"] / seconds["encoder"], 1),
        "encoder_forward_backward_gemms": round(training["training"] / training["gemm"], 2),
        "activations_mib": round(kept, 1),
        "plain_activations_mib": round(kept_plain, 1),
        "activations_fraction": round(kept / kept_plain, 4),
        "largest_difference": float(difference),
        "click_gemms": round(seconds["click"] / unit, 3),
        "click_torch_upsample_gemms": round(seconds["click_torch_upsample"] / unit, 3),
    }


def main() -> None:
    """Print one line of JSON per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_b_ori", help="network to measure")
    parser.add_argument("--image-size", type=int, default=128, help="side of the input in voxels")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; minima are reported")
    arguments = parser.parse_args()
    result = benchmark_encoder(
        arguments.model, image_size=arguments.image_size, repeats=arguments.repeats
    )
    json.dump({"model": arguments.model, "threads": torch.get_num_threads(), **result}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
