"""Files of a segmented scan: label map, what its numbers mean, and a mask for each object.

A label map cannot name its objects, so `X.json` is written beside `X.nii.gz`: a file of prompts
that asks for the same objects again, with what came of each. DICOM-SEG names its segments itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosam3d.files import replacing
from neurosam3d.inference.dicom_seg import SUFFIX as DICOM_SUFFIX
from neurosam3d.inference.dicom_seg import ImageSeries, write_dicom_seg
from neurosam3d.inference.object_prompts import ObjectPrompts
from neurosam3d.inference.segmented import SegmentedScan
from neurosam3d.version import __version__
from neurosam3d.volume import Volume, write_volume
from neurosam3d.volume_io import WRITABLE

TARGETS = (*WRITABLE, DICOM_SUFFIX)

_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Origin:
    """How masks were made, for those who find them later.

    Args:
        network: Name of the network.
        settings: Whatever else is worth knowing, as plain values: its checkpoint, for example.
    """

    network: str
    settings: Mapping[str, Any]


def suffix_of(path: Path) -> str:
    """Return the suffix of a file that masks can be written to.

    Raises:
        ValueError: If it has none of these.
    """
    name = path.name.lower()
    found = [suffix for suffix in TARGETS if name.endswith(suffix)]
    if not found:
        raise ValueError(f"masks are written to {', '.join(TARGETS)}, got {path}")
    return max(found, key=len)


def stem_of(path: Path) -> str:
    """Return the name of such a file without its suffix.

    Raises:
        ValueError: As `suffix_of`.
    """
    return path.name[: -len(suffix_of(path))]


def sidecar_of(path: Path) -> Path:
    """Return the file that says what the numbers of a label map mean."""
    return path.with_name(f"{stem_of(path)}.json")


def write_scan(
    scan: SegmentedScan,
    path: Path,
    *,
    image: Path,
    origin: Origin,
    series: ImageSeries | None = None,
    separate: bool = False,
) -> list[Path]:
    """Write what belongs to a label map, then that; every file appears whole or not at all.

    Args:
        scan: What was found.
        path: The label map, ending as `TARGETS`. Its affine and, in NIfTI, its space are the
            image's.
        image: The scan's file or DICOM folder.
        origin: How it was made.
        series: The image's DICOM series, for DICOM-SEG.
        separate: Write a mask for each object, too, named after it. There objects keep the voxels
            that others have in the label map.

    Returns:
        The files, the label map first.

    Raises:
        ValueError: If the format cannot hold the numbers or its suffix is unknown.
    """
    suffix = suffix_of(path)
    names = [one.name for one in scan.objects]

    def write(values: np.ndarray, meanings: list[str], target: Path) -> Path:
        if suffix != DICOM_SUFFIX:
            like = image if image.name.lower().endswith(_NIFTI) else None
            labels = Volume(torch.from_numpy(values)[None], scan.volume.affine)
            write_volume(labels, target, like=like)
            return target
        assert series is not None
        write_dicom_seg(
            target,
            values,
            names=meanings,
            grid=scan.volume.grid,
            series=series,
            network=origin.network,
            parameters={key: str(value) for key, value in origin.settings.items()},
            is_automatic=all(one.prompts is None for one in scan.objects),
        )
        return target

    files = []  # the label map comes last: where it is, nothing is missing
    if scan.automatic is not None:
        files += scan.automatic.save_records(path)
    elif suffix != DICOM_SUFFIX:
        files.append(_write_sidecar(scan, path, image=image, origin=origin))
    if separate:
        for one, target in zip(scan.objects, _separate_files(path, names), strict=True):
            mask = one.mask.dense(scan.volume.shape).astype(np.uint8)
            files.append(write(mask, [one.name], target))
    return [write(scan.label_map.values, names, path), *files]


def _separate_files(path: Path, names: list[str]) -> list[Path]:
    """Name a file for each object, also where names differ only in signs that files cannot have."""
    safe = [re.sub(r"[^\w.+-]+", "_", name) for name in names]
    numbered = [
        f"{name}_{number}" if [one.lower() for one in safe].count(name.lower()) > 1 else name
        for number, name in enumerate(safe, start=1)
    ]
    return [path.with_name(f"{stem_of(path)}_{name}{suffix_of(path)}") for name in numbered]


def _write_sidecar(scan: SegmentedScan, path: Path, *, image: Path, origin: Origin) -> Path:
    made_by = {
        "image": str(image),
        "label_map": path.name,
        "overlap": scan.overlap,
        "network": origin.network,
        **origin.settings,
        "neurosam3d": __version__,
    }
    results = zip(scan.objects, scan.label_map.voxel_counts, scan.volumes_ml(), strict=True)
    objects = [
        {
            "name": one.name,
            **_plain(one.prompts or ObjectPrompts()),
            "result": {
                "value": value,
                "voxels": voxels,
                "volume_ml": round(volume_ml, 3),
                "windows": one.num_windows,
                "complete": one.is_quiet,
            },
        }
        for value, (one, voxels, volume_ml) in enumerate(results, start=1)
    ]
    # A line for each entry and object: people look values up in it.
    entries = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in made_by.items()]
    listed = ",\n    ".join(map(json.dumps, objects))
    text = ",\n  ".join([*entries, f'"objects": [\n    {listed}\n  ]'])
    sidecar = sidecar_of(path)
    with replacing(sidecar) as partial:
        partial.write_text(f"{{\n  {text}\n}}\n", encoding="utf-8")
    return sidecar


def _plain(prompts: ObjectPrompts) -> dict[str, Any]:
    """Return prompts as a file of prompts has them; masks that are no files are left out."""
    given: dict[str, Any] = {}
    if prompts.points is not None:
        given["points"] = np.asarray(prompts.points).tolist()
    if prompts.labels is not None:
        given["labels"] = np.asarray(prompts.labels).tolist()
    if prompts.box is not None:
        given["box"] = np.asarray(prompts.box).tolist()
    if isinstance(prompts.mask, str | Path):
        given["mask"] = str(Path(prompts.mask).absolute())
    return {**given, "world": True} if prompts.world else given
