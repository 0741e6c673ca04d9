import pytest
import torch
from torch import Tensor
from torch.nn import functional

from binarch.data import Augment, normalise
from binarch.errors import UserError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def noise(count: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def augmented(augment: Augment, pixels: Tensor, seed: int = 0) -> Tensor:
    return augment(pixels, MEAN, STD, torch.Generator().manual_seed(seed))


def reference(image: Tensor, top: int, left: int, flip: bool, centre: tuple[int, int] | None, augment) -> Tensor:
    """One image, pixel by pixel."""
    size, padding, out = image.shape[-1], augment.crop_padding, torch.zeros(3, *image.shape[1:])
    for channel in range(3):
        for y in range(size):
            for x in range(size):
                source_x = left + (size - 1 - x if flip else x) - padding
                source_y = top + y - padding
                if augment.crop_fill == "reflect":
                    source_x, source_y = (min(abs(at), 2 * (size - 1) - abs(at)) for at in (source_x, source_y))
                inside = 0 <= source_x < size and 0 <= source_y < size
                value = int(image[channel, source_y, source_x]) if inside else 0
                out[channel, y, x] = (value / 255 - MEAN[channel]) / STD[channel]
                if centre is not None:
                    low_y, low_x = centre[0] - augment.cutout // 2, centre[1] - augment.cutout // 2
                    if low_y <= y < low_y + augment.cutout and low_x <= x < low_x + augment.cutout:
                        out[channel, y, x] = 0
    return out


@pytest.mark.parametrize(
    "augment",
    [
        Augment(1, "random", 0),
        Augment(2, "none", 0),
        Augment(0, "random", 2),
        Augment(0, "none", 3),
        Augment(1, "random", 3),
        Augment(1, "none", 0, "reflect"),
    ],
)
def test_every_sample_is_a_reference_view_and_every_view_occurs(augment: Augment) -> None:
    image = noise(1, 4)
    places = range(2 * augment.crop_padding + 1)
    centres = [(y, x) for y in range(4) for x in range(4)] if augment.cutout else [None]
    views = torch.stack([
        reference(image[0], top, left, flip, centre, augment)
        for top in places for left in places for flip in {False, augment.flip == "random"} for centre in centres
    ])  # fmt: skip
    samples = augmented(augment, image.expand(8000, -1, -1, -1))
    distance = torch.cdist(samples.flatten(1), views.flatten(1), p=float("inf"))
    assert float(distance.min(1).values.max()) < 1e-5
    times = torch.bincount(distance.argmin(1), minlength=len(views))
    # Cutout can hide what tells two views apart, so only the number of distinct views is exact there.
    distinct = len(torch.unique((views * 1e4).round(), dim=0))
    assert int((times > 0).sum()) == distinct
    if not augment.cutout:
        expected = 8000 / len(views)
        assert 0.6 * expected < int(times.min())
        assert int(times.max()) < 1.4 * expected


def test_samples_of_a_batch_stay_apart() -> None:
    pixels = torch.arange(1, 65, dtype=torch.uint8).view(64, 1, 1, 1).expand(64, 3, 8, 8)
    views = augmented(Augment(2, "random", 0), pixels)
    flat = normalise(pixels, MEAN, STD)[:, :, :1, :1]
    black = normalise(torch.zeros_like(pixels), MEAN, STD)[:, :, :1, :1]
    assert bool(((views == flat) | (views == black)).all())
    assert bool((views == flat).flatten(1).any(1).all())


def test_cutout_16_erases_64_to_256_of_32x32_around_a_uniform_centre() -> None:
    views = augmented(Augment(0, "none", 16), torch.full((5000, 3, 32, 32), 255, dtype=torch.uint8))
    erased = views == 0
    assert torch.equal(erased[:, 0], erased[:, 1])
    assert torch.equal(erased[:, 0], erased[:, 2])
    areas = erased[:, 0].flatten(1).sum(1)
    assert int(areas.min()) == 64
    assert int(areas.max()) == 256
    assert torch.equal(areas, erased[:, 0].any(2).sum(1) * erased[:, 0].any(1).sum(1))  # a rectangle
    lengths = [min(32, c + 8) - max(0, c - 8) for c in range(32)]
    assert abs(float(areas.double().mean()) - (sum(lengths) / 32) ** 2) < 4


def test_turning_one_step_off_leaves_the_others() -> None:
    pixels = noise(32, 8)
    erased = augmented(Augment(2, "random", 4), pixels)
    whole = augmented(Augment(2, "random", 0), pixels)
    assert torch.equal(torch.where(erased == 0, whole, erased), whole)


def test_generator_alone_decides_and_pixels_are_left_alone() -> None:
    pixels = noise(16, 8)
    before = pixels.clone()
    augment = Augment(2, "random", 4)
    assert torch.equal(augmented(augment, pixels, 1), augmented(augment, pixels, 1))
    assert not torch.equal(augmented(augment, pixels, 1), augmented(augment, pixels, 2))
    assert torch.equal(pixels, before)


def test_normalise_is_the_formula() -> None:
    pixels = noise(2, 4)
    expected = (pixels.double() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(pixels, MEAN, STD).double(), expected, atol=1e-5, rtol=1e-5)
    assert normalise(pixels, MEAN, STD).dtype == torch.float32
    assert torch.equal(augmented(Augment(0, "none", 0), pixels), normalise(pixels, MEAN, STD))


def test_a_reflected_border_is_pytorch_s_and_goes_on_where_pytorch_s_ends() -> None:
    image = noise(1, 6)
    window = functional.pad(image.float(), (5, 5, 5, 5), mode="reflect").to(torch.uint8)
    views = augmented(Augment(5, "none", 0, "reflect"), image.expand(400, -1, -1, -1))
    places = [normalise(window[..., y : y + 6, x : x + 6], MEAN, STD)[0] for y in range(11) for x in range(11)]
    distance = torch.cdist(views.flatten(1), torch.stack(places).flatten(1), p=float("inf"))
    assert float(distance.min(1).values.max()) < 1e-5
    assert len(distance.argmin(1).unique()) > 80  # of 100: a period is 10
    line = torch.arange(3, dtype=torch.uint8).view(1, 1, 1, 3).expand(50, 3, 3, 3)
    far = augmented(Augment(9, "none", 0, "reflect"), line)  # three widths beyond the border
    assert {tuple(row.tolist()) for row in (far[:, 2, 0] * STD[2] + MEAN[2]).mul(255).round().int()} <= {
        (0, 1, 2), (1, 2, 1), (2, 1, 0), (1, 0, 1)
    }  # fmt: skip


def test_alternating_flips_mirror_those_whose_turn_it_is() -> None:
    pixels, turn = noise(6, 8), torch.tensor([True, False, False, True, True, False])
    plain = normalise(pixels, MEAN, STD)
    generator = torch.Generator().manual_seed(0)
    views = Augment(0, "alternating", 0)(pixels, MEAN, STD, generator, turn)
    assert torch.equal(views, torch.where(turn.view(-1, 1, 1, 1), plain.flip(3), plain))
    with pytest.raises(ValueError, match="turn"):
        augmented(Augment(0, "alternating", 0), pixels)
    with pytest.raises(UserError, match=r"flip: 'sometimes'.*alternating, none, random"):
        Augment(flip="sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["crop_padding", "cutout"])
def test_negative_numbers_are_refused(field: str) -> None:
    with pytest.raises(UserError, match=field):
        Augment(**{field: -1})
