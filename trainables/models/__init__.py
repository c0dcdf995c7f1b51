"""Built-in networks, one file per architecture, and networks of one's own: built for the data, initial weights drawn.

Before anything runs, :func:`examine` says of what shape a network's output is, or what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainables.config import AnyModel, ModelConfig, UsedModel
from trainables.imports import CodeError, blamed
from trainables.models import own
from trainables.models.dla import DLA
from trainables.models.fcnet import FCNet
from trainables.models.lenet import LeNet
from trainables.models.linear import Linear
from trainables.models.resnet import ResNet18
from trainables.models.simple_dla import SimpleDLA
from trainables.models.small_resnet import SmallResNet
from trainables.seeds import generator as stream

Size = tuple[int, int]
"""Height and width of images, in pixels."""

ARCHITECTURES: Mapping[str, Callable[[int, int, Size], nn.Module]] = {
    "LeNet": LeNet,
    "ResNet18": lambda channels, classes, _: ResNet18(channels, classes),
    "SimpleDLA": lambda channels, classes, _: SimpleDLA(channels, classes),
    "DLA": lambda channels, classes, _: DLA(channels, classes),
    "ResNet8": lambda channels, classes, _: SmallResNet(channels, classes, blocks=1),
    "ResNet20": lambda channels, classes, _: SmallResNet(channels, classes, blocks=3),
    "ResNet56": lambda channels, classes, _: SmallResNet(channels, classes, blocks=9),
    "Linear": Linear,
}
"""Networks that a name alone describes, made from channels, classes and the images' size, which most leave open."""


class Examined(NamedTuple):
    """What is known of a network before it trains.

    Attributes:
        parameters: how many numbers it learns; frozen ones do not count.
        output: the shape of its output for one image.
        activations: numbers that its layers with weights put out for one image.
    """

    parameters: int
    output: tuple[int, ...]
    activations: int


def build(config: AnyModel, channels: int, size: Size, classes: int, generator: torch.Generator) -> nn.Module:
    """The network of ``config`` for images of shape (channels, *size), on the CPU, weights drawn from ``generator``.

    Raises:
        CodeError: the network cannot be built for such images.
    """
    if isinstance(config, UsedModel):
        return own.build(config, channels, size, classes, generator)
    model = _planned(config, channels, size, classes).to_empty(device="cpu")
    initialize(model, generator)
    return model


def _planned(config: ModelConfig, channels: int, size: Size, classes: int) -> nn.Module:
    """A built-in network without weights, on the device ``meta``."""
    with torch.device("meta"):
        try:
            if config.hidden:
                return FCNet(channels, classes, config.hidden, size)
            return ARCHITECTURES[config.name](channels, classes, size)
        except ValueError as error:
            raise CodeError(f"model.name {config.name}: {error}") from error


def examine(config: AnyModel, channels: int, size: Size, classes: int) -> Examined:
    """Build the network and let it say something of two random images, as in evaluation and as in training.

    Raises:
        CodeError: it cannot be built, raises, or its output is not one finite number of each image for each class.
    """
    shape = (2, channels, *size)
    if isinstance(config, ModelConfig):
        network = _planned(config, channels, size, classes)
        with _counted(network) as numbers:
            logits = network(torch.empty(shape, device="meta"))
        return _examined(network, logits, numbers)
    what = f"model.use {config.use!r}"
    network = own.build(config, channels, size, classes, stream(0, "weights"))
    images = torch.randn(shape, generator=stream(0, "images"))
    seen = f"with {classes} classes and images of shape {[channels, *size]} ([channels, height, width])"
    for training in (True, False):
        network.train(training)
        with (
            blamed(f"{what}, {seen}"),
            torch.no_grad(),
            own.seeded(stream(0, "layers")),
            _counted(network) as numbers,
        ):
            logits = network(images)
        if not isinstance(logits, Tensor):
            raise CodeError(f"{what}: forward must return a tensor of shape [n, {classes}], not {_kind(logits)}")
        if logits.shape != (2, classes):
            raise CodeError(
                f"{what}: its output for {shape[0]} images has the shape {list(logits.shape)}, and must have "
                f"[2, {classes}], {seen}"
            )
        if not (logits.is_floating_point() and logits.isfinite().all()):
            raise CodeError(f"{what}: its output must be finite floating-point numbers; it is {logits.dtype}, {seen}")
    return _examined(network, logits, numbers)


@contextmanager
def _counted(network: nn.Module) -> Iterator[list[int]]:
    """How many numbers its layers with weights put out while the block runs, each time."""
    numbers: list[int] = []

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            numbers.append(output.numel())

    layers = [layer for layer in network.modules() if any(True for _ in layer.parameters(recurse=False))]
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(count).remove)
        yield numbers


def _examined(network: nn.Module, logits: Tensor, numbers: Sequence[int]) -> Examined:
    learned = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return Examined(learned, tuple(logits.shape[1:]), sum(numbers) // len(logits))


def _kind(value: object) -> str:
    """What a forward pass returned that is no tensor, in words."""
    return f"a {type(value).__name__}"


def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Draw PyTorch's default initial weights of a built-in network from ``generator`` instead of the global one.

    Linear and convolution: uniform in ±1/sqrt(fan_in), weight and bias (He et al. 2015 with a = sqrt 5, as
    ``nn.Linear.reset_parameters`` has it). Batch normalization: identity.

    Raises:
        TypeError: the model has parameters in a layer of another kind.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(nn.init._calculate_fan_in_and_fan_out(module.weight)[0])
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"no initialization for {type(module).__name__}, layer {name!r}")
