"""The recurrent state-space model with categorical latents.

Only the recurrence runs step by step: what depends on embeddings or actions alone is computed for all T steps
before the loop, prior logits for all T after it. Noise comes in as an argument (uniform in [0, 1), one number for
each latent), so that a step is a pure function.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer_nav.config import RSSMConfig
from dreamer_nav.distributions import sample_index, sample_onehot
from dreamer_nav.nets import Codes, Dense, GRUCell

__all__ = ["RSSM", "State"]


class State(NamedTuple):
    """Latent state: one-hot samples (..., S, C), their logits (..., S, C) and the GRU state (..., D)."""

    stoch: Tensor
    logits: Tensor
    deter: Tensor

    @property
    def feat(self) -> Tensor:
        """What heads read: [stochastic, deterministic], (..., S * C + D)."""
        return torch.cat([self.stoch.flatten(-2), self.deter], -1)

    def detach(self) -> State:
        """The same values without their graph."""
        return State(*(x.detach() for x in self))


class RSSM(nn.Module):
    """DreamerV2's discrete RSSM (`EnsembleRSSM` with one member in the original)."""

    def __init__(self, config: RSSMConfig, embed_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        self.stoch_size = config.stoch * config.classes
        self.feat_size = self.stoch_size + config.deter
        norm = config.layer_norm
        self.img_in = Dense(self.stoch_size + action_size, config.hidden, norm)
        self.gru = GRUCell(config.hidden, config.deter)
        self.img_out = Dense(config.deter, config.hidden, norm)
        self.img_logits = nn.Linear(config.hidden, self.stoch_size)
        self.obs_out = Dense(config.deter + embed_size, config.hidden, norm)
        self.obs_logits = nn.Linear(config.hidden, self.stoch_size)

    def initial(self, batch: int, device: torch.device | str | None = None) -> State:
        """Zeros: the original's initial state is not learned."""
        c = self.config
        stoch = torch.zeros(batch, c.stoch, c.classes, device=device)
        return State(stoch, torch.zeros_like(stoch), torch.zeros(batch, c.deter, device=device))

    def _logits(self, layer: nn.Linear, hidden: Tensor) -> Tensor:
        return layer(hidden).float().unflatten(-1, (self.config.stoch, self.config.classes))

    def _action_in(self, action: Tensor) -> Tensor:
        """The action's share of the input layer, bias included."""
        return F.linear(action, self.img_in.weight[:, self.stoch_size :], self.img_in.bias)

    def _embed_in(self, embed: Tensor) -> Tensor:
        """The embedding's share of the posterior's first layer, bias included."""
        return F.linear(embed, self.obs_out.weight[:, self.config.deter :], self.obs_out.bias)

    def _stoch_in(self, stoch: Tensor) -> Tensor:
        """The latents' share of the input layer."""
        return F.linear(stoch.flatten(-2), self.img_in.weight[:, : self.stoch_size])

    def _recur(self, stoch_in: Tensor, deter: Tensor, action_in: Tensor) -> Tensor:
        return self.gru(self.img_in.activate(stoch_in + action_in), deter)

    def prior_logits(self, deter: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch S C"]:
        """Logits of the prior, a function of the deterministic state alone."""
        return self._logits(self.img_logits, self.img_out(deter))

    def _posterior(self, deter: Tensor, embed_in: Tensor, noise: Tensor) -> State:
        x = F.linear(deter, self.obs_out.weight[:, : self.config.deter])
        logits = self._logits(self.obs_logits, self.obs_out.activate(x + embed_in))
        return State(sample_onehot(logits, noise), logits, deter)

    def img_step(
        self, state: State, action: Float[Tensor, "B A"], noise: Float[Tensor, "B S"]
    ) -> State:
        """One step of imagination: the state after `action`, latents sampled from the prior."""
        deter = self._recur(self._stoch_in(state.stoch), state.deter, self._action_in(action))
        logits = self.prior_logits(deter)
        return State(sample_onehot(logits, noise), logits, deter)

    def codes(self, state: State) -> Codes:
        """A state with sampled latents as column numbers."""
        return Codes(self._columns(state.stoch.argmax(-1)), state.deter)

    def _columns(self, index: Tensor) -> Tensor:
        c = self.config
        return index + torch.arange(0, c.stoch * c.classes, c.classes, device=index.device)

    def img_step_codes(
        self, codes: Codes, action: Float[Tensor, "B A"], noise: Float[Tensor, "B S"]
    ) -> Codes:
        """What `img_step` does, for codes: the same states, faster on a CPU, without a gradient of the latents."""
        stoch_in = codes.sum_columns(self.img_in.weight[:, : self.stoch_size])
        deter = self._recur(stoch_in, codes.deter, self._action_in(action))
        return Codes(self._columns(sample_index(self.prior_logits(deter), noise)), deter)

    def obs_step(
        self,
        state: State,
        action: Float[Tensor, "B A"],
        embed: Float[Tensor, "B E"],
        is_first: Bool[Tensor, " B"],
        noise: Float[Tensor, "B S"],
    ) -> State:
        """The state after `action` and the observation it led to; an episode's first step forgets both."""
        post, _ = self.observe(
            embed[:, None], action[:, None], is_first[:, None], noise[None], state
        )
        return State(*(x[:, 0] for x in post))

    def observe(
        self,
        embed: Float[Tensor, "B T E"],
        action: Float[Tensor, "B T A"],
        is_first: Bool[Tensor, "B T"],
        noise: Float[Tensor, "T B S"],
        state: State | None = None,
    ) -> tuple[State, Float[Tensor, "B T S C"]]:
        """Posterior states and prior logits of a sequence; `action[:, t]` led to observation t.

        `state` is the state before the first step (zeros if None).
        """
        keep = 1 - is_first.float()[..., None]
        # Time-major, contiguous inputs: the loop then only takes views.
        action_in = self._action_in((action * keep).transpose(0, 1))
        embed_in = self._embed_in(embed.transpose(0, 1))
        stoch, _, deter = state if state is not None else self.initial(len(embed), embed.device)
        states = []
        for t in range(embed.shape[1]):
            mask = keep[:, t]
            deter = self._recur(self._stoch_in(stoch * mask[..., None]), deter * mask, action_in[t])
            post = self._posterior(deter, embed_in[t], noise[t])
            stoch = post.stoch
            states.append(post)
        post = State(*(torch.stack(x, 1) for x in zip(*states, strict=True)))
        return post, self.prior_logits(post.deter)
