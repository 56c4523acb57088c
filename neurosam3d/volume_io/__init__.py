"""Volume files as plain arrays: axes in the file's own order, affines to RAS+ millimetres.

`neurosam3d.volume` wraps these functions; nothing else should call them. NIfTI and MGZ go through
nibabel, NRRD, MetaImage and DICOM through SimpleITK, whose arrays are reversed and whose
coordinates are LPS. Both are undone here, so that one scan in five formats reads the same.

Shapes: C channels (time points, echoes, vector components); D H W the file's axes I J K.
"""

from neurosam3d.volume_io.arrays import (
    READABLE,
    WRITABLE,
    list_series,
    read_array,
    read_header,
    write_array,
)
from neurosam3d.volume_io.errors import FileFault, VolumeFileError
from neurosam3d.volume_io.shapes import Header, checked_affine

__all__ = [
    "READABLE",
    "WRITABLE",
    "FileFault",
    "Header",
    "VolumeFileError",
    "checked_affine",
    "list_series",
    "read_array",
    "read_header",
    "write_array",
]
