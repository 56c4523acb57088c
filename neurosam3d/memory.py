"""How much this machine can hold: a header may ask for more than there is, in a few bytes."""

import math
import os


def require_memory(num_bytes: int) -> int:
    """Return a number of bytes that is to be held in memory.

    Raises:
        MemoryError: If this machine has less memory than that.
    """
    if num_bytes > machine_memory():
        raise MemoryError(f"{num_bytes} bytes are more than this machine's memory")
    return num_bytes


def machine_memory() -> float:
    """Return the bytes of this machine's memory; infinite where the system does not say."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
