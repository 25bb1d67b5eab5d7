"""The refiner: an iterative process learned as a recurrent network (Maggiori et al., sections II and III).

    u_0        coarse scores before the softmax, one map a class
    phi_k      = M_i * u_k (32 filters 5x5) and N_j * I (32 filters 5x5x3): shared by the classes, no
                 non-linearity, and N_j * I the same at every iteration
    u_k,t+1    = u_k,t + MLP_k(phi_k)      64 -> 32, ReLU -> 1, one MLP a class, the same at all 5 iterations

9 603 parameters for three classes and three bands. Everything up to the MLP's hidden layer is linear, so
the filters and the first layer fold into one 5x5 filter bank on u_k and a term that depends on the image
alone: `forward` computes it so, in training too, and `forward_plain` as drawn above, for the test of equality.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 2
"""Pixels that one iteration sees around each pixel."""


class Refiner(nn.Module):
    """Refined scores from coarse scores and the image.

    Args:
        classes: score maps; bands: channels of the image, stretched to 0..1 per scene, nodata 0.
        filters: number of M_i and of N_j; hidden: neurons of each MLP's hidden layer.
        iterations: how many the network is unrolled for.
        agnostic: one MLP for all classes, the paper's "class-agnostic" variant.
    """

    halo: ClassVar[int] = 10
    stride: ClassVar[int] = 1

    def __init__(self, classes: int = 3, bands: int = 3, filters: int = 32, hidden: int = 32,
                 iterations: int = 5, agnostic: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.classes, self.iterations, self.agnostic = classes, iterations, agnostic
        mlps = 1 if agnostic else classes
        self.m = nn.Conv2d(1, filters, 5, padding=REACH)
        self.n = nn.Conv2d(bands, filters, 5, padding=REACH)
        self.w1 = nn.Parameter(torch.empty(mlps, hidden, 2 * filters))  # the first `filters` columns take M * u
        self.b1 = nn.Parameter(torch.zeros(mlps, hidden))
        self.w2 = nn.Parameter(torch.empty(mlps, hidden))
        self.b2 = nn.Parameter(torch.zeros(mlps))
        # Drawn by the number of inputs and centred at zero: the untrained network is near the identity (II-C).
        for weight, inputs in ((self.m.weight, 25), (self.n.weight, 25 * bands), (self.w1, 2 * filters)):
            nn.init.normal_(weight, std=inputs**-0.5)
        nn.init.normal_(self.w2, std=0.1 * hidden**-0.5)
        nn.init.zeros_(self.m.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.n.bias)  # type: ignore[arg-type]

    def forward(self, u: Tensor, image: Tensor, iterations: int | None = None) -> Tensor:
        """Refined scores (B, classes, H, W) of scores u (B, classes, H, W) and an image (B, bands, H', W').

        The image may be larger than the scores: its centre is taken. Exact 10 px away from the border
        (2 px an iteration); nearer, the outside counts as 0. `iterations`: unrolled that often instead.
        """
        for step in self.steps(u, image, iterations):
            u = step
        return u

    def steps(self, u: Tensor, image: Tensor, iterations: int | None = None) -> list[Tensor]:
        """The scores after each iteration, u_1 to u_5."""
        guide = _guide(image, u.shape[-2:])
        bank, bias, guiding, second = self.folded()
        b2 = self._per_class(self.b2)
        states: list[list[Tensor]] = [[] for _ in range(self.iterations if iterations is None else iterations)]
        # No class sees another's scores, so each runs through on its own: small convolutions, warm caches.
        for k in range(self.classes):
            x, constant = u[:, k : k + 1], F.conv2d(guide, guiding[k], bias[k], padding=REACH)
            for state in states:
                hidden = torch.relu(F.conv2d(x, bank[k], padding=REACH) + constant)
                x = x + F.conv2d(hidden, second[k], b2[k : k + 1])
                state.append(x)
        return [torch.cat(state, dim=1) for state in states]

    def folded(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The filters folded with the first layer.

        Returns the bank on u (classes, hidden, 1, 5, 5), the bias (classes, hidden), the bank on the image
        (classes, hidden, bands, 5, 5) and the second layer (classes, 1, hidden, 1, 1).
        """
        w1, b1, w2 = (self._per_class(p) for p in (self.w1, self.b1, self.w2))
        on_u, on_image = w1.chunk(2, dim=-1)
        bank = torch.einsum("khi,iyx->khyx", on_u, self.m.weight[:, 0]).unsqueeze(2)
        guiding = torch.einsum("khj,jbyx->khbyx", on_image, self.n.weight)
        assert self.m.bias is not None and self.n.bias is not None
        bias = b1 + on_u @ self.m.bias + on_image @ self.n.bias
        return bank, bias, guiding, w2[:, None, :, None, None]

    def forward_plain(self, u: Tensor, image: Tensor) -> Tensor:
        """The same as `forward`, computed as the paper draws it: responses, then MLP, class by class."""
        responses = self.n(_guide(image, u.shape[-2:]))
        w1, b1, w2, b2 = (self._per_class(p) for p in (self.w1, self.b1, self.w2, self.b2))
        for _ in range(self.iterations):
            updates = []
            for k in range(self.classes):
                phi = torch.cat([self.m(u[:, k : k + 1]), responses], dim=1)
                hidden = torch.relu(F.conv2d(phi, w1[k][..., None, None], b1[k]))
                updates.append(F.conv2d(hidden, w2[k][None, :, None, None], b2[k : k + 1]))
            u = u + torch.cat(updates, dim=1)
        return u

    def _per_class(self, parameter: Tensor) -> Tensor:
        """The parameter with one row a class, also where the classes share one."""
        return parameter.expand(self.classes, *parameter.shape[1:]) if self.agnostic else parameter


def _guide(image: Tensor, size: torch.Size) -> Tensor:
    """The centre of `image` (..., H', W') of the given (H, W), brought to about zero mean and unit variance:
    beside scores of a few units a stretched image is too faint for N to be learned at the pace of M."""
    y, x = (image.shape[-2] - size[0]) // 2, (image.shape[-1] - size[1]) // 2
    return (image[..., y : y + size[0], x : x + size[1]] - 0.5) * 4
