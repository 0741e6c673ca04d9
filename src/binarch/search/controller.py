"""The recurrent controller of NASNet: it draws architectures, and learns which ones are rewarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

#: Ratios of new to old probability beyond 1 +- CLIP gain nothing (PPO, Schulman et al., 2017). NASNet's is unknown.
CLIP = 0.2


@final
@dataclass(frozen=True)
class Decision:
    """One choice among ``options``; ``unlike`` names an earlier decision whose choice is forbidden here."""

    options: int
    unlike: int | None = None


@final
class Controller(nn.Module):
    r"""One LSTM layer of 100 units that makes one decision per step.

    Step t reads an embedding of what was decided at t - 1 and gives the logits of decision t through a linear layer
    of its own; forbidden options have probability 0. The probability of an architecture is the product over its
    decisions. Parameters start uniformly within +-0.1 (Zoph et al., CVPR 2018).
    """

    def __init__(self, decisions: Sequence[Decision], hidden: int = 100) -> None:
        super().__init__()
        self.decisions = tuple(decisions)
        self.hidden = hidden
        self.start = nn.Parameter(torch.zeros(hidden))
        self.embeddings = nn.ModuleList(nn.Embedding(decision.options, hidden) for decision in self.decisions[:-1])
        self.cell = nn.LSTMCell(hidden, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, decision.options) for decision in self.decisions)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def sample(self, generator: torch.Generator) -> tuple[int, ...]:
        """Draw one architecture."""
        choices = torch.zeros(1, len(self.decisions), dtype=torch.long)
        with torch.no_grad():
            state = None
            for index in range(len(self.decisions)):
                log_shares, state = self._step(index, choices, state)
                choices[:, index] = torch.multinomial(log_shares.exp(), 1, generator=generator)[:, 0]
        return tuple(choices[0].tolist())

    def forward(self, choices: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of architectures (N, decisions), and the entropies of the decisions on the way, in nats.

        Both are (N,), the second one summed over the decisions.
        """
        state = None
        log_probability = entropy = self.start.new_zeros(len(choices))
        for index in range(len(self.decisions)):
            log_shares, state = self._step(index, choices, state)
            log_probability = log_probability + log_shares.gather(1, choices[:, index : index + 1])[:, 0]
            entropy = entropy - (log_shares.exp() * log_shares.clamp(min=-1e4)).sum(1)  # forbidden: 0, not 0 * inf
        return log_probability, entropy

    def _step(
        self, index: int, choices: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log-probabilities of the options of decision ``index`` (N, options), given the choices before it."""
        first = self.start.expand(len(choices), -1)
        state = self.cell(self.embeddings[index - 1](choices[:, index - 1]) if index else first, state)
        logits = self.heads[index](state[0])
        unlike = self.decisions[index].unlike
        if unlike is not None:
            options = torch.arange(self.decisions[index].options)
            logits = logits.masked_fill(options == choices[:, unlike : unlike + 1], -torch.inf)
        return logits.log_softmax(1), state


def ppo_loss(new: Tensor, old: Tensor, advantage: Tensor, clip: float = CLIP) -> Tensor:
    r"""Minus the clipped objective: :math:`-\operatorname{mean}\min(r A, \operatorname{clip}(r, 1 \pm \epsilon) A)`.

    ``new`` and ``old`` are log-probabilities (N,), r their ratio, ``advantage`` A the reward above the baseline. At r
    = 1 the gradient is that of REINFORCE; a ratio that has already moved beyond the clip in the direction of A gives
    none.
    """
    ratio = (new - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


@final
class Learner:
    """Teaches a controller by PPO: batches of architectures with rewards, a moving average of which is the baseline."""

    def __init__(self, controller: Controller, learning_rate: float = 3.5e-4, *, entropy_weight: float = 1e-5,
                 memory: float = 0.95, passes: int = 4) -> None:  # fmt: skip
        self.controller = controller
        self.optimizer = torch.optim.Adam(controller.parameters(), lr=learning_rate)
        self.entropy_weight, self.memory, self.passes = entropy_weight, memory, passes
        self.baseline: float | None = None

    def learn(self, batch: Sequence[tuple[Sequence[int], float]]) -> None:
        """``passes`` steps on one batch of (architecture, reward)."""
        rewards = torch.tensor([reward for _, reward in batch])
        mean = float(rewards.mean())
        self.baseline = mean if self.baseline is None else self.memory * self.baseline + (1 - self.memory) * mean
        advantage = rewards - self.baseline
        choices = torch.tensor([list(row) for row, _ in batch])
        old = self.controller(choices)[0].detach()
        for _ in range(self.passes):
            new, entropy = self.controller(choices)
            loss = ppo_loss(new, old, advantage) - self.entropy_weight * entropy.mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
