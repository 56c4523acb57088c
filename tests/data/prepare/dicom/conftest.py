"""These tests need the libraries of the extra `dicom`."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.data.prepare.dicom.miniature import Geometry

collect_ignore_glob = [] if find_spec("highdicom") else ["test_*.py"]


@pytest.fixture
def axial() -> "Geometry":
    """Slices of 7 columns and 5 rows of 0.75 x 1.5 mm, 2.5 mm apart."""
    from tests.data.prepare.dicom.miniature import GEOMETRIES

    return GEOMETRIES["axial"]
