"""What `segment` tells and draws of a scan."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from neurosam3d.data.class_colours import colour_classes
from neurosam3d.data.sheet_tiles import choose_window
from neurosam3d.evaluation.object_picture import DrawnObject, plot_objects
from neurosam3d.inference.object_prompts import place_prompts
from neurosam3d.inference.scan_segmenter import FinishedScan
from neurosam3d.inference.segmented import SegmentedObject, SegmentedScan
from neurosam3d.volume import Grid

_STEPS = {
    "read": "reading",
    "prepare": "preparing",
    "encode": "encoding",
    "decode": "decoding",
    "segment": "segmenting",
    "restore": "restoring the grid",
    "write": "writing",
}
_MOST_ROWS = 24
_AIR = -200  # every CT scan in Hounsfield units has voxels below


def describe_scan(scan: SegmentedScan) -> str:
    """Return shape and voxel size of a scan in words."""
    voxels = " x ".join(map(str, scan.volume.shape))
    return f"{voxels} voxels of {' x '.join(f'{side:.3g}' for side in scan.volume.spacing)} mm"


def object_table(scan: SegmentedScan, *, seen: str = "windows") -> Table:
    """List the objects of a scan, or the first of many: values, names, volumes and windows.

    Args:
        scan: The scan.
        seen: What the network looks at, in words.
    """
    table = Table("value", "object", "volume (ml)", "voxels", seen, box=None)
    for column in table.columns:
        column.justify = "left" if column.header == "object" else "right"
    rows = zip(scan.objects, scan.volumes_ml(), scan.label_map.voxel_counts, strict=True)
    for value, (one, volume_ml, voxels) in enumerate(rows, start=1):
        if value > _MOST_ROWS:
            table.add_row("...", f"and {len(scan.objects) - _MOST_ROWS} more")
            break
        table.add_row(str(value), one.name, f"{volume_ml:.2f}", f"{voxels:,}", str(one.num_windows))
    return table


def describe_seconds(scan: SegmentedScan) -> str:
    """Return how long each step took, in words."""
    steps = [f"{_STEPS.get(step, step)} {seconds:.2f}" for step, seconds in scan.seconds.items()]
    return f"seconds: {', '.join(steps)}"


def find_warnings(scan: SegmentedScan, *, max_windows: int) -> Iterator[str]:
    """Say what a user should look at."""
    if not scan.objects:
        yield "nothing was found"
    for one, voxels in zip(scan.objects, scan.label_map.voxel_counts, strict=True):
        if not one.mask.num_voxels:
            yield f"{one.name} is empty: the network found nothing at its prompts"
        elif not voxels:
            yield f"{one.name} has no voxel in the label map: others claim all of it"
        if not one.is_quiet:
            yield (
                f"{one.name} goes on where the network confirmed nothing; a further point there "
                f"or more than --max_windows {max_windows} may settle it"
            )


def draw_scan(finished: FinishedScan, path: Path, *, title: str) -> Path:
    """Draw a scan with contours, clicks and boxes of its objects, as PNG."""
    scan = finished.scan
    colours = colour_classes([str(number) for number in range(len(scan.objects))]).values()
    grid = scan.volume.grid
    drawn = [_drawn(one, colour, grid) for one, colour in zip(scan.objects, colours, strict=True)]
    is_ct = float(scan.volume.data.min()) < _AIR

    def window(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
        return choose_window(image, mask, is_ct=is_ct)

    return plot_objects(path, scan.volume, scan.label_map.values, drawn, window=window, title=title)


def _drawn(one: SegmentedObject, colour: tuple[float, float, float], grid: Grid) -> DrawnObject:
    if one.prompts is None:
        return DrawnObject(one.name, colour)
    placed = place_prompts(replace(one.prompts, mask=None), grid)
    labels: Sequence[int] = placed.labels.tolist()
    return DrawnObject(one.name, colour, placed.points, labels, placed.box)
