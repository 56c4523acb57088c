"""Files made to harm are refused in a sentence, within bounds of memory and time; no code runs."""

import time
from pathlib import Path

import pytest

from tests.fuzz.fuzzer import SECONDS, in_child, read_once
from tests.fuzz.hostile import CANARY, FILES, Write
from tests.fuzz.targets import TARGETS

_TARGETS = {target.name: target for target in TARGETS}


@pytest.mark.parametrize(
    ("target", "write"),
    [pytest.param(target, write, id=f"{target}: {kind}") for kind, target, write in FILES],
)
@pytest.mark.usefixtures("small_segresnet")
def test_a_hostile_file_is_refused(target: str, write: Write, tmp_path: Path) -> None:
    path = write(tmp_path)
    start = time.monotonic()
    kind, told, _ = in_child(lambda: read_once(_TARGETS[target], path), 3 * SECONDS)
    assert kind == "refused", told
    assert time.monotonic() - start < SECONDS
    assert len(told) < 5000
    assert not (tmp_path / CANARY).exists()
