"""An object followed from slice to slice, as MedSAM's published program does between marked slices
(arXiv:2304.12306): a slice is asked with the box around its neighbour's mask.

Shapes: H W rows and columns of a slice.
"""

from collections import deque
from collections.abc import Mapping

import numpy as np

from neurosam3d.inference.slice_network import SliceAnswer, SlicePrompts
from neurosam3d.inference.slice_reader import SliceReader

MARGIN = 5.0  # of the box at each side, in pixels of the network's image, as published
LARGEST_CHANGE = 4.0  # of the mask's area from one slice to the next

Answers = dict[int, SliceAnswer | None]
"""By number of the slice; None of one that holds nothing for sure."""


def follow_slices(reader: SliceReader, answers: Mapping[int, SliceAnswer | None]) -> Answers:
    """Follow an object up and down from the slices that are answered.

    All answered slices take a step by turns, so that two meet half-way. A direction ends at an
    answered slice, at the end of the scan, and where the next mask has nothing in common with the
    last one or an area more than four times larger or smaller: a network that is asked with a box
    finds something in it wherever it lies, so that an object's end shows by such a jump, if at all.

    Args:
        reader: Asks the network.
        answers: The slices to begin with.

    Returns:
        The slices that were found, without those.
    """
    found: Answers = {}
    heads = deque(
        (number, step, answer)
        for number, answer in sorted(answers.items())
        if answer is not None
        for step in (1, -1)
    )
    while heads:
        number, step, answer = heads.popleft()
        beyond, box = number + step, answer.box
        if box is None or beyond in answers or beyond in found:
            continue
        if not 0 <= beyond < reader.num_slices:
            continue
        box = reader.network.enlarge(box, reader.sides, margin=MARGIN)
        asked = reader.ask(beyond, SlicePrompts(np.empty((0, 2)), np.empty(0, np.int64), box), None)
        if _goes_on(answer, asked):
            found[beyond] = asked
            heads.append((beyond, step, asked))
    return found


def _goes_on(answer: SliceAnswer, following: SliceAnswer) -> bool:
    """Tell whether the mask of a slice can be that of its neighbour's object."""
    before, after = answer.logits > 0, following.logits > 0
    areas = int(before.sum()), int(after.sum())
    return bool((before & after).any()) and max(areas) <= LARGEST_CHANGE * min(areas)
