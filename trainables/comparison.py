"""A comparison: the arms of a trial side by side, sharing everything but the method."""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from trainables import models, optimizers, samplers, telemetry
from trainables.augment import augment
from trainables.config import ADJUSTABLE, BETTER, DeadRun, MethodConfig, Runtime, TrialConfig
from trainables.data import Dataset, load
from trainables.errors import UserError
from trainables.graphs import Replayed
from trainables.metrics import evaluate, judge
from trainables.precision import place, set_deterministic, set_float32
from trainables.records import ADDITIVE, BY_NAME, EVALUATIONS, METRICS, Row, gap, out_of_memory
from trainables.samplers import ProbeResult, Sampler, Views
from trainables.seeds import derive, generator, permutation
from trainables.train import Stopwatch, prober, train_epoch, updater, watched

AT_ONCE = {"cpu": 1024, "cuda": 2048}
"""Samples that are probed together, ahead of need, by device."""


class DeviceError(UserError, ValueError):
    """The device that was asked for is not there."""


class Arm:
    """One method trained under one configuration.

    Initial weights, order and augmentation come from streams of the trial's seed alone, so all arms of a trial share
    them.

    Attributes:
        probed: what the last epoch's probes said.
        trained: what its updates' own forward passes said.
        suspect: whether the training loss is not finite, be it measured or that of the epoch's own forward passes.
    """

    def __init__(
        self,
        name: str,
        method: MethodConfig,
        config: TrialConfig,
        data: Dataset,
        device: torch.device,
        others: Mapping[str, Sampler],
        graphs: bool = False,
    ) -> None:
        self.name = name
        self.config = config
        self.data = data
        self.device = device
        channels = data.train.images.shape[1]
        weights = generator(config.seed, "weights")
        self.model = place(models.build(config.model, channels, data.classes, weights), config.precision, device)
        self.optimizer = optimizers.build(config.optimizer, self.model.parameters(), graphs and device.type == "cuda")
        self.sampler = samplers.build(
            method,
            config.batch_size,
            order=lambda epoch: permutation(len(data.train.labels), config.seed, "order", epoch),
            seed=config.seed,
            device=device,
            others=others,
            size=len(data.train.labels),
            epochs=config.epochs,
            at_once=AT_ONCE[device.type],
        )
        self.stopwatch = Stopwatch(device)
        self.probed: list[ProbeResult] = []
        self.trained: list[ProbeResult] = []
        view = {"trained": self.feed, "fresh": self.feed_fresh, "clean": self.feed_clean}[method.probe_view]
        probe = prober(self.model, view, method.probe_mode == "train")
        update = updater(self.model, self.feed, self.sampler.loss, self.optimizer)
        self.graphs: list[Replayed] = []
        if graphs:
            probe = Replayed(probe, self.sampler.batching.probe_sizes(), device)
            update = Replayed(update, [config.batch_size], device)
            self.graphs += [probe, update]
        self.probe = watched(probe, self.stopwatch.measure("probe"), self.probed.append)
        self.update = watched(update, self.stopwatch.measure("train"), self.trained.append)
        self.totals: Counter[str] = Counter()
        self.suspect = False
        self._augmentation_seed = derive(config.seed, "augmentation")

    def feed(self, views: Views) -> tuple[Tensor, Tensor]:
        """The normalized pictures that ``views`` stand for, and their labels."""
        assert self.config.augmentation is not None
        if self.config.augmentation == "none":
            return self.feed_clean(views)
        images, labels = self.data.train.select(views.index)
        pixels = augment(images, views.index, views.epoch, self._augmentation_seed, self.config.augmentation)
        return self.data.normalize(pixels), labels

    def feed_fresh(self, views: Views) -> tuple[Tensor, Tensor]:
        """Other pictures of the same samples: what :meth:`feed` would show in an epoch before the first."""
        return self.feed(Views(views.index, -1 - views.epoch))

    def feed_clean(self, views: Views) -> tuple[Tensor, Tensor]:
        """The same samples without augmentation."""
        return self.data.clean("train", views.index), self.data.train.labels.index_select(0, views.index)

    def advance(self, epoch: int) -> Row:
        """Train for ``epoch`` (counted from 1; 0 trains nothing), measure, and return the epoch's row."""
        rate = optimizers.learning_rate(
            self.config.optimizer.lr, self.config.schedule, max(epoch, 1), self.config.epochs
        )
        optimizers.set_rate(self.optimizer, rate)
        self.probed.clear()
        self.trained.clear()
        if epoch > 0:
            train_epoch(epoch, self.sampler, self.probe, self.update)
        evaluations = self._evaluations(epoch)
        sums = self._sums(trained=epoch > 0)
        self.totals.update(sums)
        decided = sums["samples_kept"] + sums["samples_rejected"]
        return {
            "arm": self.name,
            "epoch": epoch,
            **evaluations,
            **sums,
            "samples_held": len(self.sampler.held),
            "acceptance": sums["samples_kept"] / decided if decided else None,
            "raw_batches_per_step": sums["raw_batches"] / sums["steps"] if sums["steps"] else None,
            "learning_rate": rate,
            **{f"cumulative_{name}": self.totals[name] for name in sums},
            **telemetry.read(self.device),
        }

    def evaluate(self, split: str) -> dict[str, float]:
        """The columns of one split, by the model as it is."""
        with self.stopwatch.measure("evaluate"):
            return _columns(split, evaluate(self.model, self.data, split))

    def running(self) -> dict[str, float]:
        """The columns of the training set as the last epoch's own forward passes have it; none if there was none.

        Of all that was probed, in vain too; of an arm that probes nothing, what was trained on, before its update. Not
        what :meth:`evaluate` measures: it is of the epoch's many models, on the pictures and in the mode that they were
        probed or trained on, and only of samples that the method drew.
        """
        if not (seen := self.probed or self.trained):
            return {}
        with self.stopwatch.measure("evaluate"):
            whole = ProbeResult.join(seen)
            return _columns("train", judge(whole.logits, whole.labels))

    def _evaluations(self, epoch: int) -> dict[str, float | None]:
        due = self.config.evaluate.due(epoch, self.config.epochs)
        train = self.evaluate("train") if due else self.running()
        self.suspect = not math.isfinite(train.get("train_mean_loss", 0.0))
        values: dict[str, float | None] = {column.name: None for column in EVALUATIONS}
        if due or self.config.evaluate.train == "running":
            values |= train
        for split, _ in self.data.splits():
            if split != "train":
                values |= self.evaluate(split)
        return values

    def _sums(self, trained: bool) -> dict[str, Any]:
        """What the epoch adds to the totals: the columns :data:`~trainables.records.ADDITIVE`."""
        seconds = self.stopwatch.read()
        counts = asdict(self.sampler.counts) if trained else dict.fromkeys(asdict(self.sampler.counts), 0)
        sums = counts | {f"{phase}_seconds": seconds.get(phase, 0.0) for phase in ("probe", "train", "evaluate")}
        sums["seconds"] = sums["probe_seconds"] + sums["train_seconds"]
        sums["compute"] = float(counts["samples_probed"] + 3 * counts["samples_trained"])
        return {column.name: sums[column.name] for column in ADDITIVE}

    def state_dict(self) -> dict[str, Any]:
        """Everything the arm's future depends on; tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "totals": dict(self.totals),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned, with this arm's own optimizer settings."""
        self.model.load_state_dict(state["model"])
        settings = [_settings(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)
        for graph in self.graphs:
            graph.forget()
        self.sampler.load_state_dict(state["sampler"])
        self.totals = Counter(state["totals"])


class Comparison:
    """The arms of one trial, advanced side by side.

    Order, schedule and augmentation are functions of seed and epoch, so the epoch is all the state they have.
    """

    def __init__(self, config: TrialConfig, data: Dataset, device: torch.device, graphs: bool = False) -> None:
        self.config = config
        self.arms: list[Arm] = []
        for name, method in sorted(config.arms.items(), key=lambda arm: arm[1].like is not None):  # followers last
            others = {arm.name: arm.sampler for arm in self.arms}
            self.arms.append(Arm(name, method, config, data, device, others, graphs))
        self.chance = float(torch.bincount(data.train.labels).max()) / len(data.train.labels)
        self.epoch = -1
        self.diverged: list[str] = []

    def step(self) -> list[Row]:
        """Advance every arm by one epoch; the rows they leave behind. The first step trains nothing: epoch 0.

        Raises:
            RuntimeError: the comparison is over.
        """
        if self.done:
            raise RuntimeError(f"the comparison is over: {self.epoch} of {self.config.epochs} epochs, {self.diverged=}")
        self.epoch += 1
        rows = [_advanced(arm, self.epoch) for arm in self.arms]
        if any(arm.suspect for arm in self.arms):  # it may end here, and all arms are measured at the end
            for arm, row in zip(self.arms, rows, strict=True):
                row |= arm.evaluate("train") if row["train_mean_loss"] is None else {}
        self.diverged = diverged(rows)
        return rows

    def trace(self) -> list[Row]:
        """What each update of the last epoch took: rows of :data:`~trainables.records.STEP_COLUMNS`."""
        return [{"arm": arm.name, "epoch": self.epoch, **step} for arm in self.arms for step in arm.sampler.trace]

    @property
    def done(self) -> bool:
        """Whether the last epoch is trained or an arm has diverged."""
        return bool(self.diverged) or self.epoch >= self.config.epochs

    @property
    def status(self) -> str:
        """``running``, ``finished`` or ``diverged``, as :data:`~trainables.records.STATUSES` spells them."""
        if self.diverged:
            return "diverged"
        return "finished" if self.done else "running"

    @property
    def reason(self) -> str | None:
        """Why it ended before its last epoch; None if it did not."""
        return f"training loss is not finite: {', '.join(self.diverged)}" if self.diverged else None

    def state_dict(self) -> dict[str, Any]:
        """Everything; loads with ``torch.load(weights_only=True)``."""
        return {
            "config": self.config.model_dump(mode="json"),
            "epoch": self.epoch,
            "diverged": self.diverged,
            "arms": {arm.name: arm.state_dict() for arm in self.arms},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned.

        Raises:
            ValueError: the state is of another configuration.
        """
        if TrialConfig.model_validate(state["config"]) != self.config:
            raise ValueError("this checkpoint belongs to another configuration")
        self._load(state)

    def adopt(self, state: dict[str, Any]) -> None:
        """Continue from the state of a comparison that differs in the optimizer's numbers, or in its seed.

        The numbers are this comparison's own; so is what it has spent, where it has come as far as that one.

        Raises:
            ValueError: the state is of a configuration that differs in more.
        """
        if _shared(TrialConfig.model_validate(state["config"])) != _shared(self.config):
            raise ValueError(
                "this checkpoint belongs to a configuration that differs in more than the optimizer's numbers and seed"
            )
        spent = [arm.totals for arm in self.arms] if self.epoch == state["epoch"] else None
        self._load(state)
        if spent:
            for arm, totals in zip(self.arms, spent, strict=True):
                arm.totals = totals

    def _load(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.diverged = state["diverged"]
        for arm in self.arms:
            arm.load_state_dict(state["arms"][arm.name])


def _shared(config: TrialConfig) -> dict[str, Any]:
    """What comparisons must have in common for one to go on from the other's state."""
    return {key: value for key, value in config.to_dotted().items() if key not in (*ADJUSTABLE, "seed")}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group of parameters is trained with."""
    return {key: value for key, value in group.items() if key != "params"}


def prepare(config: TrialConfig, runtime: Runtime) -> Comparison:
    """A comparison at its start, on the device and threads of ``runtime``; data are read once per process.

    Raises:
        DatasetError: the data set is missing, damaged or too small.
        DeviceError: CUDA is asked for and not there.
        PrecisionError: the device does not compute in the precision that is asked for.
    """
    torch.set_num_threads(runtime.threads)
    device = resolve_device(runtime)
    release(device)
    set_float32(config.precision, device)
    set_deterministic(runtime.deterministic)
    data = load(config.dataset, runtime.data_dir, device)
    return Comparison(config, data, device, runtime.cuda_graphs and device.type == "cuda")


def release(device: torch.device) -> None:
    """Give back what comparisons that are gone hold of a GPU: they refer to themselves, so Python takes its time."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def resolve_device(runtime: Runtime) -> torch.device:
    """The device that ``runtime`` names; ``auto`` is CUDA where there is one."""
    available = torch.cuda.is_available()
    if runtime.device == "cuda" and not available:
        raise DeviceError("device is cuda, but torch finds no CUDA device; use --device cpu")
    return torch.device("cuda" if available and runtime.device != "cpu" else "cpu")


def diverged(rows: Iterable[Row]) -> list[str]:
    """The arms whose mean training loss is not finite; one that was not measured has not diverged."""
    return [str(row["arm"]) for row in rows if not math.isfinite(float(row["train_mean_loss"] or 0))]


def _advanced(arm: Arm, epoch: int) -> Row:
    """The row of one epoch of ``arm``; an error for want of memory says which arm wanted it, for that arm has lost."""
    try:
        return arm.advance(epoch)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            error.add_note(out_of_memory(arm.name))
        raise


def _columns(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}_{name}": value for name, value in metrics.items()}


def dead(rows: Iterable[Row], chance: float, settings: DeadRun, every: int = 1) -> str | None:
    """Why a comparison with these rows of its last epoch is given up; None where an arm learns, or may yet.

    It is looked at once: after ``settings.epochs``, or the first epoch from there on at which training accuracy is
    measured, which is ``every`` how many epochs. ``chance`` is the accuracy of always naming the most frequent class.
    """
    if settings.epochs is None:
        return None
    epoch = math.ceil(settings.epochs / every) * every
    of_arms = [row["train_accuracy"] for row in rows if row["epoch"] == epoch]
    accuracies = [float(accuracy) for accuracy in of_arms if accuracy is not None]
    if not accuracies or max(accuracies) > chance + settings.margin:
        return None
    return (
        f"dead: after epoch {epoch} no arm's training accuracy is over {chance + settings.margin:.3f} "
        f"(dead_run: chance {chance:.3f} + margin {settings.margin})"
    )


def report(rows: Sequence[Row], baseline: str, treatment: str) -> dict[str, float]:
    """One epoch of a comparison as flat metrics: ``ARM/METRIC`` and ``gap/METRIC``; a metric that is missing is left
    out.
    """
    arms = {row["arm"]: row for row in rows}
    flat = {
        f"{arm}/{name}": float(value)
        for arm, row in arms.items()
        for name, value in row.items()
        if isinstance(value, int | float) and name in BY_NAME
    }
    for metric in METRICS:
        ours, theirs = flat.get(f"{treatment}/{metric}"), flat.get(f"{baseline}/{metric}")
        if ours is not None and theirs is not None:
            flat[f"gap/{metric}"] = gap(metric, ours, theirs)
    return flat


def better(metrics: Mapping[str, float], baseline: str, treatment: str) -> dict[str, float]:
    """``better/METRIC`` for the metrics of :func:`report`: the value of the arm that is better in it.

    It stays the same where baseline and treatment change places. A value that is not a number is worse than any other.
    """
    values = {}
    for metric in METRICS:
        sides = metrics.get(f"{baseline}/{metric}"), metrics.get(f"{treatment}/{metric}")
        if sides[0] is None or sides[1] is None:
            continue
        numbers = [value for value in sides if value is not None and not math.isnan(value)]
        best = max if BY_NAME[metric].direction > 0 else min
        values[f"{BETTER}/{metric}"] = best(numbers, default=math.nan)
    return values
