"""Named random streams. A stream is a function of a seed and a name, never of how much was drawn before."""

from __future__ import annotations

from hashlib import blake2b

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
