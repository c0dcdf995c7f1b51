"""The row that an epoch leaves behind: every column's name, type, unit, direction and meaning, declared once.

Nothing here needs torch, so analysis can read a study's tables without it.
A metric's *direction* is +1 where larger is better, -1 where smaller is better, and 0 where neither is.
The *gap* of a metric is ``direction * (treatment - baseline)``: positive always means that the treatment is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

FORMAT = 2
"""Of a study's SQLite file, kept there as ``user_version``; 0 is a file from before formats were numbered."""

SPLITS = ("train", "validation", "test")
EVALUATION_METRICS = (
    "accuracy",
    "mean_loss",
    "best_loss",
    "q50_loss",
    "q90_loss",
    "q99_loss",
    "worst_loss",
)


@dataclass(frozen=True)
class Column:
    """One column of the epoch table."""

    name: str
    type: Literal["int", "float", "str"]
    unit: str
    meaning: str
    direction: Literal[-1, 0, 1] = 0


KEYS = (
    Column("trial_id", "str", "", "the comparison that the row belongs to"),
    Column("arm", "str", "", "the arm of the comparison"),
    Column(
        "epoch",
        "int",
        "epochs",
        "epochs so far: passes over the raw data, or shares of the budget; 0: before training",
    ),
)

_STATISTICS = {
    "accuracy": (1, "fraction", "share of samples classified correctly"),
    "mean_loss": (-1, "nats", "mean cross-entropy"),
    "best_loss": (-1, "nats", "smallest cross-entropy of a sample"),
    "q50_loss": (-1, "nats", "median cross-entropy"),
    "q90_loss": (-1, "nats", "0.9 quantile of the cross-entropy"),
    "q99_loss": (-1, "nats", "0.99 quantile of the cross-entropy"),
    "worst_loss": (-1, "nats", "largest cross-entropy of a sample"),
}

EVALUATIONS = tuple(
    Column(f"{split}_{name}", "float", unit, f"{meaning}, clean {split} set", direction)  # type: ignore[arg-type]
    for split in SPLITS
    for name, (direction, unit, meaning) in _STATISTICS.items()
)

# What an epoch adds up; each also has a cumulative form.
ADDITIVE = (
    Column("steps", "int", "updates", "optimizer updates"),
    Column("samples_probed", "int", "samples", "forward passes without gradients"),
    Column(
        "samples_kept",
        "int",
        "samples",
        "samples accepted for training; without a filter, all that were drawn",
    ),
    Column("samples_rejected", "int", "samples", "samples that a filter turned away"),
    Column("samples_overflowed", "int", "samples", "kept samples that did not fit the filtered batch"),
    Column("samples_trained", "int", "samples", "samples trained on"),
    Column("samples_backward", "int", "samples", "samples trained on that had a part in the gradient"),
    Column("raw_batches", "int", "batches", "batches probed"),
    Column("probe_seconds", "float", "s", "time spent probing", -1),
    Column("select_seconds", "float", "s", "time spent choosing: orders, ranks, draws, making batches; no probes", -1),
    Column("train_seconds", "float", "s", "time spent in updates", -1),
    Column("auxiliary_seconds", "float", "s", "time spent on auxiliary models and scoring runs before training", -1),
    Column("evaluate_seconds", "float", "s", "time spent measuring (no clock counts it)"),
    Column("reestimate_seconds", "float", "s", "time spent on new BatchNorm statistics (no clock counts it)"),
    Column("seconds", "float", "s", "probing, choosing, updates and auxiliary work together", -1),
    Column(
        "auxiliary_compute",
        "float",
        "forward-equivalents",
        "work of a method beside probes and updates: auxiliary models, scoring runs",
        -1,
    ),
    Column(
        "compute",
        "float",
        "forward-equivalents",
        "1 per probed sample, 1 per trained sample and 2 more where it is sent backward, and auxiliary work",
        -1,
    ),
    Column(
        "reference_seconds",
        "float",
        "s",
        "the same work at the seconds that forward passes and updates took when they were measured for the study; "
        "empty where they were not",
        -1,
    ),
)

CUMULATIVE = tuple(
    Column(f"cumulative_{c.name}", c.type, c.unit, f"{c.meaning}, since the start", c.direction) for c in ADDITIVE
)

STATE = (
    Column("passes", "float", "passes", "passes over the raw training data so far; by default as many as epochs"),
    Column(
        "samples_held",
        "int",
        "samples",
        "kept samples that wait in a half-filled batch at the epoch's end",
    ),
    Column("acceptance", "float", "fraction", "acceptance ratio: kept / (kept + rejected)"),
    Column("raw_batches_per_step", "float", "batches", "raw batches probed for one filtered batch"),
    Column("learning_rate", "float", "", "learning rate of the epoch; at epoch 0 the initial one"),
)

TELEMETRY = (
    Column("gpu_temperature", "float", "°C", "temperature of the GPU"),
    Column("gpu_power", "float", "W", "power drawn by the GPU"),
    Column("gpu_memory", "float", "bytes", "GPU memory allocated by this process"),
    Column("gpu_utilization", "float", "%", "utilization of the GPU"),
    Column("cpu_threads", "float", "threads", "threads of this process"),
    Column("cpu_utilization", "float", "%", "CPU utilization of this process since the row before"),
    Column("process_memory", "float", "bytes", "resident memory of this process"),
    Column("available_memory", "float", "bytes", "memory that the machine has left"),
)

STEP_COLUMNS = (
    *KEYS,
    Column("step", "int", "updates", "the update's number within the epoch, from 1"),
    Column("raw_batches", "int", "batches", "batches probed since the update before, in whatever epoch that was"),
    Column("samples_probed", "int", "samples", "samples probed since the update before"),
    Column("samples_kept", "int", "samples", "samples accepted since the update before"),
    Column("samples_overflowed", "int", "samples", "kept samples that did not fit the batch"),
    Column("samples_trained", "int", "samples", "samples in the batch"),
)
"""The columns of the table ``steps``, kept on demand: what each update took (Figure 6 of the appendix)."""

TRIAL_COLUMNS = (
    Column("trial_id", "str", "", "the comparison"),
    Column("number", "int", "", "its place in the study, from 0"),
    Column("configuration", "str", "", "digest of its configuration without the seed: comparisons that differ in seed"),
    Column("status", "str", "", "one of STATUSES"),
    Column("error", "str", "", "what went wrong, or why the trial was stopped"),
    Column("started", "float", "s", "Unix time of its start"),
    Column("ended", "float", "s", "Unix time of its end"),
    Column("objective", "float", "", "the search's objective at its last epoch"),
    Column("proposed_by", "str", "", "with search.each arm, the side whose search proposed it: baseline or treatment"),
)

COLUMNS: tuple[Column, ...] = (*KEYS, *EVALUATIONS, *ADDITIVE, *STATE, *CUMULATIVE, *TELEMETRY)
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}
METRICS: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.direction)

DECLARED_IN = "columns"
"""The table of a study in which its columns are declared."""

DECLARATIONS = (
    Column("table", "str", "", "the table that has the column"),
    Column("name", "str", "", "the column"),
    Column("type", "str", "", "int, float or str"),
    Column("unit", "str", "", "its unit; none where it has none"),
    Column("direction", "int", "", "1: larger is better; -1: smaller is better; 0: neither"),
    Column("meaning", "str", "", "what it holds"),
)
"""The columns of the table ``columns``: it says of every other column what :class:`Column` does."""


def declarations(epochs: Sequence[Column]) -> list[list[str | int]]:
    """The rows of the table ``columns``, where the table ``epochs`` has these columns."""
    tables = {"trials": TRIAL_COLUMNS, "epochs": epochs, "steps": STEP_COLUMNS}
    names = [column.name for column in DECLARATIONS[1:]]
    return [[table, *(getattr(column, n) for n in names)] for table, listed in tables.items() for column in listed]


#: What a curve can be drawn against (the word in the interface -> the column).
CLOCKS: Mapping[str, str] = {
    "epochs": "epoch",
    "passes": "passes",
    "steps": "cumulative_steps",
    "samples": "cumulative_samples_trained",
    "compute": "cumulative_compute",
    "seconds": "cumulative_seconds",
    "reference_seconds": "cumulative_reference_seconds",
}

#: A trial's states, as the tables spell them.
SIDES = ("baseline", "treatment")
"""The two arms of a comparison that a gap is between."""

STATUSES: Mapping[str, str] = {
    "running": "still training, or its driver died",
    "finished": "trained to its last epoch",
    "stopped": "stopped early by the scheduler",
    "diverged": "an arm's training loss is not finite",
    "failed": "raised an error or lost its worker",
    "interrupted": "the study was interrupted while it trained",
}

#: The columns that two runs of the same configuration share bit for bit on one machine's CPU (all but time and
# telemetry).
REPRODUCIBLE: tuple[str, ...] = tuple(
    c.name for c in COLUMNS if c.unit != "s" and c not in TELEMETRY and c.name != "trial_id"
)

Value = float | int | str | None
Row = dict[str, Value]


@dataclass(frozen=True)
class Columns:
    """The columns of one study's epoch table: this program's, and those of the metrics that the study declares itself.

    Attributes:
        own: the columns of the study's own metrics; every name starts with a split, such as ``test_calibration``.

    Raises:
        ValueError: two columns have the same name.
    """

    own: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        times = Counter(column.name for column in (*COLUMNS, *self.own))
        if twice := sorted(name for name, count in times.items() if count > 1):
            raise ValueError(f"there are two metrics of the name {', '.join(twice)}; rename one")

    @cached_property
    def all(self) -> tuple[Column, ...]:
        """Every column, in the order of the table."""
        return (*COLUMNS, *self.own)

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """Every column by its name."""
        return {column.name: column for column in self.all}

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The names of the columns that have a direction, and so a gap."""
        return tuple(column.name for column in self.all if column.direction)

    @cached_property
    def evaluations(self) -> tuple[str, ...]:
        """The names of the columns that are measured on a split."""
        return tuple(column.name for column in (*EVALUATIONS, *self.own))

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """The names of the columns that a pair holds for each side: metrics and clocks."""
        return tuple(name for name in self.by_name if name in self.metrics or name in CLOCKS.values())

    def unit(self, metric: str) -> str:
        """The unit of a column; "" for one that is not declared."""
        return self.by_name[metric].unit if metric in self.by_name else ""

    def gap(self, metric: str, treatment: float, baseline: float) -> float:
        """How much better the treatment is in ``metric``, in its unit; positive means better.

        Raises:
            KeyError: ``metric`` is not a column, or has no direction.
        """
        direction = self.by_name[metric].direction
        if not direction:
            raise KeyError(f"{metric!r} has no direction, so no gap; metrics with one: {', '.join(self.metrics)}")
        return direction * (treatment - baseline)


BUILT_IN = Columns()
"""The columns of a study that declares no metric of its own."""


def out_of_memory(arm: str) -> str:
    """What a comparison's ``error`` says where this arm needed more memory than there was."""
    return f"arm {arm!r} ran out of memory"


def title(metric: str) -> str:
    """A metric's name in words: ``test_q90_loss`` is "test q90 loss"."""
    return metric.replace("_", " ")
