"""The adapter of SAM-Med2D (arXiv:2308.16184, section 3.2): it works beside the MLP of each block.

Shapes: B batch, C channels; h w = token grid.
"""

from torch import Tensor, nn


class ConvAdapter(nn.Module):
    """Weigh channels by their means, pass the grid through half its resolution, normalise.

    It is no identity at its start: the norm at its end gives every token unit variance, as the
    published weights need it.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.channel = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.ReLU(),
            nn.Linear(dim // 4, dim, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        for layer in (*self.channel, *self.spatial):
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, h, w, C), h and w even, to the same shape."""
        gate = self.channel(x.mean(dim=(1, 2)))  # (B, C)
        grid = (gate[:, None, None] * x).movedim(-1, 1)  # (B, C, h, w)
        return self.norm(x + self.spatial(grid).movedim(1, -1))
