"""What training and validation must not have in common."""

import logging
from collections.abc import Mapping

import numpy as np

from neurosam3d.data.case_table import CaseTable
from neurosam3d.data.tree import split_set_name

logger = logging.getLogger(__name__)

Sets = Mapping[str, CaseTable]  # by name, as <NAME>_<SET>

_NAMED = 3  # examples that are told


def warn_of_overlap(training: Sets, validation: Sets) -> None:
    """Say so when a patient, or an image, is in training and in validation: scores mean nothing.

    Patients are compared within a dataset, where alone their names mean the same. Images are
    compared by their voxels, whatever their names and datasets: collections borrow from each other.
    """
    _warn("patients", _patients(training), _patients(validation))
    _warn("images", _images(training), _images(validation))


def _warn(what: str, training: Mapping[str, str], validation: Mapping[str, str]) -> None:
    common = sorted(name for key, name in validation.items() if key in training)
    if common:
        logger.warning(
            "%d %s are in both training and validation sets, for example %s",
            *(len(common), what, ", ".join(common[:_NAMED])),
        )


def _patients(sets: Sets) -> dict[str, str]:
    """Name every patient, else case, of sets."""
    names = (
        f"{case.group} of {split_set_name(set_name)[0]}"
        for set_name, cases in sets.items()
        for case in _first_of_each(cases, cases.groups)
    )
    return {name: name for name in names}


def _images(sets: Sets) -> dict[str, str]:
    """Name every image of sets by the hash of its voxels, where the index has that."""
    return {
        str(content): f"{case.case_id} of {set_name}"
        for set_name, cases in sets.items()
        for case in _first_of_each(cases, cases.images)
        if (content := case.extra.get("content"))
    }


def _first_of_each(cases: CaseTable, numbers: np.ndarray) -> CaseTable:
    """Return one case for each number."""
    return cases.select(np.unique(numbers, return_index=True)[1])
