"""Valid methods, drawn over every field of the configuration."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from trainables.config import MethodConfig

COUNTED = ("top_k", "loss_weighted", "q_split", "random")


@st.composite
def methods(draw: st.DrawFn, largest: int = 25, plain: bool = True, peers: bool = True) -> MethodConfig:
    """A method that follows no arm, of sizes up to ``largest``; the archetype and others' methods only if asked for."""
    granularity = draw(st.sampled_from([*(["none"] if plain else []), "epoch", "batch", "epoch+batch"]))
    if granularity == "none":
        return MethodConfig(granularity="none")
    values = {"granularity": granularity} | draw(_batching(granularity, largest))
    if peers and granularity == "batch" and draw(st.integers(0, 5)) == 0:
        beta, window = draw(st.sampled_from([0.5, 1.0, 3.0])), draw(st.integers(1, 3 * largest))
        return MethodConfig(**values, selector="selective_backprop", beta=beta, window=window)
    if peers and granularity == "epoch" and values["batch"] == "stable" and draw(st.integers(0, 3)) == 0:
        prune, anneal = draw(st.sampled_from([0.25, 0.5, 0.9])), draw(st.sampled_from([0.5, 0.875, 1.0]))
        return MethodConfig(**values, selector="infobatch", prune=prune, anneal=anneal)
    if draw(st.integers(0, 5)) == 0:
        ratio = draw(st.just(1.0) | st.floats(0.01, 1))
        return MethodConfig(**values, filter="none", selector="random", ratio=ratio)
    values["filter"] = draw(st.sampled_from(["none", "hard", "soft"]))
    if values["filter"] == "soft":
        values["margin"] = draw(st.sampled_from([0.05, 0.1, 0.33, 0.9]))
    selectors = ["all", "top_q", *COUNTED] if values["filter"] != "none" else ["top_q", *COUNTED]
    values["selector"] = draw(st.sampled_from(selectors))
    if values["selector"] == "top_q":
        values["q"] = draw(st.sampled_from([0.0, 0.25, 0.5, 0.9]))
    elif values["selector"] == "q_split":
        values["buckets"] = draw(st.integers(2, 5))
        values["k"] = values["buckets"] * draw(st.integers(1, max(1, largest // 5)))
        values["power"] = draw(st.sampled_from([0.5, 1.0, 2.0, 3.0]))
    elif values["selector"] in COUNTED:
        values["k"] = draw(st.integers(1, largest))
    if values["filter"] != "none" or values["selector"] != "random":  # it probes
        values["probe_mode"] = draw(st.sampled_from(["eval", "train"]))
        values["probe_view"] = draw(st.sampled_from(["trained", "fresh", "clean"]))
        if "k" in values or granularity == "epoch":
            values["fallback"] = draw(st.sampled_from(["none", "random"]))
    return MethodConfig(**values)


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
    return MethodConfig(selector="random", like=name, **{field: getattr(method, field) for field in shared})
