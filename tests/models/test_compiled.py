"""Compiled networks are the same networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from neurosam3d.models import Sam3D
from neurosam3d.models.compiled import compile_network
from tests.models.sam3d_small import FAMILIES, ask, image_of, seeded, vit

ATOL = 1e-5


VARIANTS = {"correct forms": lambda: vit(quirks=False)}


@pytest.fixture(autouse=True)
def _forget_compiled() -> None:
    torch._dynamo.reset()
    counters.clear()


def outputs_and_gradients(model: Sam3D) -> list[Tensor]:
    """Return the embedding, the logits of two clicks, and the gradients of the whole network."""
    model.zero_grad()
    embeddings = model.image_encoder(image_of(model))
    logits = ask(model, embeddings, 2)
    (logits.square().mean() + embeddings.square().mean()).backward()
    # Compiled, what is not reached has a gradient of zeros: the estimate of the IoU, here.
    learned = (torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())
    return [embeddings, logits, *learned]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_is_a_single_graph_and_says_the_same(family: str) -> None:
    model = seeded(FAMILIES[family])
    image, names = image_of(model), list(model.state_dict())
    expected = model.image_encoder(image)
    compile_network(model, backend="eager", fullgraph=True)  # a break in a graph is an error
    torch.testing.assert_close(model.image_encoder(image), expected, rtol=ATOL, atol=ATOL)
    assert counters["stats"]["unique_graphs"] == 1
    assert list(model.state_dict()) == names


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [*FAMILIES.values(), *VARIANTS.values()], ids=[*FAMILIES, *VARIANTS]
)
def test_what_pytorch_compiles_says_the_same_and_learns_the_same(
    build: Callable[[], Sam3D],
) -> None:
    model = seeded(build)
    expected = outputs_and_gradients(model)
    compile_network(model, fullgraph=True)
    found = outputs_and_gradients(model)
    assert counters["stats"]["unique_graphs"] == 3
    torch.testing.assert_close(found, expected, rtol=ATOL, atol=ATOL)


@pytest.mark.slow
def test_the_number_of_points_is_compiled_for_once() -> None:
    model = seeded(vit)
    embeddings = torch.randn(1, 384, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [ask(model, embeddings, n) for n in range(6)]
        compile_network(model, backend="eager", fullgraph=True)
        graphs = []
        for n in (1, 2, 3, 5, 0, 4):
            found = ask(model, embeddings, n)
            torch.testing.assert_close(found, expected[n], rtol=ATOL, atol=ATOL)
            graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [2, 4, 4, 4, 6, 6]  # of prompt encoder and decoder: one point, more, none


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.inner(x)


def test_a_network_without_parts_is_compiled_whole() -> None:
    network, x = Doubled(), torch.ones(1, 3)
    expected = network(x)
    compile_network(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(network(x), expected)
    assert counters["stats"]["unique_graphs"] == 1
    assert list(network.state_dict()) == ["inner.weight", "inner.bias"]


def test_recomputed_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="recomputes its blocks cannot be compiled"):
        compile_network(vit(recompute=True), backend="eager")


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    message = r"PyTorch needs a C\+\+ compiler \(g\+\+, clang\+\+\), got none"
    with pytest.raises(ValueError, match=message):
        compile_network(nn.Linear(1, 1))
    monkeypatch.setenv("CXX", "my++")
    with pytest.raises(ValueError, match=r"\(my\+\+\), got none"):
        compile_network(nn.Linear(1, 1))
