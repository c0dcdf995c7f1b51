"""Valid methods, drawn over every field of the configuration."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from trainables.config import MethodConfig
from trainables.methods import Sampler
from trainables.methods.build import Problem

EPOCH, BATCH = {"granularity": "epoch"}, {"granularity": "batch", "overflow": "carry"}
SCORING: dict[str, list[Any]] = {
    "ratio": [0.4, 0.8],
    "networks": [1, 2],
    "epochs": [1, 2],
    "optimizer": ["sgd", "adamw"],
    "lr": [0.01, 0.1],
    "momentum": [0.0, 0.9],
    "weight_decay": [0.0, 0.01],
}
OTHERS: dict[str, tuple[dict[str, str], dict[str, list[Any]]]] = {
    "importance_sampling": (
        {"granularity": "batch", "batch": "unstable"},
        {"presample": [1.5, 2.0], "threshold": [0.0, 1.05], "momentum": [0.0, 0.5], "score": ["bound", "loss"]},
    ),
    "osgd": (EPOCH, {}),
    "rais": (EPOCH, {"window": [20, 50], "gain": [False, True], "decay": [0.0, 0.5]}),
    "online_batch": (EPOCH, {"pressure": [1.0, 10.0], "warmup": [0.0, 0.5]}),
    "recency_bias": (EPOCH, {"pressure": [1.0, 10.0], "warmup": [0.0, 0.5], "window": [1, 3]}),
    "active_bias": (EPOCH, {"variant": ["spv", "wpv", "stc", "wtc"], "epsilon": [0.1, "mean"], "warmup": [0.0, 0.5]}),
    "autoassist": (
        BATCH,
        {"target": ["error", "loss"], "base": [0.3, 1.0], "assistant_lr": [0.1, 0.5], "decay": [0.0, 0.9]}
        | {"assistant_weight_decay": [0.0, 0.1]},
    ),
    "mentornet": (
        EPOCH,
        {
            "curriculum": ["predefined", "self_paced"],
            "percentile": [0.5, 1.0],
            "dropout": [0.0, 0.1],
            "early_dropout": [0.0, 0.5],
        },
    ),
    "mentornet_dd": (
        EPOCH,
        {"clean_share": [0.5, 1.0], "percentile": [0.5, 1.0], "student_epochs": [1, 2], "student_lr": [0.01, 0.1]},
    ),
    "rho_loss": (BATCH, {"ratio": [0.5, 1.0], "epochs": [1, 2], "lr": [0.001, 0.01], "weight_decay": [0.0, 0.1]}),
    "ordered_sgd": (EPOCH, {"q": [2, "adaptive"]}),
    "order_dp": (EPOCH, {"subset": [0.7, 1.0], "top": [0.5, 1.0]}),
    "ies": (EPOCH, {"threshold": [0.1, 0.5], "start": [3, 4], "window": [1, 2]}),
    "seta": (EPOCH, {"groups": [3, 4], "prune": [0.0, 0.2], "window": [0.5, 0.9], "anneal": [0.5, 1.0]}),
    "static_random": (EPOCH, {"ratio": [0.4, 0.8]}),
    "el2n": (EPOCH, SCORING | {"offset": [0.0, 0.1]}),
    "forgetting": (EPOCH, SCORING),
}
"""Methods of others that have options of their own alone: where they stand, and values of their options."""

SELECTIVE_BACKPROP: dict[str, list[Any]] = {
    "prime": [0, 1],
    "strict": [False, True],
    "start": [0.0, 0.3],
    "end": [0.8, 1.0],
    "interrupt": [0, 2],
    "stale": [1, 2],
}
"""What of Selective Backprop is not in force by default, and values of it."""

COUNTED = ("top_k", "loss_weighted", "q_split", "random")


@st.composite
def methods(
    draw: st.DrawFn, largest: int = 25, plain: bool = True, peers: bool = True, others: bool = True
) -> MethodConfig:
    """A method that follows no arm, of sizes up to ``largest``.

    The archetype only if ``plain``; Selective Backprop, InfoBatch and RS2 only if ``peers``; and only if ``others``
    those of :data:`OTHERS`, with the options of Selective Backprop by which it does not always probe.
    """
    if peers and others and draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted(OTHERS)))
        arm, options = OTHERS[name]
        return MethodConfig(**arm, selector={"name": name} | _drawn(draw, options))
    granularity = draw(st.sampled_from([*(["none"] if plain else []), "epoch", "batch", "epoch+batch"]))
    if granularity == "none":
        return MethodConfig(granularity="none")
    values = {"granularity": granularity} | draw(_batching(granularity, largest))
    if peers and granularity == "batch" and draw(st.integers(0, 5)) == 0:
        beta, window = draw(st.sampled_from([0.5, 1.0, 3.0])), draw(st.integers(1, 3 * largest))
        more = _drawn(draw, SELECTIVE_BACKPROP) if others and draw(st.booleans()) else {}
        return MethodConfig(**values, selector={"name": "selective_backprop", "beta": beta, "window": window} | more)
    if peers and granularity == "epoch" and values["batch"] == "stable" and draw(st.integers(0, 3)) == 0:
        prune, anneal = draw(st.sampled_from([0.25, 0.5, 0.9])), draw(st.sampled_from([0.5, 0.875, 1.0]))
        return MethodConfig(**values, selector={"name": "infobatch", "prune": prune, "anneal": anneal})
    if peers and granularity == "epoch" and draw(st.integers(0, 5)) == 0:
        ratio, replacement = draw(st.sampled_from([0.1, 0.4, 1.0])), draw(st.booleans())
        return MethodConfig(**values, selector={"name": "rs2", "ratio": ratio, "replacement": replacement})
    if draw(st.integers(0, 5)) == 0:
        ratio = draw(st.just(1.0) | st.floats(0.01, 1))
        return MethodConfig(**values, filter="none", selector={"name": "random", "ratio": ratio})
    filter = {"name": draw(st.sampled_from(["none", "hard", "soft"]))}
    if filter["name"] == "soft":
        filter["margin"] = draw(st.sampled_from([0.05, 0.1, 0.33, 0.9]))
    selectors = ["all", "top_q", *COUNTED] if filter["name"] != "none" else ["top_q", *COUNTED]
    selector = {"name": draw(st.sampled_from(selectors))}
    if selector["name"] == "top_q":
        selector["q"] = draw(st.sampled_from([0.0, 0.25, 0.5, 0.9]))
    elif selector["name"] == "q_split":
        selector["buckets"] = draw(st.integers(2, 5))
        selector["k"] = selector["buckets"] * draw(st.integers(1, max(1, largest // 5)))
        selector["power"] = draw(st.sampled_from([0.5, 1.0, 2.0, 3.0]))
    elif selector["name"] in COUNTED:
        selector["k"] = draw(st.integers(1, largest))
    if filter["name"] != "none" or selector["name"] != "random":  # it probes
        values["probe_mode"] = draw(st.sampled_from(["eval", "train"]))
        values["probe_view"] = draw(st.sampled_from(["trained", "fresh", "clean"]))
        if "k" in selector or granularity == "epoch":
            values["fallback"] = draw(st.sampled_from(["none", "random"]))
    return MethodConfig(**values, filter=filter, selector=selector)


def _drawn(draw: st.DrawFn, options: dict[str, list[Any]]) -> dict[str, Any]:
    """One of the values of every option."""
    return {option: draw(st.sampled_from(values)) for option, values in options.items()}


@st.composite
def _batching(draw: st.DrawFn, granularity: str, largest: int) -> dict[str, Any]:
    raw = st.none() | st.integers(1, largest)
    if granularity == "epoch":
        return {"batch": draw(st.sampled_from(["stable", "unstable"])), "raw_batch_size": draw(raw)}
    if draw(st.integers(0, 3)) == 0:
        return {"batch": "unstable", "raw_batch_size": draw(raw)}
    size = draw(raw | st.just("adaptive"))
    limit = {"raw_batch_limit": draw(st.integers(1, 4 * largest))} if size == "adaptive" else {}
    return {"raw_batch_size": size, "overflow": draw(st.sampled_from(["discard", "carry"]))} | limit


def follower(method: MethodConfig, name: str) -> MethodConfig:
    """The method that selects as many random samples as ``method``, which the arm ``name`` has."""
    shared = ("granularity", "batch", "raw_batch_size", "raw_batch_limit", "overflow")
    return MethodConfig(
        selector={"name": "random", "like": name}, **{field: getattr(method, field) for field in shared}
    )


def blank(size: int, batch_size: int, epochs: int) -> Problem:
    """A problem of black images, half of each of two classes, and a linear network."""
    images = torch.zeros(size, 1, 4, 4)

    def network(stream: str) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))

    labels = torch.arange(size) % 2
    return Problem(
        labels,
        2,
        batch_size,
        epochs,
        images=lambda index: images[index],
        network=network,
        samples=lambda views: (images[views.index], labels[views.index]),
        gradient_norms=lambda views: 1 + (views.index % 5).float(),
    )


def train_epoch(epoch: int, sampler: Sampler, probe: Any, update: Any) -> None:
    """One pass over the raw data."""
    sampler.start_epoch(epoch)
    for views in sampler.batches(probe):
        update(views)
