"""The suite ``gpu``: what one GPU does in absolute numbers, and how long the thesis's experiments would take on it.

Rates are of generated pictures of CIFAR's shape. Matrix rates are those of the chip as it is, measured by a product of
two large matrices, and arithmetic is counted as multiplications and additions of convolutions and matrix products
(torch's counter), a training step being counted whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from analysis.published import APPENDIX, DAMAGED, FOLDER
from study.bench import Block, Figure, amount, in_turn, milliseconds, ratio, stopwatch, wall_seconds
from study.bench.loop import case_config, generated, measure, train
from trainables.augment import Augmentation
from trainables.comparison import Arm, release
from trainables.config import TrialConfig
from trainables.data import Dataset
from trainables.metrics import evaluate
from trainables.precision import Precision, set_float32

SUITE = "gpu"
TRAINING, TEST = 50_000, 10_000
MNIST_TRAINING = 60_000


class Cell(NamedTuple):
    """What the cost of a run depends on."""

    channels: int
    model: str
    batch_size: int
    augmentation: Augmentation


RECORDED = (
    Cell(3, "FCNet100", 64, "none"),
    Cell(3, "LeNet", 256, "none"),
    Cell(3, "ResNet18", 128, "thesis"),
    Cell(3, "ResNet18", 1024, "thesis"),
)
"""The archetype's epochs that are timed with and without recorded graphs."""
TIMED = Cell(3, "ResNet18", 1024, "thesis")
"""Whose epochs are told in absolute numbers."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the tests measure little."""

    samples: int = TRAINING
    sample_batches: int = 24
    matrix: int = 8192
    rounds: int = 3
    precisions: tuple[Precision, ...] = ("fp32", "tf32", "bf16")


def suite(device: torch.device, sizes: Sizes = Sizes()) -> Iterator[Figure]:
    """The figures of one GPU; under five minutes on one of 2023."""
    rates = {precision: matrix_rate(precision, device, sizes) for precision in sizes.precisions}
    for precision, values in rates.items():
        of = f"{precision}, {sizes.matrix} × {sizes.matrix}"
        yield amount(SUITE, f"rate of a matrix product: {of}", values, "TFLOP/s", "the chip as it is")
    for precision in sizes.precisions:
        yield from absolute(TIMED, precision, median(rates[precision]), device, sizes)
    for cell in RECORDED:
        yield recorded(cell, sizes.precisions[-1], device, sizes)
    for precision in sizes.precisions[1:]:
        yield from appendix(precision, device, sizes)


def matrix_rate(precision: Precision, device: torch.device, sizes: Sizes) -> list[float]:
    """TFLOP/s of a product of two large random matrices, in each round."""
    set_float32(precision, device)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = (torch.randn(sizes.matrix, sizes.matrix, device=device, dtype=kind) for _ in range(2))
    taken = in_turn({"product": Block(lambda: one @ other)}, stopwatch(device), sizes.rounds + 2, warm_up=3)
    return [2 * sizes.matrix**3 / seconds / 1e12 for seconds in taken["product"]]


def absolute(cell: Cell, precision: Precision, rate: float, device: torch.device, sizes: Sizes) -> Iterator[Figure]:
    """An epoch of CIFAR's size of both arms, beside a chip whose matrix ``rate`` is given in TFLOP/s."""
    data, config = _ready(cell, precision, sizes.samples, device)
    for name in config.arms:
        arm = _arm(name, config, data, device)
        for _ in range(2):
            train(arm)
        blocks = {"epoch": Block(partial(train, arm)), "evaluation": Block(partial(measure, arm))}
        times = in_turn(blocks, stopwatch(device), sizes.rounds)
        counts, what = arm.sampler.counts, f"{name}, {told(cell, precision)}"
        beside = f"{counts.raw_batches} probes and {counts.steps} updates of {cell.batch_size}"
        speeds = [len(data.train.labels) / seconds for seconds in times["epoch"]]
        yield amount(SUITE, f"samples a second: {what}", speeds, "/s", beside)
        yield amount(SUITE, f"an epoch without evaluation: {what}", times["epoch"], "s", f"{sizes.samples:,} samples")
        both = [sum(pair) for pair in zip(times["epoch"], times["evaluation"], strict=True)]
        yield amount(SUITE, f"an epoch with evaluation: {what}", both, "s", "train and test whole")
        if name == config.baseline:
            arithmetic = flops(arm) * counts.samples_trained
            shares = [100 * arithmetic / seconds / (rate * 1e12) for seconds in times["epoch"]]
            beside = f"{arithmetic / sizes.samples / 1e9:.2f} GFLOP a sample, {rate:,.0f} TFLOP/s"
            yield amount(SUITE, f"of the chip's matrix rate: {what}", shares, "%", beside)


def told(cell: Cell, precision: Precision) -> str:
    """The cell in words."""
    augmentation = cell.augmentation.replace("none", "no")
    return f"{cell.model}, batch {cell.batch_size}, {augmentation} augmentation, {precision}"


def flops(arm: Arm, samples: int = 8) -> float:
    """Floating-point operations of a training step for one sample: forward and backward."""
    images = torch.zeros(samples, *arm.data.train.images.shape[1:], device=arm.device)
    arm.model.train()
    with FlopCounterMode(display=False) as counter:
        cross_entropy(arm.model(images), torch.zeros(samples, dtype=torch.int64, device=arm.device)).backward()
    return counter.get_total_flops() / samples


def recorded(cell: Cell, precision: Precision, device: torch.device, sizes: Sizes) -> Figure:
    """An epoch of the archetype with every kernel asked for one by one, by one with recorded graphs."""
    data, config = _ready(cell, precision, cell.batch_size * sizes.sample_batches, device)
    arms = {graphs: _arm("archetype", config, data, device, graphs) for graphs in (False, True)}
    blocks = {str(graphs): Block(partial(train, arm)) for graphs, arm in arms.items()}
    times = in_turn(blocks, stopwatch(device), 3 * sizes.rounds)
    beside = f"plain {milliseconds(times['False'])}, recorded {milliseconds(times['True'])}"
    name = f"times as fast with CUDA graphs: {told(cell, precision)}"
    return ratio(SUITE, name, times["False"], times["True"], beside)


class Cost(NamedTuple):
    """Seconds for one sample."""

    archetype: float
    probe: float
    update: float
    evaluation: float


def appendix(precision: Precision, device: torch.device, sizes: Sizes) -> Iterator[Figure]:
    """GPU-hours of the thesis's Appendix II, from the measured cost of each of its cells.

    A filtered run's updates are what the training accuracy that it ended with leaves wrong, which is too few for its
    first epochs, or at most all; what is told is the first, and beside it the second.
    """
    runs = pd.read_csv(FOLDER / APPENDIX).to_dict("records")
    costs = {cell: cost(cell, precision, device, sizes) for cell in sorted({_cell(run) for run in runs})}
    for evaluated in (True, False):
        hours = sum(_seconds(run, costs[_cell(run)], evaluated, at_end=True) for run in runs) / 3600
        most = sum(_seconds(run, costs[_cell(run)], evaluated, at_end=False) for run in runs) / 3600
        of = "evaluation" if evaluated else "no evaluation"
        yield amount(
            SUITE,
            f"Appendix II, all {len(runs)} runs, {precision}, with {of}",
            [hours],
            "GPU-hours",
            f"at most {most:.0f}, were everything accepted; {len(costs)} cells measured",
        )


def _cell(run: Mapping[Any, Any]) -> Cell:
    channels = 1 if run["dataset"] == "MNIST" else 3
    return Cell(channels, run["model"], run["batch_size"], "thesis" if run["augmentation"] else "none")


def cost(cell: Cell, precision: Precision, device: torch.device, sizes: Sizes) -> Cost:
    """Seconds that each part of a run takes for one sample; measured over some batches, once everything is recorded."""
    size = max(cell.batch_size * sizes.sample_batches // 2, sizes.samples // 12)
    data, config = _ready(cell, precision, size, device)
    archetype, filtered = (_arm(name, config, data, device) for name in ("archetype", "filtered"))
    for arm in (archetype, filtered):
        train(arm)
    taken = in_turn({"epoch": Block(partial(train, archetype))}, stopwatch(device), 1, warm_up=0)["epoch"]
    train(filtered)
    filtered.stopwatch.read()
    began = perf_counter()
    train(filtered)
    seconds = filtered.stopwatch.read()
    whole = perf_counter() - began
    counts = filtered.sampler.counts
    evaluation = wall_seconds(lambda: evaluate(archetype.model, data, "train"))
    update = seconds["train"] / counts.samples_trained if counts.samples_trained else median(taken) / size
    return Cost(median(taken) / size, (whole - seconds["train"]) / counts.samples_probed, update, evaluation / size)


def _seconds(run: Mapping[Any, Any], cost: Cost, evaluated: bool, at_end: bool) -> float:
    training = MNIST_TRAINING if run["dataset"] == "MNIST" else TRAINING
    known = at_end and run["row"] not in DAMAGED
    share = 1 - run["train_accuracy"] if known else 1.0
    if run["batch_filtering"] and run["epoch_filtering"]:
        each = cost.probe + share * (cost.probe + cost.update)
    elif run["batch_filtering"] or run["epoch_filtering"]:
        each = cost.probe + share * cost.update
    else:
        each = cost.archetype
    measured = (training + TEST) * cost.evaluation if evaluated else 0.0
    return run["epochs"] * (training * each + measured)


def _ready(cell: Cell, precision: Precision, size: int, device: torch.device) -> tuple[Dataset, TrialConfig]:
    """So many pictures for the cell, and its configuration; this process computes in that precision."""
    release(device)
    set_float32(precision, device)
    config = case_config(cell.model, cell.augmentation, cell.batch_size, precision)
    return generated(size, device, cell.channels), config


def _arm(name: str, config: TrialConfig, data: Dataset, device: torch.device, graphs: bool = True) -> Arm:
    return Arm(name, config.arms[name], config, data, device, {}, graphs)
