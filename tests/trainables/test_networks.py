from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables import nets
from trainables import fields, models
from trainables.comparison import prepare
from trainables.config import ModelConfig, Runtime, TrialConfig, UsedModel
from trainables.contracts import NetworkContract
from trainables.imports import CodeError
from trainables.models import own
from trainables.seeds import generator

LAB = "tests.trainables.nets"
RUNTIME = Runtime(device="cpu", threads=1)


def used(use: str, **options: Any) -> UsedModel:
    return UsedModel.model_validate({"use": use, **options})


def trial(use: str, **options: Any) -> TrialConfig:
    dotted = {f"model.{key}": value for key, value in options.items()}
    return TrialConfig.from_dotted(
        {"model.use": f"{LAB}:{use}", **dotted, "dataset.samples_per_class": 4, "batch_size": 8, "epochs": 2}
        | {"optimizer.lr": 0.01}
    )


def weights(state: Any) -> dict[str, torch.Tensor]:
    return {f"{arm}.{key}": value for arm, one in state["arms"].items() for key, value in one["model"].items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize(
    ("use", "options"), [("resnet", {"dropout": 0.5}), ("vit", {"dropout": 0.3}), ("convnext", {}), ("Pretrained", {})]
)
def test_a_network_of_ones_own_trains_and_goes_on_bit_for_bit(use: str, options: dict[str, Any]) -> None:
    config = trial(use, **options)
    outside = torch.get_rng_state()
    whole = prepare(config, RUNTIME)
    whole.step()
    start = weights(whole.state_dict())
    whole.step()
    state = copy.deepcopy(whole.state_dict())
    whole.step()
    torch.rand(5)  # what others draw meanwhile is no matter
    resumed = prepare(config, RUNTIME)
    resumed.load_state_dict(state)
    resumed.step()
    assert same(weights(whole.state_dict()), weights(resumed.state_dict()))
    assert not same(start, weights(state))
    assert torch.equal(torch.get_rng_state(), _after(outside))


def _after(outside: torch.Tensor) -> torch.Tensor:
    """Where the global generator stands once five numbers were drawn, and nothing else."""
    one = torch.Generator()
    one.set_state(outside)
    torch.rand(5, generator=one)
    return one.get_state()


def test_arms_begin_alike_and_dropout_draws_from_their_own_streams() -> None:
    comparison = prepare(trial("vit", dropout=0.3), RUNTIME)
    one, other = comparison.arms
    assert same(dict(one.model.state_dict()), dict(other.model.state_dict()))
    before = {arm.name: arm.state_dict()["layers"]["cpu"] for arm in comparison.arms}
    assert torch.equal(*before.values())
    comparison.step()
    comparison.step()
    after = {arm.name: arm.state_dict()["layers"]["cpu"] for arm in comparison.arms}
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_built_in_network_keeps_no_stream() -> None:
    config = TrialConfig.from_dotted({"model.name": "FCNet4", "dataset.samples_per_class": 4})
    assert all("layers" not in arm.state_dict() for arm in prepare(config, RUNTIME).arms)


def test_the_global_generators_are_put_back() -> None:
    def states() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    def draw(context: Any) -> tuple[float, ...]:
        with context:
            return float(torch.rand(())), random.random(), float(np.random.rand())

    contexts = [own.seeded(generator(seed, "weights")) for seed in (0, 0, 1)]
    before = states()
    one, same_seed, other = map(draw, contexts)
    assert states() == before
    assert one == same_seed
    assert all(ours != theirs for ours, theirs in zip(one, other, strict=True))


def test_weights_and_buffers_that_a_callable_sets_are_kept_and_the_others_drawn_from_the_seed() -> None:
    network = own.build(used(f"{LAB}:Pretrained"), 1, (32, 32), 4, generator(0, "weights"))
    assert (network.out.weight == 0.25).all()
    assert network.scale == 3
    again = own.build(used(f"{LAB}:Pretrained"), 1, (32, 32), 4, generator(0, "weights"))
    other = own.build(used(f"{LAB}:Pretrained"), 1, (32, 32), 4, generator(1, "weights"))
    assert torch.equal(network.convolution.weight, again.convolution.weight)
    assert not torch.equal(network.convolution.weight, other.convolution.weight)


def test_the_classes_are_told_to_what_takes_any_option_and_ones_own_option_wins() -> None:
    config = used("torchvision.models:resnet18")
    assert models.examine(config, 3, (40, 24), 7).output == (7,)
    with pytest.raises(CodeError, match=r"shape \[2, 5\], and must have \[2, 7\]"):
        models.examine(used("torchvision.models:resnet18", num_classes=5), 3, (40, 24), 7)


@pytest.mark.parametrize(
    ("use", "options", "message"),
    [
        ("three", {}, r"shape \[2, 3\], and must have \[2, 10\]"),
        ("boom", {}, r"ValueError: no luck \(.*nets\.py, line \d+\)"),
        ("text", {}, r"must return a torch\.nn\.Module, not a str"),
        ("empty", {}, "no parameters to train"),
        ("narrow", {}, r"images of shape \[1, 32, 32\].*cannot be multiplied"),
        ("vit", {"dropuot": 0.1}, "model.dropuot: unknown option; did you mean 'dropout'"),
        ("reznet", {}, "did you mean 'resnet'"),
        ("LAB", {}, "has no 'LAB'"),
    ],
)
def test_what_is_wrong_with_a_network_is_said_before_anything_runs(
    use: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodeError, match=message) as caught:
        models.examine(used(f"{LAB}:{use}", **options), 1, (32, 32), 10)
    assert "\n" not in str(caught.value)


def test_images_that_are_too_small_for_lenet_are_refused() -> None:
    with pytest.raises(CodeError, match="LeNet: takes images of 16 x 16 pixels or more, not 28 x 12"):
        models.examine(ModelConfig(name="LeNet"), 1, (28, 12), 10)


@pytest.mark.parametrize(
    "name", ["LeNet", "FCNet5", "FCNet6x5x4", "ResNet18", "DLA", "SimpleDLA", "ResNet20", "Linear"]
)
def test_built_in_networks_take_images_of_any_size(name: str) -> None:
    assert models.examine(ModelConfig(name=name), 3, (17, 40), 7).output == (7,)


def test_options_of_ones_own_are_no_keys_of_a_known_type() -> None:
    assert fields.kinds("model.model_name") == frozenset()
    assert fields.kinds("model.name") == fields.kinds("model.use") == {str}
    config = trial("vit", dropout=0.3)
    assert TrialConfig.from_dotted(config.to_dotted()) == config
    assert config.to_dotted()["model.dropout"] == 0.3


class TestResNet(NetworkContract):
    def build(self) -> nn.Module:
        return nets.resnet(10, dropout=0.5)


class TestViT(NetworkContract):
    channels, size, classes = 1, (16, 16), 3

    def build(self) -> nn.Module:
        return nets.vit(3, (16, 16), dropout=0.5)


class TestConvNeXt(NetworkContract):
    def build(self) -> nn.Module:
        return nets.convnext(10)


class Careless(nn.Module):
    """Draws in evaluation, and does not use one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.unused = nn.Linear(3 * 32 * 32, 10), nn.Linear(1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.out(images.flatten(1)))


@pytest.mark.parametrize(
    "test",
    [
        NetworkContract.test_a_gradient_reaches_every_parameter_that_is_trained,
        NetworkContract.test_in_evaluation_an_image_says_the_same_alone_and_among_others,
    ],
)
def test_the_contract_can_fail(test: Any) -> None:
    contract = NetworkContract()
    contract.build = Careless  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        test(contract)
