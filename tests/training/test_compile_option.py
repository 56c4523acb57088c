from collections.abc import Callable

import pytest
from torch import nn

from neurosam3d.training import NeuroSamModel, SliceModel, SupervisedModel
from neurosam3d.training.network_run import NetworkRun

MODULES: dict[str, Callable[[bool], NetworkRun]] = {
    "promptable": lambda wanted: NeuroSamModel("vit_tiny", 32, compile=wanted),
    "supervised": lambda wanted: SupervisedModel("segresnet", (32,) * 3, ["a"], compile=wanted),
    "slices": lambda wanted: SliceModel("samed_vit_b", 32, ["a"], compile=wanted),
}


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("task", MODULES)
def test_every_task_compiles_its_network_once_if_asked(
    task: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr("neurosam3d.training.network_run.compile_network", compiled.append)
    module = MODULES[task](wanted)
    for stage in ("fit", "test"):
        module.setup(stage)
    assert compiled == [module.model] * wanted
