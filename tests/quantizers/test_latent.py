"""Where latent weights may be, and how far they step."""

import pytest
import torch
from gradients import random

from binarch.quantizers import Boxed, CentredBoxed, Free, GlorotBoxed, LatentRule

#: The layers of the ConvNet of BinaryConnect and BNN, and their factors.
FACTORS = {
    (128, 3, 3, 3): 28.0, (128, 128, 3, 3): 39.2, (256, 128, 3, 3): 48.0, (256, 256, 3, 3): 55.4,
    (512, 256, 3, 3): 67.9, (512, 512, 3, 3): 78.4, (1024, 8192): 78.4, (1024, 1024): 37.0, (10, 1024): 26.3,
}  # fmt: skip


@pytest.mark.parametrize("shape", FACTORS)
def test_steps_are_lengthened_as_glorot_has_it(shape: tuple[int, ...]) -> None:
    assert GlorotBoxed().step_scale(torch.empty(shape, device="meta")) == pytest.approx(FACTORS[shape], abs=0.05)


def test_the_first_factor_more_exactly() -> None:
    assert GlorotBoxed().step_scale(torch.empty(128, 3, 3, 3)) == pytest.approx(28.04, abs=0.005)


def test_shifts_are_powers_of_two() -> None:
    found = [GlorotBoxed(shift=True).step_scale(torch.empty(shape, device="meta")) for shape in FACTORS]
    assert found == [32, 32, 64, 64, 64, 64, 64, 32, 32]


@pytest.mark.parametrize("rule", [Free(), Boxed(), CentredBoxed()])
def test_other_steps_keep_their_length(rule: LatentRule) -> None:
    assert rule.step_scale(torch.empty(128, 3, 3, 3)) == 1


@pytest.mark.parametrize("rule", [Boxed(), GlorotBoxed()])
def test_boxes_are_kept_in_place(rule: LatentRule) -> None:
    weight = torch.nn.Parameter(random(4, 3, 3, 3, spread=2))
    before, place = weight.detach().clone(), weight.data_ptr()
    rule.settle(weight)
    assert torch.equal(weight.detach(), before.clamp(-1, 1))
    assert weight.data_ptr() == place
    assert weight.requires_grad


def test_free_weights_go_anywhere() -> None:
    weight = random(4, 3, 3, 3, spread=5)
    before = weight.clone()
    Free().settle(weight)
    assert torch.equal(weight, before)


def test_centring_over_the_inputs_comes_before_the_box() -> None:
    weight = random(4, 3, 3, 3, spread=0.2)
    before = weight.clone()
    CentredBoxed().settle(weight)
    torch.testing.assert_close(weight, before - before.sum(1, keepdim=True) / 3)
    assert weight.mean(1).abs().max() < 1e-15
    wide = torch.tensor([3.0, 2.0]).view(1, 2, 1, 1)
    CentredBoxed().settle(wide)
    assert wide.flatten().tolist() == [0.5, -0.5]  # clipped first, both would be 0


def test_a_single_input_is_only_clipped() -> None:
    weight = torch.tensor([0.25, -3.0]).view(2, 1, 1, 1)
    CentredBoxed().settle(weight)
    assert weight.flatten().tolist() == [0.25, -1.0]


def test_linear_weights_are_centred_too() -> None:
    weight = random(5, 7, spread=0.1)
    CentredBoxed().settle(weight)
    assert weight.mean(1).abs().max() < 1e-15
