"""Finding the interactions of CI-BCNN by policy gradient, on a trained network whose weights stand still."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn import QuantLayer
from binarch.quantizers import MOST_EDGES, Edge, Interaction

#: Changes of the loss below this count as none.
MARGIN = 0.003


@final
class Policy(nn.Module):
    r"""A recurrent network over layers that says how good each edge of each layer would be.

    One ConvLSTM (Shi et al., 2015) of 1 x 1 kernels and 2 hidden channels whose time steps are the layers: for layer
    l it reads two C x C maps (the signs of the edges that are there, and its own scores of last time) and yields two:
    *existence* scores e and *influence* scores i of all pairs (student, teacher). An edge is drawn with probability
    softmax(e), its sign is +1 with probability sigmoid(i). Layers of different width are padded with zeros.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(4, 8, 1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(2, C, C) per layer to (2, C, C) per layer."""
        most = max(m.shape[-1] for m in maps)
        hidden = cell = maps[0].new_zeros(1, 2, most, most)
        found = []
        for m in maps:
            padding = most - m.shape[-1]
            x = torch.cat([functional.pad(m, (0, padding, 0, padding)).unsqueeze(0), hidden], 1)
            keep, take, show, new = self.gates(x).chunk(4, 1)
            cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
            hidden = show.sigmoid() * cell.tanh()
            found.append(hidden[0, :, : m.shape[-1], : m.shape[-1]])
        return found


@final
class Miner:
    r"""Proposes, tries and keeps edges, and learns from what they did.

    One :meth:`step` visits one layer on one batch, in evaluation mode: it draws a new edge, or, every second time and
    where no pair is left, one to take away, and measures the loss with and without. The reward is +1 where the loss
    falls by more than 0.003, -1 where it rises by more, else 0; for a new edge plus the mean over pixels of
    sign(\|F_t\| - \|F_s\|): a teacher should be surer than its student. What earns no positive reward is undone. The
    policy climbs :math:`r \nabla \log p` (REINFORCE) with SGD.

    After the public code, with these differences: actions are drawn from the softmax there is a gradient for (it
    takes the largest score, epsilon-greedily); one layer at a time, so that a reward belongs to one action; rewards
    are not shifted and multiplied (it repeats the list where it means to scale it); a full table gives up its newest
    edge (there: the one of least influence); the learning rate is ours.
    """

    def __init__(self, network: nn.Module, learning_rate: float = 0.1) -> None:
        self.network = network
        self.layers = interacting(network)
        if not self.layers:
            raise UserError("mine: no layer of this network can hold interactions; use --scheme ci-net")
        self.policy = Policy()
        self.optimizer = torch.optim.SGD(self.policy.parameters(), lr=learning_rate)
        self.scores = [torch.rand(2, n, n) - 0.5 for n in (layer.filter_shape[0] for layer in self.layers)]
        self.tried = self.kept = 0

    def step(self, number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Visit layer ``number`` modulo their count; return the loss with the edges as they now are, and the logits."""
        at = number % len(self.layers)
        correction = self._correction(at)
        edges = correction.edges
        maps = [self._map(index) for index in range(len(self.layers))]
        scores = self.policy(maps)
        before, logits, counts = self._try(at, images, labels)
        pairs = scores[at][0].numel() - scores[at].shape[-1]
        taking = len(edges) == pairs or (bool(edges) and number // len(self.layers) % 2 == 1)
        log_probability, changed, edge = _take_away(edges, scores[at]) if taking else _add(edges, scores[at])
        correction.set_edges(changed)
        after, new_logits, _ = self._try(at, images, labels)
        reward = _reward(before, after)
        if not taking:
            reward += float((counts[:, edge.teacher].abs() - counts[:, edge.student].abs()).sign().mean())
        self.tried += 1
        if reward > 0:
            self.kept += 1
            before, logits = after, new_logits
        else:
            correction.set_edges(edges)
        self.optimizer.zero_grad()
        (-reward * log_probability).backward()
        self.optimizer.step()
        self.scores = [score.detach() for score in scores]
        return before, logits

    @property
    def edges(self) -> int:
        """How many there are, in all layers."""
        return sum(len(self._correction(at).edges) for at in range(len(self.layers)))

    def state(self) -> dict[str, Any]:
        """What was learned, besides the edges."""
        learned = {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}
        return learned | {"scores": self.scores, "counts": [self.tried, self.kept]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scores = state["scores"]
        self.tried, self.kept = state["counts"]

    def _correction(self, at: int) -> Interaction:
        correction = self.layers[at].correction
        assert isinstance(correction, Interaction)
        return correction

    def _map(self, at: int) -> Tensor:
        """What the policy sees of a layer: its edges, and its scores of last time."""
        signs = torch.zeros_like(self.scores[at][0])
        for edge in self._correction(at).edges:
            signs[edge.student, edge.teacher] = edge.sign
        return torch.stack([signs, self.scores[at][0]])

    @torch.no_grad()
    def _try(self, at: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, logits and corrected counts of one layer."""
        seen: list[Tensor] = []
        hook = self._correction(at).register_forward_hook(lambda module, arguments, output: seen.append(output))
        self.network.eval()
        try:
            logits = self.network(images)
        finally:
            hook.remove()
        return functional.cross_entropy(logits, labels), logits, seen[0]


def interacting(network: nn.Module) -> list[QuantLayer]:
    """The layers that can hold edges: of two channels or more."""
    layers = [m for m in network.modules() if isinstance(m, QuantLayer) and isinstance(m.correction, Interaction)]
    return [layer for layer in layers if layer.filter_shape[0] > 1]


def _reward(before: Tensor, after: Tensor) -> float:
    change = float(before - after)
    return 1.0 if change > MARGIN else -1.0 if change < -MARGIN else 0.0


def _add(edges: list[Edge], scores: Tensor) -> tuple[Tensor, list[Edge], Edge]:
    """Draw a pair that has no edge yet and a sign; the last edge makes room where the table is full."""
    closed = torch.eye(scores.shape[-1], dtype=torch.bool)
    for edge in edges:
        closed[edge.student, edge.teacher] = True
    log_shares = scores[0].masked_fill(closed, -torch.inf).flatten().log_softmax(0)
    index = int(torch.multinomial(log_shares.detach().exp(), 1))
    student, teacher = divmod(index, scores.shape[-1])
    positive = scores[1, student, teacher].sigmoid()
    sign = 1 if float(torch.rand(())) < float(positive.detach()) else -1
    edge = Edge(teacher, student, sign)
    chance = positive if sign > 0 else 1 - positive
    return log_shares[index] + chance.log(), [*edges[: MOST_EDGES - 1], edge], edge


def _take_away(edges: list[Edge], scores: Tensor) -> tuple[Tensor, list[Edge], Edge]:
    """Draw an edge, the sooner the lower its existence score."""
    log_shares = -torch.stack([scores[0, edge.student, edge.teacher] for edge in edges])
    log_shares = log_shares.log_softmax(0)
    index = int(torch.multinomial(log_shares.detach().exp(), 1))
    return log_shares[index], edges[:index] + edges[index + 1 :], edges[index]
