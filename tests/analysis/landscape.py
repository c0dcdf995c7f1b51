"""A study made up whole, for the page: losses and wins over a few settings, with all that a sampler records."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.load import Study
from trainables.records import COLUMNS, STEP_COLUMNS

ARMS = ("archetype", "filtered", "random")
DTYPES = {"int": "Int64", "float": "float64", "str": "string"}
BATCH = 32
SAMPLES = 640


def made_up(configurations=24, seeds=2, epochs=10, arms=ARMS, value="FCNet100", traced=True, path=Path("made-up")):
    """A study of ``configurations`` settings with ``seeds`` comparisons each, every trial finished."""
    rng = np.random.default_rng(0)
    trials = _trials(configurations, seeds, epochs, value, rng)
    rows = pd.concat([_epochs(trials, epochs, arm, rng) for arm in arms], ignore_index=True)
    rows = rows.sort_values(["trial_id", "epoch", "arm"], ignore_index=True)
    steps = _steps(trials, epochs, arms, rng) if traced else pd.DataFrame(columns=[c.name for c in STEP_COLUMNS])
    manifest = {"name": "made up", "git": {"revision": "abc123", "dirty": False}, "command": "run <quick>"}
    return Study("made up", trials, rows, manifest, "name: <b>made up</b>\n", path, steps)


def _trials(configurations, seeds, epochs, value, rng):
    place = np.repeat(np.arange(configurations), seeds)
    n = len(place)
    rates = 10 ** rng.uniform(-2.5, -0.3, configurations)
    momentum = np.where(rng.random(configurations) < 0.7, rng.choice([0.0, 0.5, 0.9], configurations), np.nan)
    frame = pd.DataFrame(
        {
            "trial_id": [f"trial{number}" for number in range(n)],
            "number": np.arange(n),
            "configuration": [f"{number:08x}" for number in place],
            "status": "finished",
            "error": None,
            "started": 100.0 * np.arange(n),
            "ended": 100.0 * np.arange(n) + 60,
            "objective": np.nan,
            "dataset.name": "mnist5k",
            "dataset.samples_per_class": rng.choice([20, 80, 320], configurations)[place],
            "dataset.label_noise": rng.choice([0.0, 0.2], configurations)[place],
            "model.name": rng.choice([value, "LeNet"], configurations)[place],
            "optimizer.name": np.where(np.isnan(momentum), "Adam", "SGD")[place],
            "optimizer.lr": rates[place],
            "optimizer.momentum": momentum[place],
            "batch_size": BATCH,
            "epochs": epochs,
            "seed": np.tile(np.arange(seeds), configurations),
            "arms.random.selector": "random",
            "baseline": "archetype",
            "treatment": "filtered",
        }
    )
    text = ["trial_id", "configuration", "status", "error", *frame.columns[frame.dtypes == "object"]]
    whole = ["number", "dataset.samples_per_class", "batch_size", "epochs", "seed"]
    return frame.astype(dict.fromkeys(text, "string") | dict.fromkeys(whole, "Int64"))


def _epochs(trials, epochs, arm, rng):
    """Curves that rise to a height of the settings; filtered gains where there is no noise and rates are low."""
    n = len(trials)
    epoch = np.tile(np.arange(epochs + 1), n)
    rate = np.log10(trials["optimizer.lr"].to_numpy())
    noise = trials["dataset.label_noise"].to_numpy()
    height = 0.93 - 0.12 * (rate + 1.4) ** 2 - 0.3 * noise + 0.01 * rng.standard_normal(n)
    pace = np.full(n, 1.6)
    if arm == "filtered":
        height = height + 0.015 * (noise == 0) - 0.08 * noise - 0.04 * (rate + 0.9) + 0.01 * rng.standard_normal(n)
        pace = pace * 1.3
    if arm not in ("filtered", "archetype"):
        height = height - 0.01
    height = np.repeat(np.clip(height, 0.1, 0.99), epochs + 1)
    accuracy = 0.1 + (height - 0.1) * (1 - np.exp(-epoch / np.repeat(pace, epochs + 1)))
    kept = np.where(arm == "archetype", SAMPLES, np.round(SAMPLES * (1.02 - accuracy))).astype(int) * (epoch > 0)
    probed = SAMPLES * (epoch > 0) * (arm != "archetype")
    steps = kept // BATCH
    made = {"trial_id": np.repeat(trials["trial_id"].to_numpy(), epochs + 1), "arm": arm, "epoch": epoch}
    made |= {"steps": steps, "samples_probed": probed, "samples_kept": kept, "samples_trained": steps * BATCH}
    made |= {"samples_rejected": probed - kept * (arm != "archetype"), "samples_overflowed": kept % BATCH}
    made |= {"raw_batches": probed // BATCH, "compute": probed + 3.0 * steps * BATCH, "evaluate_seconds": 0.1}
    made |= {"probe_seconds": probed / 6400, "train_seconds": steps * BATCH / 2000}
    made["seconds"] = made["probe_seconds"] + made["train_seconds"]
    frame = pd.DataFrame(made)
    for name in list(made)[3:]:
        frame[f"cumulative_{name}"] = frame.groupby("trial_id", sort=False)[name].cumsum()
    for split, easier in (("train", 1.04), ("validation", 1.0), ("test", 1.0)):
        right = np.clip(accuracy * easier + 0.004 * rng.standard_normal(len(frame)), 0, 1)
        frame[f"{split}_accuracy"] = right
        worst = (
            4
            + 6 * right
            + rng.standard_normal(len(frame)) / 4
            - 3 * (arm == "filtered")
            - 2 * (split == "train") * (arm != "filtered")
        )
        for name, factor in (("best", 0.0), ("q50", 0.5), ("mean", 1), ("q90", 2), ("q99", 3)):
            frame[f"{split}_{name}_loss"] = factor * (1.1 - right) * (1 if split == "train" else 1.2)
        frame[f"{split}_worst_loss"] = worst
    if arm != "archetype":
        frame["acceptance"] = np.where(epoch > 0, kept / SAMPLES, np.nan)
        frame["raw_batches_per_step"] = np.where(steps > 0, frame["raw_batches"] / np.maximum(steps, 1), np.nan)
    columns = {c.name: frame.get(c.name, np.nan) for c in COLUMNS}
    return pd.DataFrame(columns).astype({c.name: DTYPES[c.type] for c in COLUMNS})


def _steps(trials, epochs, arms, rng):
    rows = []
    for arm in arms:
        frame = pd.DataFrame(
            {"epoch": np.repeat(np.arange(1, epochs + 1), 8), "step": np.tile(np.arange(1, 9), epochs)}
        )
        frame = frame.assign(trial_id=str(trials["trial_id"].iloc[0]), arm=arm, samples_trained=BATCH)
        frame["raw_batches"] = (1 + frame["epoch"] // 2 * (arm == "filtered")) * (arm != "archetype")
        frame["samples_probed"] = BATCH * frame["raw_batches"]
        frame["samples_kept"] = BATCH + rng.integers(0, 8, len(frame))
        frame["samples_overflowed"] = frame["samples_kept"] - BATCH
        rows.append(frame)
    table = pd.concat(rows, ignore_index=True)[[c.name for c in STEP_COLUMNS]]
    return table.astype({c.name: DTYPES[c.type] for c in STEP_COLUMNS})
