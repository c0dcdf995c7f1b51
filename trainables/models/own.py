"""Networks of a researcher's own: any callable to a ``torch.nn.Module``, with layers of any kind.

``use: my_lab.nets:build`` calls ``build`` with the other keys of the section ``model`` as keyword arguments, and with
those of ``channels``, ``classes``, ``size`` (height, width), ``num_classes``, ``in_chans`` and ``in_channels`` that it
has as named parameters. ``num_classes`` is given to any callable that takes ``**kwargs`` (torchvision's and timm's do),
``in_chans`` to such a one of timm's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from trainables import imports
from trainables.config import UsedModel
from trainables.imports import CodeError, blamed


def build(
    config: UsedModel, channels: int, size: tuple[int, int], classes: int, generator: torch.Generator
) -> nn.Module:
    """The network that the callable makes, on the CPU, with its random numbers drawn from ``generator``.

    Pretrained weights and buffers are what the callable makes them.

    Raises:
        CodeError: there is no such callable; it does not take its options; it raises; or what it returns is no network.
    """
    what = f"model.use {config.use!r}"
    make = imports.find(config.use, "models")
    if not callable(make):
        raise CodeError(f"{what}: must be a function or class that makes a torch.nn.Module, not {make!r}"[:300])
    provided = _provided(make, channels, size, classes)
    if errors := imports.misfits(make, config.options, provided):
        raise CodeError("; ".join(f"{what}: model.{error}" for error in errors))
    with blamed(what), seeded(generator), torch.device("cpu"):
        network = make(**provided | config.options)
        if isinstance(network, nn.Module) and any(map(is_lazy, network.parameters())):
            with torch.no_grad():  # which gives lazy layers their shapes and initial weights, from the same stream
                network.eval()(torch.zeros(2, channels, *size))
            network.train()
    if not isinstance(network, nn.Module):
        raise CodeError(f"{what}: must return a torch.nn.Module, not a {type(network).__name__}")
    with blamed(what):
        parameters = list(network.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise CodeError(f"{what}: the network has no parameters to train")
    return network.to("cpu")


def _provided(make: Callable[..., Any], channels: int, size: tuple[int, int], classes: int) -> dict[str, Any]:
    """What a callable is told of the data: that for which it has named parameters, and what is known to be taken."""
    told = {
        "channels": channels,
        "classes": classes,
        "size": size,
        "num_classes": classes,
        "in_chans": channels,
        "in_channels": channels,
    }
    parameters = (imports.signature(make) or {}).values()
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names |= {"num_classes"}
        names |= {"in_chans"} if getattr(make, "__module__", "").partition(".")[0] == "timm" else set()
    return {name: value for name, value in told.items() if name in names}


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Have the global generators of torch (on the CPU), numpy and Python go on from a seed drawn from ``generator``.

    They are put back afterwards.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
