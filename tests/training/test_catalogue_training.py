"""Networks of the catalogue, trained with every scheme: learned, kept, interrupted, continued, packed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from binarch.data import DataConfig, Dataset, load
from binarch.deploy import pack_run
from binarch.errors import UserError
from binarch.models import MODELS, NetworkConfig, find_architecture
from binarch.nn import SCHEMES, QuantLayer, find_scheme
from binarch.quantizers import Interaction, LqActivation, LqWeight, TrainedTernary
from binarch.runs import RunFolder
from binarch.runtime import Network
from binarch.spaces import Genotype
from binarch.training import Display, Interrupted, TrainConfig, evaluate, evaluate_run, load_network, train
from binarch.training import loop as loop_module

torch.set_num_threads(1)
DATA = DataConfig(limit=120, image_size=8)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DATA)


def settings(scheme: str, **changes: Any) -> tuple[str, TrainConfig]:
    """A network and how it is trained: nine steps an epoch."""
    everywhere = find_scheme(scheme).where == "all"
    config = TrainConfig(
        data=DATA, network=NetworkConfig(scheme=scheme, width=8), binarize=("both",), epochs=(3,),
        learning_rate=(1e-2,), batch_size=12, crop_padding=0, flip="none", device="cpu", precision="32",
    )  # fmt: skip
    return "vgg-small-fc" if everywhere else "vgg-small", replace(config, **changes)


#: Trainings by name: of each scheme, and those of several stages.
TRAININGS: dict[str, tuple[str, TrainConfig]] = {
    **{name: settings(name) for name in SCHEMES},
    # Drawn at random in training, these learn slowly.
    **{
        name: settings(name, epochs=(8,), learning_rate=(0.03,), batch_size=27)
        for name in ("bc-stochastic", "bnn-shift")
    },
    "ttq after a real network": settings("ttq", binarize=("none", "both"), epochs=(2, 1)),
    "ccnn after binary activations": settings("ccnn", binarize=("activations", "both"), epochs=(2, 1)),
    "ci-net, mined": settings("ci-net", binarize=("both", "mine", "both"), epochs=(1, 2, 1)),
    "ci-net after a real network": settings("ci-net", binarize=("none", "both"), epochs=(1, 1)),
    "ci-net after binary activations": settings("ci-net", binarize=("activations", "both"), epochs=(1, 1)),
}


def quiet() -> Display:
    return Display(console=Console(quiet=True))


class Killed(Exception):
    """As if the power had gone."""


@contextmanager
def stopped(after: int, how: str = "ctrl-c") -> Iterator[None]:
    """Ctrl-C, or an end without a warning, in step ``after`` of any optimizer."""
    left = [after]

    def look(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0 and how == "ctrl-c":
            signal.raise_signal(signal.SIGINT)
        elif left[0] == 0:
            raise Killed

    hook = register_optimizer_step_post_hook(look)
    try:
        yield
    finally:
        hook.remove()


def recorded(folder: Path) -> tuple[list[dict[str, Any]], bytes, dict[str, Any]]:
    """What a training leaves, without how long it took."""
    times = ("seconds", "images_per_second", "train_seconds")
    run = RunFolder(folder)
    rows = [{key: value for key, value in row.items() if key not in times} for row in run.metrics()]
    result = {key: value for key, value in run.read_json("result.json").items() if key not in times}
    return rows, (folder / "network.safetensors").read_bytes(), result


@pytest.fixture(scope="module")
def whole(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a training by name, done once."""
    place = tmp_path_factory.mktemp("whole")

    def folder(name: str) -> Path:
        arch, config = TRAININGS[name]
        if not (place / name).exists():
            train(arch, config, digits, RunFolder(place / name), quiet())
        return place / name

    return folder


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_learns_and_is_read_back(name: str, whole: Any, digits: Dataset) -> None:
    run = RunFolder(whole(name))
    arch, config = TRAININGS[name]
    rows, result = run.metrics(), run.read_json("result.json")
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert not run.has("genotype.json")
    plain = run.read_json("config.json")
    assert (plain["arch"], plain["network"]["scheme"]) == (arch, name)
    network, again = load_network(run)
    assert again == config
    assert evaluate(network, digits.test(), digits).accuracy == result["test_accuracy"]
    assert evaluate_run(run, None, "cpu")["test_accuracy"] == result["test_accuracy"]
    for row in rows:
        assert 0 < row["flip_ratio"] < 1
        assert ("saturated" in row) == (find_scheme(name).bits[1] < 32)
        assert 0 <= row.get("saturated", 0) < 1


@pytest.mark.parametrize("name", TRAININGS)
def test_packed_it_gives_the_same_predictions(name: str, whole: Any, digits: Dataset) -> None:
    program = pack_run(RunFolder(whole(name)))
    network, _ = load_network(RunFolder(whole(name)))
    images = digits.test().subset(torch.arange(60)).pixels
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (digits.mean, digits.std))
    with torch.no_grad():
        expected = network.eval()((images.float() / 255 - mean) / std).numpy()
    found = Network(program).run(images.permute(0, 2, 3, 1).contiguous().numpy())
    assert (found.argmax(1) == expected.argmax(1)).all()
    assert abs(found - expected).max() <= 1e-5 * abs(expected).max()
    assert program.card["network"]["scheme"] == TRAININGS[name][1].network.scheme


#: Trainings and steps in which they are stopped.
STOPS: dict[str, tuple[int, ...]] = dict.fromkeys(SCHEMES, (15,)) | {
    "ttq after a real network": (3, 20),
    "ci-net, mined": (3, 8, 14, 7),
}


@pytest.mark.parametrize("name", STOPS)
def test_stopped_and_resumed_it_is_the_same_bit_for_bit(name: str, whole: Any, digits: Dataset, tmp_path: Path) -> None:
    arch, config = TRAININGS[name]
    for steps in STOPS[name]:
        with stopped(steps), pytest.raises(Interrupted):
            train(arch, config, digits, RunFolder(tmp_path), quiet(), resume=True)
        assert RunFolder(tmp_path).load_checkpoint()["position"]["step"] > 0  # type: ignore[index]
    train(arch, config, digits, RunFolder(tmp_path), quiet(), resume=True)
    assert recorded(tmp_path) == recorded(whole(name))


@pytest.mark.parametrize("name", ["ci-net, mined"])
def test_killed_again_and_again_it_is_the_same(
    name: str, whole: Any, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch, config = TRAININGS[name]
    monkeypatch.setattr(loop_module, "CHECKPOINT_SECONDS", -1.0)
    for steps in (5, 8, 9, 6):
        with stopped(steps, "kill"), pytest.raises(Killed):
            train(arch, config, digits, RunFolder(tmp_path), quiet(), resume=True)
    train(arch, config, digits, RunFolder(tmp_path), quiet(), resume=True)
    assert recorded(tmp_path) == recorded(whole(name))


def quantizers(network: nn.Module, kind: type) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kind)]


def test_what_quantizers_learn_is_kept(whole: Any) -> None:
    lq, _ = load_network(RunFolder(whole("lq-net")))
    start = NetworkConfig(scheme="lq-net", width=8).build("vgg-small", 10, "both", 8)
    for kind in (LqWeight, LqActivation):
        for learned, fresh in zip(quantizers(lq, kind), quantizers(start, kind), strict=True):
            assert not torch.allclose(learned.basis, fresh.basis, rtol=1e-2)
    for name in ("ttq", "ttq after a real network"):
        ttq, _ = load_network(RunFolder(whole(name)))
        scales = [value.item() for q in quantizers(ttq, TrainedTernary) for value in (q.positive, q.negative)]
        assert len(scales) == 10
        assert all(scale != 1 for scale in scales)
    stored = load_file(whole("ttq") / "network.safetensors")
    assert sum(key.endswith(("positive", "negative")) for key in stored) == 10


def test_stages_are_told_apart_in_the_record(whole: Any) -> None:
    rows = RunFolder(whole("ttq after a real network")).metrics()
    assert [row["stage_name"] for row in rows] == ["real-valued"] * 2 + ["real activations, 2-bit weights"]
    assert ["flip_ratio" in row for row in rows] == [False, False, True]
    rows = RunFolder(whole("ccnn after binary activations")).metrics()
    assert ["flip_ratio" in row for row in rows] == [False, False, True]
    assert all("saturated" in row for row in rows)
    rows = RunFolder(whole("ci-net, mined")).metrics()
    assert [row["stage"] for row in rows] == [0, 1, 1, 2]
    assert [row["global_epoch"] for row in rows] == [0, 1, 2, 3]
    assert ["edges" in row for row in rows] == [False, True, True, False]
    assert rows[2]["edges"] > 0
    assert 0 < rows[2]["actions_kept"] <= 1
    assert rows[1]["stage_name"] == "mining of interactions"


def test_mined_edges_stay_in_the_last_stage(whole: Any) -> None:
    network, config = load_network(RunFolder(whole("ci-net, mined")))
    rows = RunFolder(whole("ci-net, mined")).metrics()
    assert sum(len(correction.edges) for correction in quantizers(network, Interaction)) == rows[2]["edges"]
    assert config.binarize == ("both", "mine", "both")


@pytest.mark.parametrize("scheme, optimizer, rate", [("bnn", "adamw", 2e-3), ("lq-net", "nesterov", 0.02)])
def test_other_losses_optimizers_and_schedules_train_too(
    scheme: str, optimizer: str, rate: float, digits: Dataset, tmp_path: Path
) -> None:
    arch, config = settings(
        scheme, loss="squared_hinge", optimizer=optimizer, schedule="steps:0.5@0.5", learning_rate=(rate,), epochs=(4,)
    )
    train(arch, config, digits, RunFolder(tmp_path), quiet())
    rows = RunFolder(tmp_path).metrics()
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert [row["lr"] for row in rows] == pytest.approx([rate, rate, rate / 2, rate / 2])


def test_the_latent_rule_lengthens_the_step_and_clips(digits: Dataset, tmp_path: Path) -> None:
    """With Adam a number goes about as far as the learning rate; a latent weight 1 / sqrt(1.5 / (in + out)) as far."""
    arch, config = settings("bc", schedule="exponential:1", learning_rate=(1e-3,), batch_size=2000)
    ends = []
    for steps in (1, 2):
        run = RunFolder(tmp_path / str(steps))
        train(arch, replace(config, epochs=(steps,)), digits, run, quiet())
        ends.append(load_file(run / "network.safetensors"))
    assert all(end["0.weight"].abs().max() <= 1 for end in ends)
    weight, norm = ((ends[1][key] - ends[0][key]).abs().max().item() for key in ("0.weight", "1.weight"))
    assert weight / norm == pytest.approx(1 / np.sqrt(1.5 / ((3 + 8) * 9)), rel=0.2)


@pytest.mark.parametrize("scheme", ["bc", "bc-stochastic", "bnn", "cbcn"])
@pytest.mark.parametrize("stages", [("none", "both"), ("activations", "both")])
def test_stages_that_do_not_fit_are_refused(
    scheme: str, stages: tuple[Any, ...], digits: Dataset, tmp_path: Path
) -> None:
    arch, config = settings(scheme, binarize=stages)
    with pytest.raises(
        UserError, match=f"^binarize: {' '.join(stages)} is not possible with {scheme}.*--binarize both"
    ):
        train(arch, config, digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()


def test_stages_with_other_norms_are_refused(digits: Dataset, tmp_path: Path) -> None:
    arch, config = settings("hwgq", binarize=("none", "both"), epochs=(1,))
    with pytest.raises(UserError, match=r"^binarize: .*give this scheme one stage"):
        train(arch, config, digits, RunFolder(tmp_path), quiet())


@pytest.mark.parametrize(
    "scheme, stages",
    [
        ("bats", ("both", "mine", "both")),
        ("ci-net", ("mine",)),
        ("ci-net", ("mine", "both")),
        ("ci-net", ("both", "mine")),
        ("ci-net", ("none", "mine", "both")),
        ("ci-net", ("both", "activations", "mine", "both")),
    ],
)
def test_mining_stands_between_two_stages_of_ci_net(scheme: str, stages: tuple[Any, ...]) -> None:
    with pytest.raises(UserError, match=r"^binarize: .*--scheme ci-net and stands between.*both mine both"):
        settings(scheme, binarize=stages)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError) as caught:
        NetworkConfig(scheme="xnor")
    assert all(name in str(caught.value) for name in SCHEMES)
    with pytest.raises(UserError) as caught:
        find_architecture("resnet21")
    assert str(caught.value).startswith("arch: 'resnet21'")
    assert all(name in str(caught.value) for name in MODELS)
    assert find_architecture("resnet20") == "resnet20"
    assert isinstance(find_architecture("pdarts"), Genotype)


def test_images_and_widths_that_do_not_fit_are_refused(digits: Dataset, tmp_path: Path) -> None:
    arch, config = settings("cbcn")
    with pytest.raises(UserError, match="cbcn needs channels in multiples of 4"):
        train(arch, replace(config, network=replace(config.network, width=6)), digits, RunFolder(tmp_path), quiet())
    small = replace(config, data=replace(DATA, image_size=12))
    with pytest.raises(UserError, match=r"^image_size: 12"):
        train(arch, small, load(small.data), RunFolder(tmp_path), quiet())
    with pytest.raises(UserError, match=r"^width: -1"):
        train(arch, replace(config, network=replace(config.network, width=-1)), digits, RunFolder(tmp_path), quiet())
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_network_is_not_continued(whole: Any, digits: Dataset) -> None:
    arch, config = TRAININGS["bats"]
    with pytest.raises(UserError, match=r"^arch: 'resnet20'"):
        train("resnet20", config, digits, RunFolder(whole("bats")), quiet(), resume=True)
    other = replace(config, network=replace(config.network, scheme="ccnn"))
    with pytest.raises(UserError, match=r"^network\.scheme: 'ccnn'"):
        train(arch, other, digits, RunFolder(whole("bats")), quiet(), resume=True)


def test_quantized_layers_of_the_first_stage_have_real_weights() -> None:
    network = NetworkConfig(scheme="ccnn", width=8).build("vgg-small", 10, "activations", 8)
    layers = [module for module in network.modules() if isinstance(module, QuantLayer)]
    assert {layer.weight_quantizer.bits for layer in layers} == {32}
    assert {layer.activation_quantizer.bits for layer in layers} == {1}
