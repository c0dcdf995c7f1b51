from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d

from trainables import models
from trainables.config import NETWORKS, ModelConfig
from trainables.models.dla import DLA
from trainables.models.fcnet import FCNet
from trainables.models.lenet import LeNet
from trainables.models.linear import Linear
from trainables.models.resnet import ResNet18
from trainables.models.simple_dla import SimpleDLA
from trainables.models.small_resnet import SmallResNet

NAMES = [*NETWORKS, "FCNet7"]


def build(name: str, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    return models.build(ModelConfig(name=name), channels, (32, 32), classes, torch.Generator().manual_seed(seed))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("LeNet", 62_006),
        ("ResNet18", 11_173_962),
        ("SimpleDLA", 15_142_970),
        ("DLA", 16_291_386),
        ("ResNet8", 75_290),
        ("ResNet20", 269_722),
        ("ResNet56", 853_018),
        ("Linear", 30_730),
    ],
)
def test_networks_have_the_parameters_of_their_papers_form(name: str, parameters: int) -> None:
    assert count(build(name)) == parameters


@pytest.mark.parametrize("hidden", [1, 10, 300])
@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 100)])
def test_fcnet_has_one_hidden_layer(hidden: int, channels: int, classes: int) -> None:
    inputs = channels * 32 * 32
    assert count(build(f"FCNet{hidden}", channels, classes)) == (inputs + 1) * hidden + (hidden + 1) * classes


@pytest.mark.slow
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
        ("FCNet7", lambda: FCNet(3, 10, hidden=(7,))),
        ("ResNet18", lambda: ResNet18(3, 10)),
        ("SimpleDLA", lambda: SimpleDLA(3, 10)),
        ("DLA", lambda: DLA(3, 10)),
        ("ResNet20", lambda: SmallResNet(3, 10, blocks=3)),
        ("Linear", lambda: Linear(3, 10)),
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


TRUNK = {
    "stages.0": (16, 32, 32),
    "stages.1": (16, 32, 32),
    "stages.2": (32, 32, 32),
    "stages.3": (64, 32, 32),
    "stages.4": (128, 16, 16),
    "stages.5": (256, 8, 8),
    "stages.6": (512, 4, 4),
    "out": (10,),
}
SHAPES = {
    "LeNet": {"conv1": (6, 28, 28), "conv2": (16, 10, 10), "fc1": (120,), "fc2": (84,), "fc3": (10,)},
    "ResNet18": {
        "stem": (64, 32, 32),
        "blocks.0": (64, 32, 32),
        "blocks.1": (64, 32, 32),
        "blocks.2": (128, 16, 16),
        "blocks.3": (128, 16, 16),
        "blocks.4": (256, 8, 8),
        "blocks.5": (256, 8, 8),
        "blocks.6": (512, 4, 4),
        "blocks.7": (512, 4, 4),
        "out": (10,),
    },
    "SimpleDLA": TRUNK
    | {
        "stages.3.left": (64, 32, 32),
        "stages.3.right": (64, 32, 32),
        "stages.4.left": (128, 16, 16),
        "stages.4.left.left": (128, 16, 16),
        "stages.4.right": (128, 16, 16),
        "stages.5.left": (256, 8, 8),
        "stages.5.right.root": (256, 8, 8),
    },
    "DLA": TRUNK
    | {
        "stages.4.tree": (128, 16, 16),
        "stages.4.beside": (128, 16, 16),
        "stages.4.left": (128, 16, 16),
        "stages.4.right": (128, 16, 16),
        "stages.5.tree.left": (256, 8, 8),
        "stages.5.root": (256, 8, 8),
    },
    "FCNet7": {"hidden": (7,), "out": (10,)},
    "ResNet8": {"stem": (16, 32, 32), "blocks.0": (16, 32, 32), "blocks.2": (64, 8, 8), "out": (10,)},
    "ResNet20": {"blocks.2": (16, 32, 32), "blocks.3": (32, 16, 16), "blocks.8": (64, 8, 8), "out": (10,)},
    "ResNet56": {"blocks.8": (16, 32, 32), "blocks.17": (32, 16, 16), "blocks.26": (64, 8, 8), "out": (10,)},
    "Linear": {"out": (10,)},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_has_its_shape(name: str) -> None:
    model = build(name)
    shapes = {}

    def remember(stage: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            shapes[stage] = tuple(output.shape[1:])

        return hook

    for stage in SHAPES[name]:
        model.get_submodule(stage).register_forward_hook(remember(stage))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert shapes == SHAPES[name]


def test_every_network_that_is_accepted_can_be_built() -> None:
    assert list(models.ARCHITECTURES) == list(NETWORKS)


@pytest.mark.parametrize(("make", "maps"), [(lambda: DLA(1, 2), 4), (lambda: SimpleDLA(1, 2), 2)])
def test_a_deep_trees_root_sees_all_its_parts_in_order(make: Callable[[], DLA | SimpleDLA], maps: int) -> None:
    tree = make().stages[4]
    seen: dict[str, torch.Tensor] = {}
    for part, module in tree.named_children():
        module.register_forward_hook(lambda _module, inputs, output, part=part: seen.update({part: (inputs, output)}))
    with torch.no_grad():
        tree(torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0)))
    parts = [part for part in ("beside", "tree", "left", "right") if part in seen]
    inputs = seen["root"][0]
    assert len(inputs) == len(parts) == maps
    assert all(torch.equal(given, seen[part][1]) for given, part in zip(inputs, parts, strict=True))
    assert torch.equal(seen["right"][0][0], seen["left"][1])


def test_lenet_pools_before_its_relu_with_the_values_and_gradients_of_pooling_after_it() -> None:
    lenet = build("LeNet")
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = lenet(images)
    gradients = torch.autograd.grad(logits.logsumexp(1).sum(), list(lenet.parameters()))
    x = max_pool2d(torch.relu(lenet.conv1(images)), 2)
    x = max_pool2d(torch.relu(lenet.conv2(x)), 2).flatten(1)
    published = lenet.fc3(torch.relu(lenet.fc2(torch.relu(lenet.fc1(x)))))
    assert torch.equal(logits, published)
    expected = torch.autograd.grad(published.logsumexp(1).sum(), list(lenet.parameters()))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients, expected, strict=True))
