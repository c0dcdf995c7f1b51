"""What earlier versions wrote. Their keys, in which all options of an arm stood side by side, such as ``arms.mine.k``.

Today an option stands with what it belongs to: ``arms.mine.selector.k``, ``arms.mine.filter.name``. Studies and files
with the old keys are read as if they had the new ones. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS: Mapping[str, tuple[str, tuple[str, ...], Any]] = {
    "margin": ("filter", ("soft",), 0.1),
    "k": ("selector", ("top_k", "loss_weighted", "q_split", "random"), None),
    "q": ("selector", ("top_q",), 0.5),
    "power": ("selector", ("q_split",), 2.0),
    "buckets": ("selector", ("q_split",), 2),
    "ratio": ("selector", ("random",), None),
    "like": ("selector", ("random",), None),
    "beta": ("selector", ("selective_backprop",), 1.0),
    "window": ("selector", ("selective_backprop",), 1024),
    "prune": ("selector", ("infobatch",), 0.5),
    "anneal": ("selector", ("infobatch",), 0.875),
}
"""For each option: where it stands today, the names that it belongs to, and the default that old records spell out."""
SECTIONS = ("filter", "selector")


def key(dotted: str) -> str:
    """Today's name of a dotted key."""
    parts = dotted.split(".")
    if len(parts) != 3 or parts[0] != "arms":
        return dotted
    arms, arm, option = parts
    if option in SECTIONS:
        return f"{arms}.{arm}.{option}.name"
    return f"{arms}.{arm}.{OPTIONS[option][0]}.{option}" if option in OPTIONS else dotted


def method(values: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's options with ``filter`` and ``selector`` as sections; new keys stay as they are.

    An option at its old default that does not belong to the filter or selector is left out: old records spell out
    every default.
    """
    nested = {name: value for name, value in values.items() if name not in OPTIONS}
    for section in SECTIONS:
        if isinstance(nested.get(section), str):
            nested[section] = {"name": nested[section]}
    for option, (section, names, default) in OPTIONS.items():
        if option not in values:
            continue
        holder = nested.get(section, {})
        if not isinstance(holder, Mapping):
            continue
        if holder.get("name") in names or values[option] != default:
            nested[section] = {**holder, option: values[option]}
    return nested


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's dotted keys under today's names, without the old defaults that belong to nothing."""
    renamed = {}
    for name, value in values.items():
        option = name.rpartition(".")[2]
        new = key(name)
        if new != name and option in OPTIONS:
            section, names, default = OPTIONS[option]
            owner = values.get(name.removesuffix(option) + section)
            if str(value) == str(default) and isinstance(owner, str) and owner not in names:
                continue
        renamed[new] = value
    return renamed


def sampler(state: Mapping[str, Any], fresh: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """A sampler's state as today's, of a comparison that stands after ``epoch``; today's stays as it is.

    ``fresh`` is what the method remembers at its start.
    """
    if "memory" in state:
        return dict(state)
    remembered = {name: value for peer in state["selection"] for name, value in peer.items()}
    added = {"size": len(state["pending"]["index"]), "prepared": True, "withheld": 0, "spent": 0.0}
    passes = {"epoch": epoch, "pass": None, "finished": epoch, "kept_in": {str(epoch): state["kept_by_unit"]}}
    return {**state, **added, **passes, "memory": {**fresh, **remembered}}
