"""What can be wrong with a volume file, told by kind, so that no caller reads it from a text."""

from typing import Literal

FileFault = Literal["missing", "empty", "permission", "damaged", "affine", "unsupported"]


class VolumeFileError(ValueError):
    """A volume file cannot be read.

    Args:
        sentence: What is wrong.
        kind: "missing": no such file or folder. "empty": 0 bytes. "permission": it may not be
            read. "damaged": it ends too early, a checksum is wrong, or its bytes make no sense.
            "affine": its voxels have no place in space. "unsupported": a sound file that is no
            volume, such as a 2-D or colour image, or one of an unknown format.
    """

    kind: FileFault

    def __init__(self, sentence: str, kind: FileFault = "damaged") -> None:
        super().__init__(sentence)  # a worker process sends an exception as its arguments and ...
        self.kind = kind  # ... its attributes, so what is no attribute needs a default
