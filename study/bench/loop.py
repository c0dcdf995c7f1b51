"""The suite ``loop``: training epochs beside their floors, and beside the loop that a user would write instead.

The floor of an archetype's epoch is as many *bare steps*: forward, backward and optimizer step on one resident batch
that is already augmented and normalized. That of a filtered epoch is as many *bare forwards* without gradients as it
probed batches, and as many bare steps as it made updates. Everything else is overhead: order, gathering, augmentation,
normalization, filtering, bookkeeping. Evaluation is measured apart. So is what an update takes by a forward pass, which
``compute`` counts as 3, and how much of a training epoch's time the columns of seconds explain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy

from study.bench import Block, Figure, amount, in_turn, milliseconds, ratio, stopwatch
from study.bench import peer as peers
from study.limits import available_cpus
from trainables import reference
from trainables.augment import Augmentation
from trainables.comparison import Arm, release
from trainables.config import ARMS, SGD, BuiltIn, MethodConfig, ModelConfig, TrialConfig
from trainables.data import Dataset, Split, load
from trainables.methods import ProbeResult, Views
from trainables.optimizers import set_rate
from trainables.precision import Precision, set_float32
from trainables.seeds import generator

SUITE = "loop"
CLASSES = 10
MEASURED = 3
"""How often the ratio of an update to a forward pass is measured."""
EXPLAINED = ("archetype", "filtered", "selective_backprop", "infobatch")
MOST_UNEXPLAINED = 5.0
"""Percent of a training epoch."""


@dataclass(frozen=True)
class Case:
    """An epoch to be held against its floor.

    Attributes:
        model: its name.
        pictures: real digits, or generated pictures of CIFAR's shape.
        augmentation: of the training pictures.
        batch_size: of updates and of raw batches.
        batches: raw batches in an epoch.
        epochs: trained beforehand, so that the filter turns away a realistic share.
        rounds: how often it is timed.
        archetype: limit of the archetype's epoch by its floor; None: there is none.
        filtered: limit of the filtered epoch by its floor.
        precision: of both sides.
        threads: of torch; None: as many as there are cores.
    """

    model: str
    pictures: Literal["mnist5k", "generated"]
    augmentation: Augmentation
    batch_size: int
    batches: int
    epochs: int
    rounds: int
    archetype: float | None
    filtered: float | None
    precision: Precision = "fp32"
    threads: int | None = None

    def __str__(self) -> str:
        augmented = "" if self.augmentation == "none" else f", {self.augmentation} augmentation"
        precision = "" if self.precision == "fp32" else f", {self.precision}"
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.model}, batch {self.batch_size}{augmented}{precision}{threads}"


@dataclass(frozen=True)
class Rival:
    """An epoch to be held against the peer's; ``least`` is how many times as fast it must be."""

    model: str
    augmentation: Augmentation
    batch_size: int
    batches: int
    workers: int
    rounds: int
    least: float
    precision: Precision = "fp32"

    def __str__(self) -> str:
        precision = "" if self.precision == "fp32" else f", {self.precision}"
        augmented = f"{self.augmentation.replace('none', 'no')} augmentation"
        return f"{self.model}, {augmented}, batch {self.batch_size}{precision}"


CPU_CASES = (
    Case("ResNet18", "generated", "thesis", 16, 4, 1, 5, 1.05, 1.10),
    Case("LeNet", "mnist5k", "none", 256, 10, 2, 11, 1.15, 1.2),
    Case("LeNet", "mnist5k", "none", 64, 40, 2, 11, 1.15, 1.2),
    Case("FCNet100", "mnist5k", "none", 256, 10, 2, 30, 1.3, 1.4),
    Case("FCNet100", "mnist5k", "none", 64, 40, 2, 30, 1.3, 1.4),
    Case("FCNet100", "mnist5k", "none", 64, 40, 2, 30, 1.3, 1.4, threads=1),  # as in a study, unless told otherwise
    Case("FCNet100", "generated", "thesis", 256, 10, 2, 7, None, None),
)
CPU_RIVALS = (
    Rival("LeNet", "none", 128, 200, 2, 5, 3.0),
    Rival("FCNet100", "thesis", 128, 200, 2, 5, 3.0),
)
CUDA_CASES = (
    Case("ResNet18", "generated", "thesis", 1024, 24, 3, 5, 1.05, 1.10, "tf32"),
    Case("ResNet18", "generated", "thesis", 1024, 24, 3, 5, 1.05, 1.10, "bf16"),
    Case("LeNet", "mnist5k", "none", 256, 10, 2, 20, 1.15, 1.2),
    Case("LeNet", "mnist5k", "none", 64, 40, 2, 20, 1.15, 1.2),
    Case("FCNet100", "mnist5k", "none", 256, 10, 2, 20, 1.3, 1.4),
    Case("FCNet100", "mnist5k", "none", 64, 40, 2, 20, 1.3, 1.4),
)
CUDA_RIVALS = (Rival("ResNet18", "thesis", 1024, 16, 2, 3, 4.0, "tf32"),)  # tf32: torch's default for convolutions
PROFILED = "FCNet100"
"""Of this model's filtered epochs, of pictures without augmentation, it is told what surrounds a forward pass."""


def suite(
    device: torch.device, cases: Sequence[Case] | None = None, rivals: Sequence[Rival] | None = None
) -> Iterator[Figure]:
    """The figures of the loop on ``device``, one after the other; under five minutes on two CPU cores.

    On CUDA our side replays recorded graphs, as a study does; floors and peers are what PyTorch does by itself.
    """
    cuda = device.type == "cuda"
    for case in (CUDA_CASES if cuda else CPU_CASES) if cases is None else cases:
        yield from floors(case, device)
        yield update_by_forward(case, device)
        if case.pictures == "mnist5k":  # generated ones are for large networks, or augmented: nothing else weighs there
            yield from unexplained(case, device)
        if case.model == PROFILED and case.augmentation == "none":
            yield from pieces(case, device)
    for rival in (CUDA_RIVALS if cuda else CPU_RIVALS) if rivals is None else rivals:
        yield rivalry(rival, device)


def floors(case: Case, device: torch.device) -> Iterator[Figure]:
    """The epochs of both arms by their floors, and what an evaluation costs beside them."""
    data, config = _ready(case, device)
    for name, method in config.arms.items():
        arm = Arm(name, method, config, data, device, {}, graphs=device.type == "cuda")
        bare = Arm(name, method, config, data, device, {})
        for _ in range(case.epochs):
            train(arm)
        start = deepcopy(arm.state_dict())
        bare.load_state_dict(deepcopy(start), case.epochs)
        train(arm)
        probes, steps = arm.sampler.counts.raw_batches, arm.sampler.counts.steps
        blocks = {
            "epoch": Block(partial(train, arm), _restored(arm, start)),
            "floor": Block(floor(bare, probes, steps), _restored(bare, start)),
            "running": Block(partial(_measure_running, arm)),
            "evaluation": Block(partial(measure, arm)),
        }
        times = in_turn(blocks, stopwatch(device), case.rounds)
        limit = case.archetype if name == config.baseline else case.filtered
        floor_is = f"{steps} bare steps" if name == config.baseline else f"{probes} bare forwards + {steps} bare steps"
        yield ratio(
            SUITE,
            f"{name} epoch / floor: {case}",
            times["epoch"],
            times["floor"],
            f"{floor_is}, {milliseconds(times['floor'])}; epoch {milliseconds(times['epoch'])}",
            "at most" if limit else None,
            limit,
        )
        if probes:
            seen = sum(len(result.labels) for result in arm.probed)
            probed = arm.sampler.counts.samples_probed
            yield amount(
                SUITE,
                f"probed ahead of need and in vain, of what was needed: {case}",
                [100 * (seen - probed) / probed],
                "%",
                f"{len(arm.probed)} forward passes for {probes} raw batches",
            )
        for kind, which in (("evaluation", "train and test whole"), ("running", "evaluate.train: running")):
            yield amount(
                SUITE,
                f"share of an epoch that is evaluation, {which}: {name}, {case}",
                [100 * e / (e + t) for e, t in zip(times[kind], times["epoch"], strict=True)],
                "%",
                f"evaluation {milliseconds(times[kind])}; training {milliseconds(times['epoch'])}",
            )


def update_by_forward(case: Case, device: torch.device) -> Figure:
    """What an update takes by a forward pass, as the clock of reference seconds measures them."""
    data, config = _ready(case, device)
    arm = Arm(config.baseline, config.arms[config.baseline], config, data, device, {}, graphs=device.type == "cuda")
    found = [reference.measure(arm) for _ in range(MEASURED)]
    forward, update = ([1e6 * getattr(one, name) for one in found] for name in ("forward", "update"))
    return ratio(
        SUITE,
        f"update / forward pass: {case}",
        update,
        forward,
        f"compute counts 3; forward {median(forward):.3g} µs a sample, update {median(update):.3g}",
    )


def unexplained(case: Case, device: torch.device) -> Iterator[Figure]:
    """The share of a training epoch's time that is in none of the columns probe, select, train and auxiliary seconds.

    Of the archetype and of methods that probe, that choose within an update's forward pass, and that choose without.
    """
    data, config = _ready(case, device)
    for name in EXPLAINED:
        method = MethodConfig.model_validate(ARMS[name])
        own = config.model_copy(update={"arms": {name: method}})
        arm = Arm(name, method, own, data, device, {}, graphs=device.type == "cuda")
        for _ in range(case.epochs):
            train(arm)
        shares, walls = [], []
        for _ in range(case.rounds):
            arm.stopwatch.read()
            walls.append(stopwatch(device)(partial(train, arm)))
            shares.append(100 * (1 - explained(arm.stopwatch.read()) / walls[-1]))
        yield amount(
            SUITE,
            f"unexplained share of a training epoch: {name}, {case}",
            shares,
            "%",
            f"epoch {milliseconds(walls)}",
            "at most",
            MOST_UNEXPLAINED,
        )


def explained(parts: Mapping[str, float]) -> float:
    """Seconds of an epoch's probes, choosing, updates and auxiliary work, from what an arm's stopwatch read."""
    probe, choose = parts.get("probe", 0.0), parts.get("choose", 0.0)
    return max(choose, probe) + parts.get("train", 0.0) + parts.get("auxiliary", 0.0)


def pieces(case: Case, device: torch.device) -> Iterator[Figure]:
    """What a filtered arm does with a raw batch, piece by piece: each for all raw batches of an epoch in turn."""
    data, config = _ready(case, device)
    arm = Arm("filtered", config.arms["filtered"], config, data, device, {})
    for _ in range(case.epochs):
        train(arm)
    views = [*Views.of(arm.sampler.order(case.epochs + 1).to(device), case.epochs + 1).split(case.batch_size)]
    fed = [arm.feed(batch) for batch in views]
    arm.model.eval()
    with torch.no_grad():
        results = [ProbeResult(arm.model(images), labels) for images, labels in fed]
    wrong = [result.wrong for result in results]
    positions = [mask.nonzero().view(-1) for mask in wrong]
    kept = [batch[where] for batch, where in zip(views, positions, strict=True)]

    @torch.no_grad()
    def forward() -> None:
        for images, _ in fed:
            arm.model(images)

    work: dict[str, Callable[[], object]] = {
        "forward pass": forward,
        "gather pictures and labels": lambda: [arm.feed(batch) for batch in views],
        "find what is misclassified": lambda: [result.wrong for result in results],
        "its positions": lambda: [mask.nonzero().view(-1) for mask in wrong],
        "take it": lambda: [batch[where] for batch, where in zip(views, positions, strict=True)],
        "append it to a batch that is held": lambda: [before + more for before, more in pairwise(kept)],
        "a unit's generator": lambda: [generator(0, "selection", 1, unit) for unit in range(len(views))],
    }
    times = in_turn({name: Block(run) for name, run in work.items()}, stopwatch(device), case.rounds)
    for name, taken in times.items():
        each = [1e6 * seconds / len(views) for seconds in taken]
        yield amount(SUITE, f"of a filtered probe: {name}: {case}", each, "µs", f"{len(views)} raw batches in turn")


def rivalry(rival: Rival, device: torch.device) -> Figure:
    """The peer's epoch by the archetype's: how many times as fast ours is."""
    release(device)
    torch.set_num_threads(available_cpus())
    set_float32(rival.precision, device)
    data = generated(rival.batch_size * rival.batches, device)
    config = case_config(rival.model, rival.augmentation, rival.batch_size, rival.precision)
    ours, theirs = (
        Arm("archetype", config.arms["archetype"], config, data, device, {}, graphs)
        for graphs in (device.type == "cuda", False)
    )
    batches = peers.loader(data, rival.augmentation, rival.batch_size, rival.workers, config.seed)
    blocks = {
        "peer": Block(lambda: peers.train_epoch(batches, theirs.model, theirs.optimizer, device)),
        "ours": Block(lambda: train(ours)),
    }
    times = in_turn(blocks, stopwatch(device), rival.rounds)
    samples = len(data.train.labels)
    per_second = {side: samples / median(taken) for side, taken in times.items()}
    return ratio(
        SUITE,
        f"times as fast as pytorch-cifar's loop: {rival}",
        times["peer"],
        times["ours"],
        f"DataLoader, {rival.workers} workers, {per_second['peer']:,.0f} samples/s; ours {per_second['ours']:,.0f}",
        "at least",
        rival.least,
    )


def train(arm: Arm) -> None:
    """The next epoch of training as a comparison does it, without the evaluation after it."""
    arm.train(arm.sampler.finished + 1)


def floor(arm: Arm, probes: int, steps: int) -> Callable[[], None]:
    """So many bare forwards and bare steps with an arm's model and optimizer, on its first batch.

    The learning rate is 0: the same step over and over would overfit the batch until gradients are so small that a CPU
    computes with them many times slower.
    """
    size = arm.config.batch_size
    images, labels = arm.feed(Views.of(torch.arange(size, device=arm.device), 1))

    def run() -> None:
        set_rate(arm.optimizer, 0.0)
        arm.model.eval()
        with torch.no_grad():
            for _ in range(probes):
                arm.model(images)
        arm.model.train()
        for _ in range(steps):
            loss = cross_entropy(arm.model(images), labels)
            arm.optimizer.zero_grad()
            loss.backward()
            arm.optimizer.step()

    return run


def measure(arm: Arm) -> None:
    """What is measured after an epoch: the test set, and the training set whole."""
    arm.evaluate("train")
    arm.evaluate("test")


def _measure_running(arm: Arm) -> None:
    """The same with ``evaluate.train: running``."""
    arm.running()
    arm.evaluate("test")


def _restored(arm: Arm, state: Mapping[str, Any]) -> Callable[[], None]:
    """What takes an arm back to an earlier state of its own, in the same tensors, so that what is recorded holds."""

    def restore() -> None:
        arm.model.load_state_dict(state["model"])
        arm.sampler.load_state_dict(deepcopy(state["sampler"]))
        held = arm.optimizer.state_dict()["state"]
        for number, values in state["optimizer"]["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    held[number][name].copy_(value)

    return restore


def _ready(case: Case, device: torch.device) -> tuple[Dataset, TrialConfig]:
    """The case's pictures and configuration; this process computes as the case wants it."""
    release(device)
    torch.set_num_threads(case.threads or available_cpus())
    set_float32(case.precision, device)
    return _pictures(case, device), case_config(case.model, case.augmentation, case.batch_size, case.precision)


def case_config(model: str, augmentation: Augmentation, batch_size: int, precision: Precision = "fp32") -> TrialConfig:
    """Both arms on whatever pictures; of the data set's name only its colours are used."""
    return TrialConfig(
        dataset=BuiltIn(name="cifar10"),
        model=ModelConfig(name=model),
        augmentation=augmentation,
        optimizer=SGD(lr=0.05),
        batch_size=batch_size,
        precision=precision,
    )


def _pictures(case: Case, device: torch.device) -> Dataset:
    size = case.batch_size * case.batches
    if case.pictures == "generated":
        return generated(size, device)
    return load(BuiltIn(name="mnist5k", validation_fraction=0, samples_per_class=size // CLASSES), "", device)


def generated(size: int, device: torch.device, channels: int = 3) -> Dataset:
    """So many training pictures of CIFAR's shape and a fifth as many for the test: noise over a pattern per class."""
    stream = generator(0, "pictures")
    patterns = torch.randint(64, 192, (CLASSES, channels, 32, 32), generator=stream)
    splits = []
    for count in (size, max(size // 5, 1)):
        labels = torch.randint(CLASSES, (count,), generator=stream)
        noise = torch.randint(-64, 64, (count, channels, 32, 32), generator=stream)
        splits.append(Split((patterns[labels] + noise).to(torch.uint8), labels).to(device))
    half = torch.full((channels, 1, 1), 0.5, device=device)
    return Dataset(splits[0], None, splits[1], CLASSES, half, half / 2)
