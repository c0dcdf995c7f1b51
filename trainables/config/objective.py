"""What a search optimizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from trainables.config.base import Frozen
from trainables.config.trial import BETTER
from trainables.records import BUILT_IN, Columns

Mode = Literal["max", "min"]


def metric_mode(metric: str, columns: Columns = BUILT_IN) -> Mode:
    """Whether larger or smaller is better in ``gap/METRIC``, ``better/METRIC`` or ``ARM/METRIC``: as it is declared.

    Raises:
        ValueError: it is none of these, or the metric has no direction.
    """
    scope, _, name = metric.partition("/")
    if not scope or name not in columns.metrics:
        raise ValueError(f"must be gap/METRIC or ARM/METRIC with one of the metrics {', '.join(columns.metrics)}")
    return "max" if scope == "gap" or columns.by_name[name].direction > 0 else "min"


def declared(context: Mapping[str, Any] | None) -> Columns:
    """The columns in a validation's context, under ``columns``: without them, those of a study without own metrics."""
    columns: Columns = (context or {}).get("columns", BUILT_IN)
    return columns


class Ceiling(Frozen):
    """The loss, in nats, above which a baseline has not learned, for each statistic of the loss that a gap can be of.

    A baseline can be accurate and still have huge losses on the few samples that it gets wrong. The defaults let pass
    the accurate SGD archetypes that the thesis prints (worst losses up to 38 nats, 0.9 quantiles up to 8) and stop
    those that Adam drove apart (worst losses of 67 to 148 nats). A median or best loss needs no bound of its own: where
    half of the samples are right, it is ln(classes) at most.
    """

    mean_loss: float | None = Field(4.6, gt=0, description="nats; 4.6 is what guessing among 100 classes costs")
    q90_loss: float | None = Field(10, gt=0, description="nats; None: any")
    q99_loss: float | None = Field(25, gt=0, description="nats; None: any")
    worst_loss: float | None = Field(40, gt=0, description="nats; None: any")

    def excess(self, metric: str, value: float | None) -> float:
        """By how many nats ``value`` of a metric such as ``test_worst_loss`` is above its bound; 0 without a bound."""
        name = statistic(metric)
        bound = getattr(self, name) if name in Ceiling.model_fields else None
        return 0.0 if bound is None or value is None else max(value - bound, 0.0)


def statistic(metric: str) -> str:
    """What a metric is a statistic of, on whatever split: ``test_worst_loss`` -> ``worst_loss``."""
    return metric.partition("_")[2]


class Objective(Frozen):
    """What a search optimizes: one number per epoch of a comparison, or several that are traded off.

    A gap alone rewards a baseline that fails to learn. A baseline has not learned where its validation accuracy
    (training accuracy, if nothing is held out) is below ``baseline_floor``, or where the gap is of a loss and the
    baseline's own value of that loss is above ``baseline_ceiling``. There a win counts for nothing, a loss still counts
    as a loss, and what the baseline lacks of the floor and exceeds the ceiling by is subtracted: the value is below 0,
    and the further, the worse the baseline.
    """

    metric: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "gap/validation_accuracy", description="gap/METRIC or ARM/METRIC; a list for several objectives"
    )
    baseline_floor: float = Field(0.5, ge=0, le=1, description="accuracy below which the baseline has not learned")
    baseline_ceiling: Ceiling = Field(
        Ceiling(), description="losses above which the baseline has not learned, each for the gaps of that loss"
    )

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | tuple[str, ...], info: Any) -> str | tuple[str, ...]:
        columns = declared(info.context)
        several = (metric,) if isinstance(metric, str) else metric
        for one in several:
            try:
                metric_mode(one, columns)
                if one.startswith(f"{BETTER}/"):
                    raise ValueError(
                        f"{one} says how good the better arm is and nothing of the other: a search for it would find "
                        "what trains well, not what tells the arms apart; it is for scheduler.metric alone, set this "
                        "to gap/METRIC or ARM/METRIC"
                    )
            except ValueError as error:
                raise ValueError(f"{one!r}: {error}" if len(several) > 1 else str(error)) from None
        if len(set(several)) < len(several):
            raise ValueError(f"names a metric twice: {', '.join(several)}")
        return metric if len(several) > 1 or isinstance(metric, str) else metric[0]

    @model_validator(mode="after")
    def _guards_what_is_searched(self) -> Objective:
        searched = {statistic(metric.partition("/")[2]) for metric in self.metrics if metric.startswith("gap/")}
        usual, bounds = Ceiling().model_dump(), self.baseline_ceiling.model_dump()
        idle = [name for name in bounds if bounds[name] != usual[name] and name not in searched]
        if idle:
            named = ", ".join(f"baseline_ceiling.{name} is set to {bounds[name]}" for name in idle)
            raise ValueError(
                f"{named}, and no gap of that loss is searched (metric: {', '.join(self.metrics)}); leave it out"
            )
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, be it one or several."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    def modes(self, columns: Columns = BUILT_IN) -> tuple[Mode, ...]:
        """Whether each metric's largest or smallest value is best, as its declaration says."""
        return tuple(metric_mode(metric, columns) for metric in self.metrics)

    def values(self, report: Mapping[str, Any], baseline: str) -> list[float]:
        """The value of every metric in a comparison's report; NaN where it is missing."""
        return [self._value(report, metric, baseline) for metric in self.metrics]

    def _value(self, report: Mapping[str, Any], metric: str, baseline: str) -> float:
        value = report.get(metric)
        if value is None:
            return math.nan
        scope, _, name = metric.partition("/")
        if scope != "gap":
            return float(value)
        accuracy = report.get(f"{baseline}/validation_accuracy", report.get(f"{baseline}/train_accuracy"))
        lacking = max(self.baseline_floor - accuracy, 0.0) if accuracy is not None else 0.0
        lacking += self.baseline_ceiling.excess(name, report.get(f"{baseline}/{name}"))
        return min(float(value), 0.0) - lacking if lacking else float(value)
