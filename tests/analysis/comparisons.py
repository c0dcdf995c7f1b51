"""Frames of pairs made up from a few accuracies, as ``analysis.pairs.pair`` makes them of a study."""

import numpy as np
import pandas as pd

from analysis.outcomes import LEARNED
from analysis.pairs import MEASURED
from trainables.records import BY_NAME, METRICS

CONFIG = {"dataset.name": "mnist5k", "model.name": "FCNet100", "optimizer.lr": 0.1, "batch_size": 64}
ARMS = {"baseline": "archetype", "treatment": "filtered"}


def frame_of(*accuracies, configs=()):
    """The pairs of comparisons that end, after one epoch, at these (baseline, treatment) test accuracies.

    Validation accuracy is the same, training accuracy 0.02 more, every loss 1 minus the accuracy; nothing else is
    measured. ``configs`` are the settings, one mapping each, that differ from CONFIG; the last ones may be left out.
    """
    n = len(accuracies)
    whole = [
        {**CONFIG, "seed": number, **ARMS, **config}
        for number, config in enumerate([*configs, *[{}] * (n - len(configs))])
    ]
    settings = pd.DataFrame(whole, columns=None if n else [*CONFIG, "seed", *ARMS])
    settings = settings.convert_dtypes()
    settings = settings.astype({key: "float64" for key, dtype in settings.dtypes.items() if dtype == "Float64"})
    columns = {"trial_id": [f"trial{number}" for number in range(n)], "number": np.arange(n), "configuration": None}
    measured = {}
    for place, side in enumerate(ARMS):
        ends = np.array([pair[place] for pair in accuracies], dtype="float64")
        for name in MEASURED:
            measured[f"{side}/{name}"] = value(name, ends)
    for name in METRICS:
        measured[f"gap/{name}"] = BY_NAME[name].direction * (
            measured[f"treatment/{name}"] - measured[f"baseline/{name}"]
        )
    learned = {"outcome": "measured", "baseline_learned": measured["baseline/test_accuracy"] >= LEARNED / 10}
    return pd.concat([pd.DataFrame(columns), settings, pd.DataFrame(learned | measured)], axis="columns")


def value(name, accuracy):
    if name == "epoch":
        return np.ones_like(accuracy)
    if name.endswith("_accuracy"):
        return accuracy + 0.02 * name.startswith("train")
    return 1 - accuracy if name.endswith("_loss") else np.full_like(accuracy, np.nan)


def rates(*values):
    return [{"optimizer.lr": value} for value in values]
