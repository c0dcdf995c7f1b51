"""Which samples of a split are held out, kept, or given a wrong label: functions of labels and a seed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from trainables.seeds import generator, permutation


def stratify(
    labels: Int64[Tensor, " n"], fraction: float, seed: int, name: str
) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " k"]]:
    """Indices of a share ``fraction`` of every class (rounded to samples), and of the rest; both ascending."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, members in _classes(labels):
        shuffled = members[permutation(len(members), seed, name, label)]
        chosen[shuffled[: round(fraction * len(members))]] = True
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def first_per_class(labels: Int64[Tensor, " n"], count: int, seed: int) -> Int64[Tensor, " m"]:
    """Indices of ``count`` samples of each class, ascending; a smaller count's are among a larger one's."""
    picked = [members[permutation(len(members), seed, "subset", label)][:count] for label, members in _classes(labels)]
    return torch.cat(picked).sort().values


def long_tailed(labels: Int64[Tensor, " n"], ratio: float, classes: int, seed: int) -> Int64[Tensor, " m"]:
    """Indices of a long-tailed subset, ascending: class c of C keeps the share ratio^(-c / (C - 1)) of its samples.

    This is the exponential profile of Cui et al. 2019 (arXiv:1901.05555). Counts are rounded, and no class loses its
    last sample. The samples of a larger ratio are among those of a smaller one.
    """
    picked = []
    for label, members in _classes(labels):
        count = max(1, round(len(members) * ratio ** (-label / (classes - 1))))
        picked.append(members[permutation(len(members), seed, "imbalance", label)][:count])
    return torch.cat(picked).sort().values


def mislabel(labels: Int64[Tensor, " n"], fraction: float, classes: int, seed: int) -> Int64[Tensor, " n"]:
    """Labels of which a share ``fraction`` (rounded to samples) is replaced by another of the classes, each as likely.

    What is replaced at a smaller fraction is replaced by the same at a larger one.
    """
    stream = generator(seed, "label_noise")
    line = torch.randperm(len(labels), generator=stream)
    shifts = torch.randint(1, classes, (len(labels),), generator=stream)
    chosen = line[: round(fraction * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shifts[chosen]) % classes
    return noisy


def _classes(labels: Int64[Tensor, " n"]) -> Iterator[tuple[int, Int64[Tensor, " m"]]]:
    for label in labels.unique().tolist():
        yield label, (labels == label).nonzero().flatten()
