"""The store: scans as crops need them, in a folder that keeps them."""

from neurosam3d.data.store.build import build_store
from neurosam3d.data.store.prepared import ObjectMask, Preparation, PreparedImage
from neurosam3d.data.store.volumes import MemoryVolumes, Volumes, VolumeStore

__all__ = [
    "MemoryVolumes",
    "ObjectMask",
    "Preparation",
    "PreparedImage",
    "VolumeStore",
    "Volumes",
    "build_store",
]
