"""A network object: what it takes, what it answers, and many threads asking at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest
from random_programs import every_layer, planes, random_graph, some_images

from binarch.errors import UserError
from binarch.runtime import Network, load, reference
from binarch.runtime.ops import OPS

PROGRAM = every_layer()
IMAGES = some_images(PROGRAM, 7)
LOGITS = reference.run(PROGRAM, planes(IMAGES))


def test_the_network_has_every_instruction_and_answers_to_the_image() -> None:
    assert {op.name for op in PROGRAM.ops} == set(OPS)
    assert len(np.unique(LOGITS)) == LOGITS.size


def test_a_batch_one_image_and_none() -> None:
    network = Network(PROGRAM)
    np.testing.assert_array_equal(network.run(IMAGES), LOGITS)
    one = network.run(IMAGES[2])
    assert one.shape == (10,)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, LOGITS[2])
    assert network.run(IMAGES[:0]).shape == (0, 10)
    assert Network(PROGRAM, threads=3).run(IMAGES[:0]).shape == (0, 10)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_are_shares_of_the_full_brightness(kind: str) -> None:
    images = (IMAGES.astype(np.float32) / 255).astype(kind)
    expected = reference.run(PROGRAM, images.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_array_equal(Network(PROGRAM).run(images), expected)


def test_images_may_lie_in_memory_as_they_like() -> None:
    network = Network(PROGRAM)
    channels_first = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(network.run(channels_first), LOGITS)
    np.testing.assert_array_equal(network.run(IMAGES[::-2]), LOGITS[::-2])
    np.testing.assert_array_equal(network.run(np.asfortranarray(IMAGES)), LOGITS)
    frozen = IMAGES.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(network.run(frozen), LOGITS)
    assert frozen.tobytes() == IMAGES.tobytes()


def test_nothing_is_left_of_the_image_before() -> None:
    network = Network(PROGRAM)
    for k in (0, 1, 0, 5, 5, 0):
        np.testing.assert_array_equal(network.run(IMAGES[k]), LOGITS[k])
    first = network.run(IMAGES)
    network.run(IMAGES[::-1])
    np.testing.assert_array_equal(first, LOGITS)  # answers are not overwritten


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_left_in_any_program(seed: int) -> None:
    program = random_graph(Random(seed))
    images = some_images(program, 3, seed)
    network = Network(program)
    once = network.run(images)
    np.testing.assert_array_equal(network.run(images[::-1])[::-1], once)


@pytest.mark.parametrize(
    "images",
    [np.zeros((9, 8, 3), np.uint8), np.zeros((8, 9), np.uint8), np.zeros((1, 1, 8, 9, 3), np.uint8),
     np.zeros((3, 8, 9), np.uint8), np.zeros((8, 9, 4), np.uint8), 3],
    ids=lambda images: str(np.shape(images)),
)  # fmt: skip
def test_images_of_another_size(images: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"images: shape .* does not fit; give .* = \(8, 9, 3\)"):
        Network(PROGRAM).run(images)


@pytest.mark.parametrize("kind", [np.int64, np.bool_, np.complex64, np.uint16, object])
def test_images_of_another_type(kind: type) -> None:
    with pytest.raises(UserError, match=r"images: type .* is not possible; give uint8 pixels, or floats"):
        Network(PROGRAM).run(IMAGES.astype(kind))


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_are_not_possible(threads: int) -> None:
    with pytest.raises(UserError, match=f"threads: {threads} is not possible; use 1 or more"):
        Network(PROGRAM, threads=threads)


def test_predictions_are_the_best_classes_with_their_shares() -> None:
    network = Network(PROGRAM)
    shares = np.exp(LOGITS.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    for row, expected in zip(network.predict(IMAGES, top=3), shares, strict=True):
        assert [name for name, _ in row] == [network.classes[k] for k in np.argsort(-expected)[:3]]
        assert [share for _, share in row] == pytest.approx(sorted(expected)[:-4:-1])
    assert network.predict(IMAGES[0], top=3) == network.predict(IMAGES, top=3)[:1]
    assert len(network.predict(IMAGES[0], top=99)[0]) == 10
    assert len(network.predict(IMAGES[0])[0]) == 5
    with pytest.raises(UserError, match="top: 0 is not possible"):
        network.predict(IMAGES, top=0)


def test_a_loaded_file_gives_the_same(tmp_path: Path) -> None:
    PROGRAM.save(tmp_path / "x.safetensors")
    network = load(tmp_path / "x.safetensors", threads=2)
    assert (network.size, network.threads) == ((8, 9, 3), 2)
    network.warmup()
    np.testing.assert_array_equal(network.run(IMAGES), LOGITS)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads: int) -> None:
    network = Network(PROGRAM, threads=threads)
    for count in (1, 2, 5, 7):
        np.testing.assert_array_equal(network.run(IMAGES[:count]), LOGITS[:count])
    np.testing.assert_array_equal(network.run(IMAGES[3]), LOGITS[3])


@pytest.mark.parametrize("threads, times", [(1, 1000), (2, 50)])
def test_eight_threads_share_a_network(threads: int, times: int) -> None:
    """Each asks many times, in an order of its own; now and then for several images at once."""
    network = Network(PROGRAM, threads=threads)

    def ask(seed: int) -> int:
        order = np.random.default_rng(seed).integers(0, len(IMAGES), times)
        batches = [k if k else order[:3] for k in order]
        return sum(np.array_equal(network.run(IMAGES[k]), LOGITS[k]) for k in batches)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [times] * 8
