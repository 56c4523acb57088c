"""From the file of a scan to files of its objects: what one scan and many have in common."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from neurosam3d.inference.automatic_result import AutomaticResult
from neurosam3d.inference.dicom_seg import SUFFIX as DICOM_SUFFIX
from neurosam3d.inference.dicom_seg import read_series
from neurosam3d.inference.label_map import Overlap
from neurosam3d.inference.named_object import NamedObject
from neurosam3d.inference.scan_files import Origin, suffix_of, write_scan
from neurosam3d.inference.scan_predictor import ScanPredictor
from neurosam3d.inference.segmented import (
    SegmentedScan,
    segment_objects,
    take_automatic,
    take_label_map,
)
from neurosam3d.inference.slice_segmenter import Unprompted
from neurosam3d.volume import Volume, read_volume


@dataclass(frozen=True)
class ScanJob:
    """A scan to segment.

    Args:
        image: A file, or a folder with one DICOM series.
        output: The file to write, ending as `scan_files.TARGETS`.
        objects: What to look for; None for all that there is.
    """

    image: Path
    output: Path
    objects: Sequence[NamedObject] | None


@dataclass(frozen=True, eq=False)
class FinishedScan:
    """A scan whose files are written.

    Args:
        scan: What was found, with the seconds of reading and writing, too.
        files: What was written, the label map first.
    """

    scan: SegmentedScan
    files: Sequence[Path]


@dataclass(frozen=True)
class ScanSegmenter:
    """Reads, segments and writes one scan after the other.

    Args:
        network: Answers the prompts, or segments without any.
        origin: What the files say of how they were made.
        find_all: Looks for everything in the predictor's scan, for jobs without objects.
        overlap: Whose a voxel is that several objects claim.
        separate: Whether to write a file for each object, too.
        channel: Which channel of scans with several to segment.
    """

    network: ScanPredictor | Unprompted
    origin: Origin
    find_all: Callable[[ScanPredictor], AutomaticResult] | None = None
    overlap: Overlap = "highest"
    separate: bool = False
    channel: int | None = None

    def run(self, job: ScanJob) -> FinishedScan:
        """Segment one scan and write what was found.

        Raises:
            ValueError: If the scan cannot be read, a prompt is unfit, or the files cannot be
                written for this scan.
        """
        is_dicom = suffix_of(job.output) == DICOM_SUFFIX
        series = read_series(job.image) if is_dicom else None  # told before anything is computed
        seconds: dict[str, float] = defaultdict(float)
        with _timed(seconds, "read"):
            volume = pick_channel(read_volume(job.image), self.channel, job.image)
        start = time.perf_counter()
        scan = self._segment(job, volume)
        # What the network did not take: the scan was brought to its spacing, objects were compared.
        seconds["prepare"] = time.perf_counter() - start - sum(scan.seconds.values())
        seconds |= scan.seconds
        with _timed(seconds, "write"):
            files = write_scan(
                scan,
                job.output,
                image=job.image,
                origin=self.origin,
                series=series,
                separate=self.separate,
            )
        return FinishedScan(replace(scan, seconds=dict(seconds)), files)

    def _segment(self, job: ScanJob, volume: Volume) -> SegmentedScan:
        if isinstance(self.network, Unprompted):
            if job.objects is not None:
                raise ValueError(f"{job.image} has prompts, which the network does not take")
            return take_label_map(self.network.segment(volume), volume)
        self.network.set_image(volume)
        if job.objects is not None:
            return segment_objects(self.network, job.objects, overlap=self.overlap)
        if self.find_all is None:
            raise ValueError(f"{job.image} needs at least one object to look for, got none")
        found = replace(self.find_all(self.network), source=job.image)
        return take_automatic(found, volume)


def pick_channel(volume: Volume, channel: int | None, path: Path) -> Volume:
    """Return one channel of a scan.

    Args:
        volume: The scan.
        channel: Which one; None if there is only one.
        path: The scan's file, for messages.

    Raises:
        ValueError: If there are several and none is chosen, or not so many.
    """
    count = len(volume.data)
    if channel is None and count > 1:
        raise ValueError(f"{path} has {count} channels; choose one with --channel 0..{count - 1}")
    if not 0 <= (channel or 0) < count:
        raise ValueError(f"--channel must be one of 0..{count - 1} for {path}, got {channel}")
    return Volume(volume.data[channel or 0][None], volume.affine)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] += time.perf_counter() - start
