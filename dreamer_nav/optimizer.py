"""Adam as Keras computes it, with global-norm clipping and weight decay decoupled from the rate.

Keras puts epsilon outside the bias correction: var -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps). For
gradients near eps, torch's Adam moves 16 times as far in the first step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dreamer_nav.config import OptimizerConfig

__all__ = ["KerasAdam"]


class KerasAdam(nn.Module):
    """Optimizer of a list of parameters; its moments and step counter are buffers, so they checkpoint."""

    steps: Tensor

    def __init__(self, params: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
        super().__init__()
        self.config = config
        self.params: list[Tensor] = list(
            params
        )  # a plain list, so that the parameters do not register twice
        for i, p in enumerate(self.params):
            self.register_buffer(f"m{i}", torch.zeros_like(p))
            self.register_buffer(f"v{i}", torch.zeros_like(p))
        # On the parameters' device: a captured graph would freeze the value of a host scalar.
        steps = torch.zeros((), dtype=torch.float32, device=self.params[0].device)
        self.register_buffer("steps", steps)

    def moments(self, letter: str) -> list[Tensor]:
        """First (`m`) or second (`v`) moments, in parameter order."""
        return [getattr(self, f"{letter}{i}") for i in range(len(self.params))]

    @torch.no_grad()
    def step(self) -> Tensor:
        """Apply and clear the gradients; returns their global norm before clipping."""
        c, beta1, beta2 = self.config, 0.9, 0.999
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.params]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_mul_(grads, c.clip_norm / norm.clamp(min=c.clip_norm))
        m, v = self.moments("m"), self.moments("v")
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        self.steps += 1
        rate = c.lr * (1 - beta2**self.steps).sqrt() / (1 - beta1**self.steps)
        # Decay comes first and on every variable, biases and norms included, as the original.
        torch._foreach_mul_(self.params, 1 - c.weight_decay)
        denominator = torch._foreach_sqrt(v)
        torch._foreach_add_(denominator, c.eps)
        update = torch._foreach_div(m, denominator)
        torch._foreach_mul_(update, -rate)
        torch._foreach_add_(self.params, list(update))
        for p in self.params:
            p.grad = None
        return norm
