"""Muon against its formula, and against PyTorch's on matrices."""

import copy

import pytest
import torch
from torch import Tensor

from binarch.training.muon import Muon, orthogonalised


def stepped(optimizer: torch.optim.Optimizer, parameters: list[Tensor], steps: int = 5) -> None:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (3, 8, 24)])
def test_singular_values_end_near_one_and_singular_vectors_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = orthogonalised(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    values = u.mT @ found @ v.mT
    kept = values.diagonal(dim1=-2, dim2=-1)
    assert 0.65 < float(kept.min()) < float(kept.max()) < 1.22
    torch.testing.assert_close(values, torch.diag_embed(kept), atol=1e-4, rtol=0)


def test_it_is_the_quintic_of_the_singular_values() -> None:
    values = torch.tensor([0.9, 0.4, 0.1, 0.01], dtype=torch.float64)
    expected = values / values.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(orthogonalised(torch.diag(values)), torch.diag(expected))
    assert not orthogonalised(torch.zeros(3, 2)).any()


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_on_matrices_it_is_pytorch_s_but_for_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.randn(shape)) for _ in range(2))
    theirs.data.copy_(ours.data)
    before = ours.detach().clone()
    stepped(Muon([{"params": [ours], "lr": 0.02, "weight_decay": 0.1, "groups": 1}]), [ours])
    stepped(torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), [theirs])
    moved = (theirs - before).abs().max()
    assert (ours - theirs).abs().max() < 0.02 * moved


def test_each_group_of_a_convolution_is_a_matrix_of_its_own() -> None:
    torch.manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(6, 2, 3, 3))
    parts = [torch.nn.Parameter(part.clone()) for part in whole.detach().split(2)]
    gradient = torch.randn(6, 2, 3, 3)
    whole.grad = gradient
    for part, grad in zip(parts, gradient.split(2), strict=True):
        part.grad = grad.clone()
    Muon([{"params": [whole], "lr": 0.1, "groups": 3}]).step()
    Muon([{"params": parts, "lr": 0.1, "groups": 1}]).step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]))


def test_the_rest_takes_the_steps_of_adamw_and_a_state_continues() -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.randn(4, 3))]
    theirs = copy.deepcopy(ours)
    stepped(Muon([{"params": ours, "lr": 0.01, "weight_decay": 0.1, "groups": 0}]), ours)
    stepped(torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1), theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def made(parameters: list[torch.nn.Parameter]) -> Muon:
        return Muon([{"params": parameters[:1], "groups": 0}, {"params": parameters[1:], "groups": 1}])

    first = made(ours)
    stepped(first, ours)
    copied = copy.deepcopy(ours)
    second = made(copied)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, parameters in ((first, ours), (second, copied)):
        stepped(optimizer, parameters)
    assert all(torch.equal(a, b) for a, b in zip(ours, copied, strict=True))
