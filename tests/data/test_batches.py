from itertools import pairwise

import pytest
import torch

from binarch.data import Augment, Batches, Flip, Images, evaluation_batches
from binarch.errors import UserError

MEAN, STD = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)


def numbered(count: int) -> Images:
    """Image k is filled with the value k, so that a batch tells which images it holds."""
    values = torch.arange(count)
    return Images(values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous(), values % 3)


def batches(count: int = 50, batch_size: int = 8, seed: int = 0, augment: Augment | None = None) -> Batches:
    return Batches(numbered(count), MEAN, STD, batch_size, seed, augment)


def visited(made: Batches, epoch: int) -> list[int]:
    return [round(float(x)) for step in range(len(made)) for x in made.get(epoch, step)[0][:, 0, 0, 0]]


@pytest.mark.parametrize("flip", ["random", "alternating"])
def test_any_step_is_the_same_whatever_came_before(flip: Flip) -> None:
    augment = Augment(2, flip, 4)
    walked = batches(augment=augment)
    expected = {(epoch, step): walked.get(epoch, step) for epoch in range(3) for step in range(len(walked))}
    fresh = batches(augment=augment)
    for epoch, step in [(2, 5), (0, 0), (2, 1), (1, 3), (0, 5), (2, 5)]:
        x, y = fresh.get(epoch, step)
        assert torch.equal(x, expected[epoch, step][0])
        assert torch.equal(y, expected[epoch, step][1])


def test_an_epoch_visits_images_at_most_once_in_an_order_of_its_own() -> None:
    made = batches(48)
    first, second = visited(made, 0), visited(made, 1)
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second
    assert visited(batches(48, seed=1), 0) != first


def test_labels_follow_their_images() -> None:
    x, y = batches().get(3, 2)
    assert torch.equal(x[:, 0, 0, 0].round().long() % 3, y)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64


def test_augmentation_differs_from_step_to_step_and_epoch_to_epoch() -> None:
    same = Images(torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(32, 3, 8, 8), torch.zeros(32).long())
    made = Batches(same, MEAN, STD, 16, 0, Augment(2, "random", 0))
    views = [made.get(0, 0)[0], made.get(0, 1)[0], made.get(1, 0)[0], made.get(1, 1)[0]]
    assert all(not torch.equal(views[i], views[j]) for i in range(4) for j in range(i))


def mirrored(made: Batches, epoch: int) -> dict[int, bool]:
    """For each image that an epoch visits whether it is mirrored; the first column of image k holds k."""
    rows = torch.cat([made.get(epoch, step)[0] for step in range(len(made))])[:, 0, 0].round()
    return {int(row.max()) - 1: bool(row[0] == 0) for row in rows}


@pytest.mark.parametrize("count", [16, 17])
def test_alternating_flips_show_each_image_once_each_way_in_two_epochs(count: int) -> None:
    pixels = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    pixels[:, :, :, 0] = torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1)
    images = Images(pixels, torch.zeros(count).long())
    made = [Batches(images, MEAN, STD, 1, seed, Augment(0, "alternating", 0)) for seed in (0, 1)]
    epochs = [mirrored(made[0], epoch) for epoch in range(4)]
    for epoch, following in pairwise(epochs):
        assert all(epoch[image] != following[image] for image in range(count))
    assert sum(epochs[0].values()) == (count + 1) // 2
    assert epochs[0] != mirrored(made[1], 0)


def test_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batches(augment=Augment()).get(0, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("count, batch_size, steps, effective", [(50, 8, 6, 8), (5, 8, 1, 5), (8, 8, 1, 8)])
def test_partial_batch_is_dropped_and_a_small_set_is_one_batch(count, batch_size, steps, effective) -> None:
    made = batches(count, batch_size)
    assert (len(made), made.batch_size) == (steps, effective)
    assert made.get(0, steps - 1)[0].shape == (effective, 3, 8, 8)
    for step in (-1, steps):
        with pytest.raises(IndexError, match="step"):
            made.get(0, step)


def test_evaluation_goes_through_everything_in_order() -> None:
    parts = list(evaluation_batches(numbered(21), MEAN, STD, 8))
    assert [len(y) for _, y in parts] == [8, 8, 5]
    assert torch.cat([x for x, _ in parts])[:, 0, 0, 0].round().tolist() == list(range(21))
    assert torch.equal(torch.cat([y for _, y in parts]), numbered(21).labels)


def test_nonsense_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size: 0"):
        batches(batch_size=0)
    with pytest.raises(UserError, match="no images"):
        batches(0)
    with pytest.raises(UserError, match="batch_size"):
        next(evaluation_batches(numbered(4), MEAN, STD, 0))


def test_images_check_themselves_and_subset() -> None:
    assert numbered(9).subset(torch.tensor([4, 1])).pixels[:, 0, 0, 0].tolist() == [4, 1]
    with pytest.raises(ValueError, match="uint8"):
        Images(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="int64"):
        Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
