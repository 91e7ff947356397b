"""One step of a policy as a torch module: sensor values, recurrent state and noise in, action and new state out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dreamer_nav.agent import Agent
from dreamer_nav.distributions import OneHot, TruncatedNormal, sample_index
from dreamer_nav.spaces import ObsSpec
from dreamer_nav_export.contract import Noise, RecurrentState, TensorSpec, Variant
from dreamer_nav_export.fused import CodedActor, LatentStep, RawEncoder

__all__ = ["VARIANTS", "PolicyStep", "ndtri", "observation_dtype"]

VARIANTS = {
    # What `dreamer-nav eval` plays, and what its figures are of: the original samples latents in evaluation too.
    "mode": Variant("mode", latents="sample", actions="mode"),
    "sample": Variant("sample", latents="sample", actions="sample"),
    # No noise at all: the same observations always give the same actions. Not what was evaluated in training.
    "deterministic": Variant("deterministic", latents="argmax", actions="mode"),
}


def observation_dtype(spec: ObsSpec) -> str:
    """The graph's type of an observation: uint8 as it is, any other number as float32."""
    return "uint8" if spec.dtype == "uint8" else "float32"


class _Choice(NamedTuple):
    """An action, what the next step needs of it, and what the parity check looks at."""

    action: Tensor
    memory: Tensor
    outputs: dict[str, Tensor]
    numbers: tuple[Tensor, ...]  # that must be finite


class PolicyStep(nn.Module):
    """`forward` takes tensors in the order of `input_names` and returns those of `output_names`, all (B, ...).

    The previous action is the index of a discrete one, or the vector in [-1, 1] of a continuous one; latents are the
    index of each one-hot. Where `is_first` is true they do not matter, not even when they are NaN.
    """

    low: Tensor
    high: Tensor

    def __init__(self, agent: Agent, variant: str) -> None:
        super().__init__()
        self.obs, self.spec = agent.obs, agent.action
        self.variant = VARIANTS[variant]
        self.rssm = agent.model.rssm.config
        self.encoder = RawEncoder(agent.model)
        self.latent = LatentStep(agent.model.rssm, agent.action)
        self.actor = CodedActor(agent.behavior.actor, agent.model.rssm)
        low, high = agent.action.low, agent.action.high
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))
        self.eval()

    @property
    def noise(self) -> tuple[Noise, ...]:
        """The noise of a step, in the order in which it is drawn."""
        latent = Noise("latent_noise", (self.rssm.stoch,), self.variant.latents == "sample")
        shape = () if self.spec.discrete else (self.spec.size,)
        return latent, Noise("action_noise", shape, self.variant.actions == "sample")

    @property
    def state(self) -> tuple[RecurrentState, ...]:
        """What is carried from step to step."""
        c = self.rssm
        if self.spec.discrete:
            action = RecurrentState("prev_action", "action", "int64", ())
        else:
            action = RecurrentState("prev_action", "agent_action", "float32", (self.spec.size,))
        return (
            RecurrentState("stoch", "next_stoch", "int64", (c.stoch,)),
            RecurrentState("deter", "next_deter", "float32", (c.deter,)),
            action,
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `forward` returns, in its order."""
        c, size = self.rssm, self.spec.size
        if self.spec.discrete:
            own = [TensorSpec("action", "int64", ()), TensorSpec("probs", "float32", (size,))]
            extra = [TensorSpec("action_logits", "float32", (size,))]
        else:
            names = ("agent_action", "action_loc", "action_scale")
            own = [TensorSpec("action", "float32", (size,))]
            extra = [TensorSpec(n, "float32", (size,)) for n in names]
        return (
            *own,
            TensorSpec("ok", "bool", ()),
            TensorSpec("next_stoch", "int64", (c.stoch,)),
            TensorSpec("next_deter", "float32", (c.deter,)),
            *extra,
            TensorSpec("latent_logits", "float32", (c.stoch, c.classes)),
        )

    @property
    def input_names(self) -> list[str]:
        """Observations, is_first, state, and the noise that this variant uses."""
        own = ["is_first", *(s.input for s in self.state)]
        return [*(o.name for o in self.obs), *own, *(n.name for n in self.noise if n.used)]

    @property
    def output_names(self) -> list[str]:
        """Names of `outputs`."""
        return [t.name for t in self.outputs]

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros of the right types and shapes."""
        out = [
            torch.zeros(batch, *o.shape, dtype=getattr(torch, observation_dtype(o)))
            for o in self.obs
        ]
        out.append(torch.zeros(batch, dtype=torch.bool))
        out += [torch.zeros(batch, *s.shape, dtype=getattr(torch, s.dtype)) for s in self.state]
        out += [torch.zeros(batch, *n.shape) for n in self.noise if n.used]
        return tuple(out)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step."""
        given = dict(zip(self.input_names, inputs, strict=True))
        memory = (given[name] for name in ("stoch", "deter", "prev_action"))
        logits, deter = self.latent(given["is_first"], *memory, self.encoder(given))
        noise = given.get("latent_noise")
        stoch = logits.argmax(-1) if noise is None else sample_index(logits, noise)
        choice = self._choose(self.actor(stoch, deter), given.get("action_noise"))
        outputs = {
            "action": choice.action,
            "agent_action": choice.memory,
            "ok": _is_finite(logits.flatten(1), deter, *choice.numbers),
            "next_stoch": stoch,
            "next_deter": deter,
            "latent_logits": logits,
            **choice.outputs,
        }
        return tuple(outputs[name] for name in self.output_names)

    def _choose(self, policy: OneHot | TruncatedNormal, noise: Tensor | None) -> _Choice:
        if isinstance(policy, OneHot):
            index = policy.logits.argmax(-1)
            if noise is not None:
                index = sample_index(policy.logits, noise)
            outputs = {
                "probs": torch.softmax(policy.logits, -1),
                "action_logits": policy.logits,
            }
            return _Choice(index, index, outputs, (policy.logits,))
        own = policy.loc if noise is None else _sample_truncated(policy, noise)
        action = self.low + (own + 1) / 2 * (self.high - self.low)
        action = torch.minimum(torch.maximum(action, self.low), self.high)
        outputs = {"action_loc": policy.loc, "action_scale": policy.scale}
        return _Choice(action, own, outputs, (own, policy.scale))


def _is_finite(*parts: Tensor) -> Tensor:
    """Whether all numbers of a row are: (B,) for parts (B, N). One comparison, which NaN fails too."""
    return (torch.cat(parts, -1).abs() <= torch.finfo(torch.float32).max).all(-1)


def _sample_truncated(policy: TruncatedNormal, noise: Tensor) -> Tensor:
    """`TruncatedNormal.sample` with operators that ONNX has."""
    cdf = _ndtr(policy.low)
    mass = _ndtr(policy.high) - cdf
    z = ndtri((cdf + noise * mass).clamp(1e-7, 1 - 1e-7))
    z = torch.minimum(torch.maximum(z, policy.low), policy.high)
    return (policy.loc + policy.scale * z).clamp(-1 + 1e-6, 1 - 1e-6)


def _ndtr(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x * 0.7071067811865476))


# Cephes' ndtri (Stephen L. Moshier, netlib.org/cephes), which torch.special.ndtri computes too.
_P0 = (
    -5.99633501014107895267e1,
    9.80010754185999661536e1,
    -5.66762857469070293439e1,
    1.39312609387279679503e1,
    -1.23916583867381258016e0,
)
_Q0 = (
    1.0,
    1.95448858338141759834e0,
    4.67627912898881538453e0,
    8.63602421390890590575e1,
    -2.25462687854119370527e2,
    2.00260212380060660359e2,
    -8.20372256168333339912e1,
    1.59056225126211695515e1,
    -1.18331621121330003142e0,
)
_P1 = (
    4.05544892305962419923e0,
    3.15251094599893866154e1,
    5.71628192246421288162e1,
    4.40805073893200834700e1,
    1.46849561928858024014e1,
    2.18663306850790267539e0,
    -1.40256079171354495875e-1,
    -3.50424626827848203418e-2,
    -8.57456785154685413611e-4,
)
_Q1 = (
    1.0,
    1.57799883256466749731e1,
    4.53907635128879210584e1,
    4.13172038254672030440e1,
    1.50425385692907503408e1,
    2.50464946208309415979e0,
    -1.42182922854787788574e-1,
    -3.80806407691578277194e-2,
    -9.33259480895457427372e-4,
)
_EDGE = 0.13533528323661269189  # exp(-2)
_ROOT_2PI = 2.50662827463100050242


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    total = torch.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        total = total * x + c
    return total


def ndtri(p: Tensor) -> Tensor:
    """Quantiles of the standard normal for p within [1e-7, 1 - 1e-7], where Cephes' far tail is not needed."""
    upper = p > 1 - _EDGE
    y = torch.where(upper, 1 - p, p)
    middle = p - 0.5
    square = middle * middle
    ratio = _polynomial(square, _P0) / _polynomial(square, _Q0)
    inner = (middle + middle * square * ratio) * _ROOT_2PI
    x = torch.sqrt(-2 * torch.log(y.clamp(max=_EDGE)))
    inverse = 1 / x
    tail = inverse * _polynomial(inverse, _P1) / _polynomial(inverse, _Q1)
    outer = x - torch.log(x) / x - tail
    return torch.where(y > _EDGE, inner, torch.where(upper, outer, -outer))
