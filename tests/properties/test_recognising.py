"""Any shapes under any network's names are recognised, or not, but never stumbled over."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosam3d.mistakes import describe_mistake
from neurosam3d.models import list_models
from neurosam3d.recognise import Identity, recognise_network
from tests.fuzz.corpus import hyper_parameters
from tests.fuzz.mutations import damage_value
from tests.properties.drawing import Effort, efforts

KEYS = sorted(Path(__file__).parents[1].glob("reference/keys_*.json"))
VALUES = {
    **hyper_parameters(),
    "finetune": "lora",
    "lora_rank": 4,
    "lora_alpha": 8.0,
    "lora_targets": ["attn.qkv"],
    "lora_parts": "qv",
    "img_size": 128,
}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    names = content.get("state_dict", content)
    return {name: tuple(shape) for name, shape in names.items() if isinstance(shape, list)}


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
@efforts(few=15, many=300)
def test_shapes_of_no_network_are_not_stumbled_over(effort: Effort, path: Path) -> None:
    sound = _shapes(path)

    @effort.tries
    @given(st.integers(0, 2**32 - 1))
    def holds(seed: int) -> None:
        random = Random(seed)
        shapes = {name: shape for name, shape in sound.items() if random.random() < 0.97}
        for name in random.sample(list(shapes), len(shapes) // random.choice((1, 2, 10))):
            odd = ((), (0,), (1,), (2**40, 3), shapes[name][1:], (*shapes[name], 1))
            shapes[name] = random.choice(odd)
        name, options = recognise_network(shapes)
        assert name is None or name in list_models()
        assert isinstance(options, dict)

    holds()


@efforts(few=100, many=3000)
def test_whatever_a_file_says_of_itself_is_an_identity_or_a_mistake(effort: Effort) -> None:
    @effort.tries
    @given(st.integers(0, 2**32 - 1))
    def holds(seed: int) -> None:
        said = damage_value(VALUES, Random(seed))
        identity, mistake = None, None
        try:
            identity = Identity.from_values(said if isinstance(said, dict) else {})
        except ValueError as error:
            mistake = describe_mistake(error)
        assert identity or mistake
        assert identity is None or identity.name in (None, *list_models())

    holds()
