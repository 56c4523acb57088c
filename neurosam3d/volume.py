"""Volumes on their voxel grids: the one place that knows affines.

A `Volume` is a tensor and the affine that maps its voxel indices (d, h, w) to RAS+ millimetres. A
`Grid` is the same without voxels. Whatever is done to a volume, its affine follows, so a result on
any derived grid can be put back onto the grid it came from:

    scan = read_volume("scan.nii.gz")
    crop = crop_or_pad(resample(to_canonical(scan), (1.5, 1.5, 1.5)), (128, 128, 128))
    ...                                                  # a mask on the crop's grid
    write_volume(restore(mask, scan.grid, mode="nearest"), "mask.nii.gz")

Shapes: C channels; D H W the file's own axes I J K.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from neurosam3d.separable import is_separable, sample_linearly
from neurosam3d.volume_io import (
    checked_affine,
    read_array,
    read_header,
    write_array,
)

logger = logging.getLogger(__name__)

Mode = Literal["linear", "nearest"]
Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]

_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
_LATTICE_TOLERANCE = 1e-2  # voxels; affines stored in float32 are off by about 1e-4


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of a volume.

    Args:
        shape: Voxels along D, H, W.
        affine: (4, 4) matrix from voxel index to RAS+ millimetres.

    Raises:
        ValueError: If the shape is not three positive numbers, or the affine is not an invertible
            matrix of finite numbers.
    """

    shape: Triple
    affine: np.ndarray

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid has voxels along three axes, got shape {tuple(self.shape)}")
        d, h, w = (int(n) for n in self.shape)
        object.__setattr__(self, "shape", (d, h, w))
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @property
    def spacing(self) -> Spacing:
        """Voxel size in millimetres along D, H, W."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return d, h, w

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in cubic millimetres."""
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> str:
        """The anatomical directions nearest to D, H, W, for example "RAS"."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def same_as(self, other: "Grid", *, tolerance_mm: float = 0.01) -> bool:
        """Tell whether two grids have one shape and their corners agree within a tolerance."""
        if self.shape != other.shape:
            return False
        corners = _corners(self.shape)
        distances = np.linalg.norm((self.affine - other.affine) @ corners, axis=0)
        return bool(distances.max() <= tolerance_mm)

    def window(self, start: Sequence[int], shape: Sequence[int]) -> "Grid":
        """Return the grid of a box of voxels that begins at index `start`, maybe outside."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.asarray(start, dtype=np.float64)
        d, h, w = shape
        return Grid((d, h, w), affine)

    def canonical(self) -> "Grid":
        """Return the same voxels with their axes permuted and flipped to be nearest to RAS+."""
        axes = nib.orientations.io_orientation(self.affine)
        affine = self.affine @ nib.orientations.inv_ornt_aff(axes, self.shape)
        order = np.argsort(axes[:, 0])
        d, h, w = (self.shape[axis] for axis in order)
        return Grid((d, h, w), affine)

    def with_spacing(self, spacing: Sequence[float]) -> "Grid":
        """Return the grid of another voxel size over the same field of view.

        Both are centred on one point, so that the result does not depend on the direction in which
        an axis runs, and no voxel of the new grid lies outside the old field of view.

        Raises:
            ValueError: If the spacing is not three positive numbers.
        """
        if len(spacing) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing):
            raise ValueError(f"a spacing is three positive numbers in mm, got {tuple(spacing)}")
        factor = np.divide(spacing, self.spacing)
        shape = np.maximum(np.rint(self.shape / factor), 1)
        start = (np.subtract(self.shape, 1) - factor * (shape - 1)) / 2  # in old voxels
        affine = self.affine @ np.diag([*factor, 1.0])
        affine[:3, 3] = self.affine[:3, :3] @ start + self.affine[:3, 3]
        d, h, w = shape.astype(int).tolist()
        return Grid((d, h, w), affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they lie.

    Args:
        data: (C, D, H, W), any number type.
        affine: (4, 4) matrix from voxel index (d, h, w) to RAS+ millimetres.

    Raises:
        ValueError: If the data have other axes or none, or the affine is unfit.
    """

    data: Tensor
    affine: np.ndarray

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or self.data.numel() == 0:
            raise ValueError(f"a volume is (C, D, H, W), got shape {tuple(self.data.shape)}")
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @property
    def shape(self) -> Triple:
        """Voxels along D, H, W."""
        _, d, h, w = self.data.shape
        return d, h, w

    @property
    def grid(self) -> Grid:
        """The grid the voxels lie on."""
        return Grid(self.shape, self.affine)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in millimetres along D, H, W."""
        return self.grid.spacing

    @property
    def orientation(self) -> str:
        """The anatomical directions nearest to D, H, W, for example "RAS"."""
        return self.grid.orientation


def read_volume(path: Path | str, *, dtype: torch.dtype | None = None) -> Volume:
    """Read a volume with its axes in the file's order.

    Stored scale factors are applied. Integers without one stay integers; floating point becomes
    float32, with 0 for NaN and infinities, which is logged. A fourth axis becomes channels.

    Args:
        path: A NIfTI, NRRD, MetaImage or MGZ file, or a folder with one DICOM series. Of several
            series the longest is read, which is logged.
        dtype: Type to convert the voxels to.

    Raises:
        VolumeFileError: A ValueError that knows its `kind`: the file is missing, empty, damaged or
            may not be read, it is 2-D or in colour, or it has no usable affine; no DICOM series is
            the longest.
    """
    volume, num_not_finite = read_volume_counted(path, dtype=dtype)
    if any(num_not_finite):
        logger.warning("%s: %d NaN or infinite voxels set to 0", path, sum(num_not_finite))
    return volume


def read_volume_counted(
    path: Path | str, *, dtype: torch.dtype | None = None
) -> tuple[Volume, tuple[int, ...]]:
    """Read a volume as `read_volume` does, and return what that logs.

    Returns:
        The volume, and how many voxels of each channel were NaN or infinite and are 0 now.

    Raises:
        VolumeFileError: As `read_volume`.
    """
    array, affine, num_not_finite = read_array(Path(path))
    data = torch.from_numpy(array)
    return Volume(data if dtype is None else data.to(dtype), affine), num_not_finite


def read_grid(path: Path | str) -> Grid:
    """Read the grid of a volume from its header.

    Raises:
        VolumeFileError: As `read_volume`, but for damage to the voxels, which are not read.
    """
    (_, d, h, w), affine = read_header(Path(path))
    return Grid((d, h, w), affine)


def write_volume(volume: Volume, path: Path | str, *, like: Path | str | None = None) -> None:
    """Write a volume; the file appears whole or not at all.

    Args:
        volume: What to write. The number type is kept (booleans become uint8).
        path: A file ending in .nii.gz, .nii, .mha, .nrrd, .mgz or .mgh; its folder is made.
        like: A NIfTI file in whose space the result is said to be (scanner, MNI, ...), where the
            result is NIfTI too. Without it, the scanner's.

    Raises:
        ValueError: If the suffix is unknown or the format cannot hold the numbers.
    """
    data = volume.data.detach().cpu()
    if data.dtype in (torch.float16, torch.bfloat16):
        data = data.float()  # no format has them
    source = None if like is None else Path(like)
    write_array(data.numpy(), Path(path), affine=volume.affine, like=source)


def to_canonical(volume: Volume) -> Volume:
    """Permute and flip the axes to the order nearest to RAS+; no voxel is interpolated."""
    return restore(volume, volume.grid.canonical())


def resample(volume: Volume, spacing: Sequence[float], *, mode: Mode = "linear") -> Volume:
    """Resample to another voxel size over the same field of view.

    Linear sampling is not preceded by smoothing, as in the published SAM-Med3D pipeline, whose
    weights expect the sharper pictures.

    Args:
        volume: What to resample.
        spacing: New voxel size in millimetres along D, H, W.
        mode: "linear" for images; "nearest" for labels.

    Raises:
        ValueError: If the spacing is not three positive numbers.
    """
    return resample_to(volume, volume.grid.with_spacing(spacing), mode=mode)


def resample_to(volume: Volume, grid: Grid, *, mode: Mode, fill: float = 0) -> Volume:
    """Sample a volume at the voxels of any other grid, oblique and sheared ones included.

    Args:
        volume: What to sample.
        grid: Where to sample it.
        mode: "linear" gives floating point; "nearest" keeps the number type and makes no value
            that was not there, so it suits labels.
        fill: Value outside the volume's field of view.
    """
    mapping = np.linalg.inv(volume.affine) @ grid.affine  # index on `grid` -> index in `volume`
    # A sample half-way between two voxels must not fall to either side by the last bit of a float.
    mapping = np.round(mapping, 9)
    kept = volume.data.dtype
    data = volume.data.detach().cpu()
    if mode == "linear":
        data = data if kept == torch.float64 else data.float()
        if is_separable(mapping):
            linear = sample_linearly(data, mapping, grid.shape, fill=fill)
            return Volume(linear.to(volume.data.device), grid.affine)
    elif kept == torch.bool:
        data = data.to(torch.uint8)
    sampled = [_sample(channel.numpy(), mapping, grid.shape, mode, fill) for channel in data]
    result = torch.from_numpy(np.stack(sampled)).to(volume.data.device)  # (C, D, H, W)
    return Volume(result.to(kept) if mode == "nearest" else result, grid.affine)


def splat_foreground(mask: Volume, grid: Grid) -> Volume:
    """Mark the voxel of a grid nearest to the centre of each foreground voxel of a mask.

    Nearest-neighbour sampling asks what lies at each new voxel and can miss a small or thin object
    between them. This asks where each old voxel lies, so no object vanishes, though its size and
    shape are not kept. Voxels outside the grid go to its border.

    Args:
        mask: (1, D, H, W), foreground above 0.
        grid: Where to mark it.

    Returns:
        A uint8 mask on `grid`, empty only if `mask` is.
    """
    mapping = np.round(np.linalg.inv(grid.affine) @ mask.affine, 9)  # as in `resample_to`
    voxels = (mask.data[0] > 0).nonzero().cpu().numpy()  # (N, 3)
    index = np.floor(voxels @ mapping[:3, :3].T + mapping[:3, 3] + 0.5).astype(int)
    d, h, w = np.clip(index, 0, np.subtract(grid.shape, 1)).T
    result = torch.zeros((1, *grid.shape), dtype=torch.uint8, device=mask.data.device)
    result[0, d, h, w] = 1
    return Volume(result, grid.affine)


def crop_or_pad(
    volume: Volume, shape: Sequence[int], *, center: Sequence[int] | None = None, fill: float = 0
) -> Volume:
    """Cut out a box of voxels, padding where it leaves the volume.

    Args:
        volume: What to cut.
        shape: Voxels of the box along D, H, W.
        center: Voxel index that becomes voxel shape // 2 of the box; the volume's own middle
            voxel by default.
        fill: Value of voxels outside the volume.
    """
    middle = [n // 2 for n in volume.shape] if center is None else center
    start = [c - n // 2 for c, n in zip(middle, shape, strict=True)]
    return restore(volume, volume.grid.window(start, shape), fill=fill)


def restore(volume: Volume, grid: Grid, *, mode: Mode = "linear", fill: float = 0) -> Volume:
    """Put a volume onto another grid, without interpolation wherever the voxels coincide.

    Where flips, permutations, crops and pads separate the two grids, voxels are copied and keep
    their number type; otherwise the volume is resampled.

    Args:
        volume: What to put, for example a mask predicted on a crop.
        grid: Grid of the result, for example that of the scan.
        mode: How to resample, if need be.
        fill: Value outside the volume's field of view.
    """
    lattice = _same_lattice(volume.affine, grid)
    if lattice is None:
        return resample_to(volume, grid, mode=mode, fill=fill)
    turn, shift = lattice  # index in `volume` = turn @ index on `grid` + shift
    axes = np.abs(turn).argmax(axis=0)  # axis of `volume` that runs along each axis of `grid`
    signs = turn[axes, range(3)]
    data = volume.data.permute(0, *(1 + axes).tolist())
    if flipped := [1 + axis for axis in range(3) if signs[axis] < 0]:
        data = data.flip(flipped)  # copies all of it, so a crop without flips must not come here
    last = np.array(data.shape[1:]) - 1
    start = np.where(signs > 0, shift[axes], last - shift[axes])
    return Volume(_window(data, start.tolist(), grid.shape, fill), grid.affine)


def _corners(shape: Triple) -> np.ndarray:
    """Return the corner voxels of a grid, homogeneous, (4, 8)."""
    return np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in shape))]).T


def _same_lattice(affine: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the whole-number map from indices on `grid` to indices under `affine`, if any."""
    mapping = np.linalg.inv(affine) @ grid.affine
    rounded = np.rint(mapping)
    turn = rounded[:3, :3].astype(int)
    is_signed_permutation = (np.abs(turn).sum(axis=0) == 1).all() and abs(np.linalg.det(turn)) == 1
    error = np.abs((mapping - rounded) @ _corners(grid.shape)).max()
    if not is_signed_permutation or error > _LATTICE_TOLERANCE:
        return None
    return turn, rounded[:3, 3].astype(int)


def _window(data: Tensor, start: Sequence[int], shape: Triple, fill: float) -> Tensor:
    """Copy the box at `start` out of (C, D, H, W), with `fill` where it leaves the data."""
    result = data.new_full((len(data), *shape), fill)
    source, target = [slice(None)], [slice(None)]
    for size, first, wanted in zip(data.shape[1:], start, shape, strict=True):
        low = min(max(first, 0), size)
        high = max(min(first + wanted, size), low)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    result[tuple(target)] = data[tuple(source)]
    return result


def _sample(
    array: np.ndarray, mapping: np.ndarray, shape: Triple, mode: Mode, fill: float
) -> np.ndarray:
    """Sample (D, H, W) at `mapping @ index` for every index of a grid of `shape`."""
    # SimpleITK counts axes backwards. On grids of unit spacing its transform is the index map
    # itself, so any affine works, also one that ITK would not accept as a direction.
    backwards = mapping[:3, :3][::-1, ::-1]
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(backwards.ravel().tolist())
    transform.SetTranslation(mapping[:3, 3][::-1].tolist())
    image = sitk.GetImageFromArray(array)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(shape[::-1])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(_INTERPOLATORS[mode])
    resampler.SetDefaultPixelValue(float(fill))
    return sitk.GetArrayFromImage(resampler.Execute(image))
