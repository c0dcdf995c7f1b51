"""A comparison: the arms of a trial side by side, sharing everything but the method."""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from trainables import clocks, methods, models, old_keys, optimizers, telemetry
from trainables.augment import augment
from trainables.clocks import Reference
from trainables.config import ADJUSTABLE, BETTER, Clock, DeadRun, MethodConfig, Runtime, TrialConfig
from trainables.data import Dataset, Dimensions, load
from trainables.errors import UserError
from trainables.gradients import gradient_norms
from trainables.graphs import Replayed
from trainables.imports import CodeError, culprit, told
from trainables.methods import ProbeResult, Sampler, Views
from trainables.methods.build import Problem
from trainables.metrics import evaluate, judge, measures
from trainables.normalization import reestimated
from trainables.precision import place, set_deterministic, set_float32
from trainables.records import ADDITIVE, BUILT_IN, Columns, Row, out_of_memory
from trainables.seeds import GlobalRandomness, derive, generator, permutation
from trainables.train import Stopwatch, Update, prober, train, updater, watched

REESTIMATED = 10_240
"""Clean training images, at most, that the statistics of batch normalization are estimated from anew."""

CHUNK = 256
"""Images in each of the batches that they are estimated from."""

AT_ONCE = {"cpu": 1024, "cuda": 2048}
"""Samples that are probed together, ahead of need, by device."""


class DeviceError(UserError, ValueError):
    """The device that was asked for is not there."""


class UnmeasuredError(UserError, ValueError):
    """A budget is in reference seconds, and none were measured for the configuration."""


class Arm:
    """One method trained under one configuration.

    Initial weights, order and augmentation come from streams of the trial's seed alone, so all arms of a trial share
    them. Layers that draw random numbers, which only networks of one's own have, draw from a stream of the arm, which
    starts alike in all arms; such networks are not recorded as graphs.

    Attributes:
        probed: what the probes of the epoch that is being trained said.
        trained: what its updates' own forward passes said.
        missing: the columns of own metrics that have not been finite once; they are recorded without a value.
        suspect: whether the training loss is not finite, be it measured or that of the epoch's own forward passes.
    """

    def __init__(
        self,
        name: str,
        method: MethodConfig,
        config: TrialConfig,
        data: Dataset,
        device: torch.device,
        others: Mapping[str, Arm],
        graphs: bool = False,
        reference: Reference | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.reference = reference
        self.allotment = config.allotment(name)
        self.leader = others[self.allotment.of] if self.allotment.of else None
        self.data = data
        self.device = device
        self.model = self._network("weights")
        graphs = graphs and not config.model.own and optimizers.recordable(config.optimizer)
        self.optimizer = optimizers.build(config.optimizer, self.model.parameters(), graphs and device.type == "cuda")
        problem = Problem(
            labels=data.train.labels,
            classes=data.classes,
            batch_size=config.batch_size,
            epochs=config.epochs,
            images=lambda index: data.clean("train", index),
            network=self._network,
            samples=self.feed,
            gradient_norms=lambda views: gradient_norms(self.model, *self.feed(views)),
            true_labels=data.true_labels,
        )
        self.sampler: Sampler = methods.build(
            method,
            problem,
            order=lambda number: permutation(len(data.train.labels), config.seed, "order", number),
            seed=config.seed,
            device=device,
            others={other: arm.sampler for other, arm in others.items()},
            at_once=AT_ONCE[device.type],
            smoothing=config.label_smoothing,
        )
        self.randomness = GlobalRandomness(device, config.seed, "layers") if config.model.own else None
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
        self.update = watched(self._at_rate(update), self.stopwatch.measure("train"), self.trained.append)
        self.measures = measures(config.metrics)
        self.missing: set[str] = set()
        self.totals: Counter[str] = Counter()
        self.suspect = False
        self._epoch = 1
        self._began: int | float = 0
        self._until: int | float = 0
        self._spent: int | float = 0  # of the epoch, on the budget's clock
        self._rate: float = config.optimizer.lr
        self._factor: float | Tensor = 1.0
        self._augmentation_seed = derive(config.seed, "augmentation")

    def _network(self, stream: str) -> nn.Module:
        """A fresh network of this arm's kind on its device, initial weights from the trial's stream of that name."""
        weights = generator(self.config.seed, stream)
        _, channels, height, width = self.data.train.images.shape
        network = models.build(self.config.model, channels, (height, width), self.data.classes, weights)
        return place(network, self.config.precision, self.device, channels_last=not self.config.model.own)

    def _scheduled(self, done: int | float, whole: int | float) -> float:
        """The schedule's learning rate when ``done`` of the ``whole`` budget is spent."""
        config = self.config
        return optimizers.learning_rate(config.optimizer.lr, config.schedule, done, whole, config.epochs)

    def _at_rate(self, update: Update) -> Update:
        """``update`` at the epoch's learning rate times the factor that the method asks for."""

        def at_rate(views: Views) -> ProbeResult:
            before, factor = self._rate, self.sampler.rate()
            if self.config.schedule.per_update:
                self._rate = self._scheduled(*self._done())
            if torch.is_tensor(factor) or (self._rate, factor) != (before, self._factor):
                optimizers.set_rate(self.optimizer, self._rate * factor)
                self._factor = factor
            return update(views)

        return at_rate

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

    def total(self, clock: Clock) -> int | float:
        """What the arm has spent on a clock by the end of its last epoch."""
        return clocks.amount(clock, self.totals, self.sampler.passes)

    def budget(self, epoch: int) -> int | float:
        """What it may have spent by the end of an epoch, on its budget's clock."""
        if self.leader:
            return self.leader.total(self.allotment.clock)
        assert self.allotment.amount is not None
        return self.allotment.amount * epoch / self.config.epochs

    def _let_go(self) -> None:
        """Forget what the epoch's passes said.

        Each result is small, but lies in memory that a batch of images was in before: kept until the arm's next epoch,
        while other arms train, they cost every arm as much memory as its epoch has images.
        """
        self.probed.clear()
        self.trained.clear()

    def _cost(self) -> dict[str, int | float]:
        """What the epoch has cost so far, under the names of the epoch table; seconds where there is a reference."""
        spent = self.sampler.spent()
        return spent | ({"reference_seconds": clocks.seconds(spent, self.reference)} if self.reference else {})

    def _spend(self) -> int | float:
        """What has been spent so far, within the epoch, on the budget's clock."""
        clock = self.allotment.clock
        if clock == "epochs":
            self._spent = self.sampler.passes
        else:
            self._spent = self._began + clocks.amount(clock, self._cost(), 0.0)
        return self._spent

    def _done(self) -> tuple[int | float, int | float]:
        """What was spent of the whole budget by the end of the last update, and the whole budget.

        In epochs, where the whole is not known: it is what another arm will have spent.
        """
        if self.allotment.amount is not None:
            return min(self._spent, self.allotment.amount), self.allotment.amount
        of_epoch = self._until - self._began
        share = min(max((self._spent - self._began) / of_epoch, 0.0), 1.0) if of_epoch > 0 else 0.0
        return self._epoch - 1 + share, self.config.epochs

    def train(self, epoch: int) -> None:
        """Train for ``epoch`` (counted from 1; 0 trains nothing), and measure nothing."""
        self._epoch = max(epoch, 1)
        self._rate, self._factor = self._scheduled(self._epoch - 1, self.config.epochs), 1.0
        optimizers.set_rate(self.optimizer, self._rate)
        self._let_go()
        if epoch == 0:
            return
        self.sampler.start_epoch(epoch)
        self._began, self._until = self.total(self.allotment.clock), self.budget(epoch)
        with self.randomness or nullcontext():
            if not self.sampler.prepared:
                with self.stopwatch.measure("auxiliary"):
                    self.sampler.prepare()
            choosing = self.stopwatch.measure("choose")
            train(self.sampler, self.probe, self.update, self._spend, self._until, choosing)

    def advance(self, epoch: int) -> Row:
        """Train for ``epoch`` (counted from 1; 0 trains nothing), measure, and return the epoch's row."""
        self.train(epoch)
        with self.randomness or nullcontext(), self._normalized():  # a layer may draw in evaluation, too
            evaluations = self._evaluations(epoch)
        self._let_go()
        sums = self._sums(trained=epoch > 0)
        self.totals.update({name: value for name, value in sums.items() if value is not None})
        decided = sums["samples_kept"] + sums["samples_rejected"]
        return {
            "arm": self.name,
            "epoch": epoch,
            **evaluations,
            **sums,
            "passes": self.sampler.passes,
            "samples_held": self.sampler.waiting,
            "acceptance": sums["samples_kept"] / decided if decided else None,
            "raw_batches_per_step": sums["raw_batches"] / sums["steps"] if sums["steps"] else None,
            "learning_rate": self._rate,
            **{f"cumulative_{name}": None if value is None else self.totals[name] for name, value in sums.items()},
            **telemetry.read(self.device),
        }

    @contextmanager
    def _normalized(self) -> Iterator[None]:
        """Within it, batch normalization evaluates with the statistics that are asked for."""
        if self.config.evaluate.batchnorm == "running":
            yield
            return
        order = permutation(len(self.data.train.labels), self.config.seed, "normalization")[:REESTIMATED]
        parts = max(len(order) // CHUNK, 1)
        size = len(order) // parts
        chosen = order[: size * parts].to(self.device)
        with ExitStack() as stack:
            with self.stopwatch.measure("reestimate"):
                images = (self.data.clean("train", part) for part in chosen.split(size))
                stack.enter_context(reestimated(self.model, images))
            yield

    def evaluate(self, split: str) -> dict[str, float | None]:
        """The columns of one split, by the model as it is."""
        with self.stopwatch.measure("evaluate"):
            return self._columns(split, evaluate(self.model, self.data, split, self.measures))

    def measured_late(self) -> dict[str, float | None]:
        """The columns of the training set, which were not due."""
        with self.randomness or nullcontext(), self._normalized():
            return self.evaluate("train")

    def running(self) -> dict[str, float | None]:
        """The columns of the training set as the last epoch's own forward passes have it; none if there was none.

        Of all that was probed, in vain too; of an arm that probes nothing, what was trained on, before its update. Not
        what :meth:`evaluate` measures: it is of the epoch's many models, on the pictures and in the mode that they were
        probed or trained on, and only of samples that the method drew.
        """
        if not (seen := self.probed or self.trained):
            return {}
        with self.stopwatch.measure("evaluate"):
            whole = ProbeResult.join(seen)
            return self._columns("train", judge(whole.logits, whole.labels, self.measures))

    def _columns(self, split: str, metrics: Mapping[str, float]) -> dict[str, float | None]:
        values: dict[str, float | None] = {f"{split}_{name}": value for name, value in metrics.items()}
        own = {column.name for column in self.config.columns.own}
        lacking = {name for name, value in values.items() if name in own and not math.isfinite(value or 0.0)}
        self.missing |= lacking
        return values | dict.fromkeys(lacking)

    def _evaluations(self, epoch: int) -> dict[str, float | None]:
        due = self.config.evaluate.due(epoch, self.config.epochs)
        train = self.evaluate("train") if due else self.running()
        self.suspect = not math.isfinite(train.get("train_mean_loss") or 0.0)
        values: dict[str, float | None] = dict.fromkeys(self.config.columns.evaluations)
        if due or self.config.evaluate.train == "running":
            values |= train
        for split, _ in self.data.splits():
            if split != "train":
                values |= self.evaluate(split)
        return values

    def _sums(self, trained: bool) -> dict[str, Any]:
        """What the epoch adds to the totals: the columns :data:`~trainables.records.ADDITIVE`; None: not known."""
        seconds = self.stopwatch.read()
        phases = ("probe", "train", "evaluate", "reestimate", "auxiliary", "choose")
        sums: dict[str, Any] = {f"{phase}_seconds": seconds.get(phase, 0.0) for phase in phases}
        sums["select_seconds"] = max(sums["choose_seconds"] - sums["probe_seconds"], 0.0)
        sums["seconds"] = sum(sums[f"{phase}_seconds"] for phase in ("probe", "select", "train", "auxiliary"))
        spent = self._cost()
        sums |= spent if trained else {name: type(value)(0) for name, value in spent.items()}
        return {column.name: sums.get(column.name) for column in ADDITIVE}

    def state_dict(self) -> dict[str, Any]:
        """Everything the arm's future depends on; tensors and plain values only."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "totals": dict(self.totals),
        }
        return state | ({"layers": self.randomness.state_dict()} if self.randomness else {})

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Continue after ``epoch`` from what :meth:`state_dict` returned, with this arm's own optimizer settings."""
        self.model.load_state_dict(state["model"])
        settings = [_settings(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)
        for graph in self.graphs:
            graph.forget()
        fresh = self.sampler.memory.state_dict()
        self.sampler.load_state_dict(old_keys.sampler(state["sampler"], fresh, max(epoch, 0)))
        if self.randomness:
            self.randomness.load_state_dict(state["layers"])
        self.totals = Counter(state["totals"])


class Comparison:
    """The arms of one trial, advanced side by side.

    Order, schedule and augmentation are functions of seed and epoch, so the epoch is all the state they have.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: Dataset,
        device: torch.device,
        graphs: bool = False,
        references: Mapping[str, tuple[float, float]] = MappingProxyType({}),
        only: str | None = None,
    ) -> None:
        """``references`` as :class:`~trainables.config.Runtime` has them; ``only``: the arm to train, with those that
        it follows.

        Raises:
            ValueError: there is no such arm.
            UnmeasuredError: a budget is in reference seconds, and there are none for this configuration.
        """
        self.config = config
        reference = _reference(config, data, references)
        self.arms: list[Arm] = []
        for name in config.in_order if only is None else config.needed(only):
            others = {arm.name: arm for arm in self.arms}
            self.arms.append(Arm(name, config.arms[name], config, data, device, others, graphs, reference))
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
        for arm in self.arms:
            following = [one.sampler for one in self.arms if one.config.arms[one.name].follows == arm.name]
            arm.sampler.forget(min(one.finished for one in (arm.sampler, *following)))
        if any(arm.suspect for arm in self.arms):  # it may end here, and all arms are measured at the end
            for arm, row in zip(self.arms, rows, strict=True):
                row |= arm.measured_late() if row["train_mean_loss"] is None else {}
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

    @property
    def note(self) -> str | None:
        """What the record lacks though nothing has failed; None where that is nothing."""
        missing = sorted(set().union(*(arm.missing for arm in self.arms)))
        return f"not a finite number, and recorded as missing: {', '.join(missing)}" if missing else None

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
            arm.load_state_dict(state["arms"][arm.name], self.epoch)


def _reference(config: TrialConfig, data: Dataset, references: Mapping[str, tuple[float, float]]) -> Reference | None:
    """The reference of a configuration; None where there is none and no budget needs it."""
    key = clocks.key(config, Dimensions(data.channels, data.size, data.classes))
    if key in references:
        return Reference(*references[key])
    if any(config.allotment(name).clock == "reference_seconds" for name in config.arms):
        raise UnmeasuredError(
            f"a budget is in reference seconds, and none were measured for {key}; they are measured when a study "
            "begins, for what its search can ask for"
        )
    return None


def _shared(config: TrialConfig) -> dict[str, Any]:
    """What comparisons must have in common for one to go on from the other's state."""
    return {key: value for key, value in config.to_dotted().items() if key not in (*ADJUSTABLE, "seed")}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group of parameters is trained with."""
    return {key: value for key, value in group.items() if key != "params"}


def prepare(config: TrialConfig, runtime: Runtime, only: str | None = None) -> Comparison:
    """A comparison at its start, on the device and threads of ``runtime``; data are read once per process.

    Args:
        config: its settings.
        runtime: where it runs.
        only: the arm to train, with those that it follows; None: all.

    Raises:
        ValueError: there is no such arm.
        DatasetError: the data set is missing, damaged or too small.
        DeviceError: CUDA is asked for and not there.
        PrecisionError: the device does not compute in the precision that is asked for.
        UnmeasuredError: a budget is in reference seconds, and ``runtime`` has none for the configuration.
    """
    data, device = ready(config, runtime)
    graphs = runtime.cuda_graphs and device.type == "cuda"
    return Comparison(config, data, device, graphs, runtime.reference, only)


def ready(config: TrialConfig, runtime: Runtime) -> tuple[Dataset, torch.device]:
    """The data of ``config`` and their device, this process set to compute as ``config`` and ``runtime`` say.

    Raises:
        UserError: as :func:`prepare`.
    """
    torch.set_num_threads(runtime.threads)
    device = resolve_device(runtime)
    release(device)
    set_float32(config.precision, device)
    set_deterministic(runtime.deterministic)
    return load(config.dataset, runtime.data_dir, device), device


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
    """The row of one epoch of ``arm``; an error for want of memory says which arm wanted it, for that arm has lost.

    Raises:
        CodeError: code of the researcher's own raises something else; says in which file and line.
    """
    try:
        return arm.advance(epoch)
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            error.add_note(out_of_memory(arm.name))
        elif isinstance(error, CodeError):
            raise CodeError(f"arm {arm.name!r}: {error}") from error
        elif culprit(error):
            raise CodeError(f"arm {arm.name!r}: {told(error)}") from error
        raise


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


def report(rows: Sequence[Row], baseline: str, treatment: str, columns: Columns = BUILT_IN) -> dict[str, float]:
    """One epoch of a comparison as flat metrics: ``ARM/METRIC`` and ``gap/METRIC``; a metric that is missing is left
    out.
    """
    arms = {row["arm"]: row for row in rows}
    flat = {
        f"{arm}/{name}": float(value)
        for arm, row in arms.items()
        for name, value in row.items()
        if isinstance(value, int | float) and name in columns.by_name
    }
    for metric in columns.metrics:
        ours, theirs = flat.get(f"{treatment}/{metric}"), flat.get(f"{baseline}/{metric}")
        if ours is not None and theirs is not None:
            flat[f"gap/{metric}"] = columns.gap(metric, ours, theirs)
    return flat


def better(
    metrics: Mapping[str, float], baseline: str, treatment: str, columns: Columns = BUILT_IN
) -> dict[str, float]:
    """``better/METRIC`` for the metrics of :func:`report`: the value of the arm that is better in it.

    It stays the same where baseline and treatment change places. A value that is not a number is worse than any other.
    """
    values = {}
    for metric in columns.metrics:
        sides = metrics.get(f"{baseline}/{metric}"), metrics.get(f"{treatment}/{metric}")
        if sides[0] is None or sides[1] is None:
            continue
        numbers = [value for value in sides if value is not None and not math.isnan(value)]
        best = max if columns.by_name[metric].direction > 0 else min
        values[f"{BETTER}/{metric}"] = best(numbers, default=math.nan)
    return values
