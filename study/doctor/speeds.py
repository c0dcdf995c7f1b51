"""How long a forward pass and an update take, beside the 1 : 3 that the clock ``compute`` counts."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from study import preflight, references
from study.doctor.findings import Finding
from study.experiment import Experiment
from trainables import clocks
from trainables.clocks import Reference
from trainables.config import TrialConfig
from trainables.data import dimensions

MOST = 3
"""Networks, batch sizes and the like that are measured at most: the first of the experiment's corners."""
NOMINAL = 3
"""Forward passes that the clock ``compute`` takes an update for."""


def measure(experiment: Experiment) -> references.Known | None:
    """Seconds per sample on this machine of the experiment's own settings and of its corners, by key; None: no GPU."""
    if experiment.resources.gpu and not torch.cuda.is_available():
        return None
    runtime = preflight.runtime(experiment, "cuda" if experiment.resources.gpu else "cpu")
    asked: dict[str, TrialConfig] = {}
    for values in (experiment.trial, *experiment.corners()):
        config = TrialConfig.from_dotted(values)
        asked.setdefault(clocks.key(config, dimensions(config.dataset, runtime.data_dir)), config)
    return references.measure_here(dict(list(asked.items())[:MOST]), runtime)


def told(measured: Mapping[str, tuple[float, float]] | None) -> Finding:
    """The ratio of an update to a forward pass, and a line for each configuration that was measured."""
    if measured is None:
        return Finding("ok", "reference", "not measured where there is no GPU")
    found = {key: Reference(*pair) for key, pair in measured.items()}
    ratios = [f"{one.update / one.forward:.1f}" for one in found.values()]
    text = f"an update takes {', '.join(ratios)} times a forward pass; the clock compute counts {NOMINAL}"
    lines = tuple(
        f"{key}: {1e6 * one.forward:,.1f} µs a sample forward, {1e6 * one.update:,.1f} µs updated"
        for key, one in found.items()
    )
    return Finding("ok", "reference", text, "", lines)
