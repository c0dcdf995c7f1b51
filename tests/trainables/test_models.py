from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from trainables import models
from trainables.config import ModelConfig
from trainables.models.fcnet import FCNet
from trainables.models.lenet import LeNet
from trainables.models.resnet import ResNet18

NAMES = ["LeNet", "ResNet18", "FCNet7"]


def build(name: str, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    return models.build(ModelConfig(name=name), channels, classes, torch.Generator().manual_seed(seed))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "parameters"), [("LeNet", 62_006), ("ResNet18", 11_173_962)])
def test_networks_have_the_parameters_of_their_papers_form(name: str, parameters: int) -> None:
    assert count(build(name)) == parameters


@pytest.mark.parametrize("hidden", [1, 10, 300])
@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 100)])
def test_fcnet_has_one_hidden_layer(hidden: int, channels: int, classes: int) -> None:
    inputs = channels * 32 * 32
    assert count(build(f"FCNet{hidden}", channels, classes)) == (inputs + 1) * hidden + (hidden + 1) * classes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 5)])
def test_a_gradient_reaches_every_parameter_from_logits_of_the_right_shape(
    name: str, channels: int, classes: int
) -> None:
    model = build(name, channels, classes)
    logits = model(torch.randn(4, channels, 32, 32, generator=torch.Generator().manual_seed(1)))
    assert logits.shape == (4, classes)
    nn.functional.cross_entropy(logits, torch.arange(4) % classes).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize(
    ("name", "construct"),
    [
        ("LeNet", lambda: LeNet(3, 10)),
        ("FCNet7", lambda: FCNet(3, 10, hidden=7)),
        ("ResNet18", lambda: ResNet18(3, 10)),
    ],
)
def test_initial_weights_are_pytorchs_own_under_the_same_seed(name: str, construct: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        reference = construct().state_dict()
    ours = build(name, seed=11).state_dict()
    assert list(ours) == list(reference)
    for key, value in reference.items():
        assert torch.equal(ours[key], value), key
        assert ours[key].dtype == value.dtype, key


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights_and_the_global_generator_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    one, same, other = build(name, seed=3), build(name, seed=3), build(name, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    assert any(not torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert {p.device.type for p in one.parameters()} == {"cpu"}


def test_a_layer_without_a_known_initialization_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    with pytest.raises(TypeError, match="LayerNorm, layer '1'"):
        models.initialize(model, torch.Generator())


def test_resnet_halves_the_picture_three_times() -> None:
    model = build("ResNet18")
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(64, 32, 32)] * 2 + [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(512, 4, 4)] * 2
