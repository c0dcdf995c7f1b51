"""How a model does on a clean set: accuracy and mean, best, quantile and worst losses (section 4.1), and own metrics.

A metric of one's own is a function of ``logits`` (float32, [n, classes]) and ``labels`` (int64, [n]) of a whole split,
on the comparison's device, to a number or to a mapping of names to numbers. Its other arguments are options::

    @metric(direction="min", unit="fraction")
    def ece(logits: Tensor, labels: Tensor, bins: int = 15) -> float: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables import imports
from trainables.config import MetricConfig, metric
from trainables.data import Dataset
from trainables.imports import CodeError, blamed
from trainables.records import EVALUATION_METRICS

__all__ = ["Measure", "evaluate", "judge", "measures", "metric", "summarize", "trial_run"]

CHUNK = {"cpu": 256, "cuda": 2048}
"""Samples evaluated at once, by device: what the caches hold, or what keeps all of a GPU busy."""


def summarize(losses: Float[Tensor, " n"], correct: Bool[Tensor, " n"]) -> dict[str, float]:
    """The metrics of :data:`EVALUATION_METRICS`, fetched from the device at once.

    Quantiles interpolate linearly. A loss that is NaN makes every loss statistic NaN.
    """
    ordered = losses.double().sort().values
    if len(ordered) == 0:
        raise ValueError("no samples to summarize")
    position = torch.tensor((0.0, 0.5, 0.9, 0.99, 1.0), dtype=torch.float64, device=losses.device) * (len(ordered) - 1)
    below, above = ordered[position.floor().long()], ordered[position.ceil().long()]
    fraction = position - position.floor()
    quantiles = torch.where(fraction == 0, below, below + fraction * (above - below))
    quantiles = torch.where(ordered[-1].isnan(), ordered[-1], quantiles)
    values = torch.cat((correct.double().mean()[None], ordered.mean()[None], quantiles)).tolist()
    return dict(zip(EVALUATION_METRICS, values, strict=True))


TRIED = 512
"""Samples that a metric is tried on before anything runs."""


@dataclass(frozen=True)
class Measure:
    """A metric of one's own, at hand.

    Attributes:
        what: how messages name it.
        function: from logits and labels to what the researcher's function returns.
        names: the key of each number in what the function returns, and the metric's name; the key "" of a number.
    """

    what: str
    function: Callable[[Tensor, Tensor], Any]
    names: Mapping[str, str]

    def __call__(self, logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
        """The metric's numbers by name.

        Raises:
            CodeError: the function raises, or returns something else than what is declared.
        """
        with blamed(self.what):
            returned = self.function(logits.float(), labels)
        given = returned if isinstance(returned, Mapping) else {"": returned}
        if given.keys() != self.names.keys():
            raise CodeError(f"{self.what}: {_unlike(given, self.names)}")
        return {name: self._number(given[key]) for key, name in self.names.items()}

    def _number(self, value: Any) -> float:
        numeric = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
        if not numeric and not (hasattr(value, "__float__") and not isinstance(value, Tensor | str)):
            shape = f" of shape {list(value.shape)}" if hasattr(value, "shape") else f" {value!r}"
            raise CodeError(f"{self.what}: must return a number, not a {type(value).__name__}{shape}"[:300])
        with blamed(self.what):
            return float(value)


def _unlike(given: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """In words, how what a function returns differs from what is declared."""
    returned = "a number" if "" in given else f"a mapping with {', '.join(map(str, given)) or 'nothing'}"
    wanted = "a number" if "" in names else f"a mapping with {', '.join(names)}"
    return f"returns {returned}, and what is declared is {wanted}; declare a direction for every name that it returns"


def measures(metrics: Mapping[str, MetricConfig]) -> tuple[Measure, ...]:
    """The metrics of one's own that a configuration names.

    Raises:
        CodeError: a function cannot be found, or does not take its options; all errors at once.
    """
    found, errors = [], []
    for name, config in metrics.items():
        try:
            found.append(_measure(name, config))
        except CodeError as error:
            errors.append(str(error))
    if errors:
        raise CodeError("; ".join(errors))
    return tuple(found)


def trial_run(metrics: Mapping[str, MetricConfig], classes: int) -> list[str]:
    """What is wrong with own metrics, by a measurement of random logits of so many classes; a line each.

    Those that cannot be found are another check's.
    """
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(TRIED, classes, generator=draw)
    labels = torch.arange(TRIED) % classes
    errors = []
    for name, config in metrics.items():
        try:
            imports.find(config.use, "metrics")
        except CodeError:
            continue
        try:
            with torch.no_grad():
                _measure(name, config)(logits, labels)
        except CodeError as error:
            errors.append(str(error))
    return errors


def _measure(name: str, config: MetricConfig) -> Measure:
    try:
        function = imports.find(config.use, "metrics")
    except CodeError as error:
        raise CodeError(f"metrics.{name}.use: {error}") from error
    if not callable(function):
        raise CodeError(f"metrics.{name}.use: {config.use!r} is a {type(function).__name__}, not a function")
    misfits = imports.misfits(function, config.options, _positional(function))
    if misfits:
        raise CodeError("; ".join(f"metrics.{name}.{line}" for line in misfits))
    return Measure(f"metrics.{name} ({config.use})", partial(_call, function, config.options), config.names(name))


def _call(function: Callable[..., Any], options: Mapping[str, Any], logits: Tensor, labels: Tensor) -> Any:
    return function(logits, labels, **options)


def _positional(function: Callable[..., Any]) -> list[str]:
    """The names of a function's first two arguments, which are logits and labels whatever it calls them."""
    return list(imports.signature(function) or ())[:2]


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset, split: str, own: Sequence[Measure] = ()) -> dict[str, float]:
    """The metrics of ``model`` in evaluation mode on the clean pictures of the split of that name."""
    model.eval()
    labels = dict(data.splits())[split].labels
    size = CHUNK[labels.device.type]
    logits = [model(data.clean(split, slice(start, start + size))) for start in range(0, len(labels), size)]
    return judge(torch.cat(logits), labels, own)


@torch.no_grad()
def judge(
    logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], own: Sequence[Measure] = ()
) -> dict[str, float]:
    """The metrics of a model that says ``logits`` of samples with these labels: the usual ones, then one's own."""
    usual = summarize(cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels)
    for measure in own:
        usual |= measure(logits, labels)
    return usual
