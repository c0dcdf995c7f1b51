"""Named random streams. A stream is a function of a seed and a name, never of how much was drawn before."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch


def derive(seed: int, *name: str | int) -> int:
    """A seed of 63 bits for the stream ``name`` of ``seed``, e.g. ``derive(0, "order", epoch)``."""
    text = "/".join(map(str, (seed, *name)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *name: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream ``name`` of ``seed``; the same on every machine."""
    return torch.Generator().manual_seed(derive(seed, *name))


def permutation(size: int, seed: int, *name: str | int) -> torch.Tensor:
    """A permutation of ``range(size)``, int64 of shape (size,), drawn from the stream ``name``."""
    return torch.randperm(size, generator=generator(seed, *name))


class GlobalRandomness:
    """torch's global generators at states of one's own, while this is entered; those that were there are put back.

    Layers such as dropout draw from the global generators, of the CPU and of the device that they compute on.
    """

    def __init__(self, device: torch.device, seed: int, *name: str | int) -> None:
        self._generators = {"cpu": torch.default_generator}
        if device.type == "cuda":
            torch.cuda.init()
            self._generators["cuda"] = torch.cuda.default_generators[device.index or 0]
        fresh = {kind: torch.Generator(one.device) for kind, one in self._generators.items()}
        self._own = {kind: one.manual_seed(derive(seed, *name)).get_state() for kind, one in fresh.items()}

    def __enter__(self) -> None:
        self._outside = self._exchange(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = self._exchange(self._outside)

    def _exchange(self, states: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Set the global generators to ``states``; what they were."""
        before = {kind: one.get_state() for kind, one in self._generators.items()}
        for kind, one in self._generators.items():
            one.set_state(states[kind])
        return before

    def state_dict(self) -> dict[str, Any]:
        """Where the streams stand, by kind of device."""
        return dict(self._own)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned; of a device that was not there then, from the start."""
        self._own |= {kind: tensor.cpu() for kind, tensor in state.items() if kind in self._own}
