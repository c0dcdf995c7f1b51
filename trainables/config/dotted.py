"""Nested sections and dotted keys, one for the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optimizer": {"lr": 0.1}}`` -> ``{"optimizer.lr": 0.1}``; lists and empty mappings are leaves.

    Raises:
        ValueError: a key stands twice, nested and dotted.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
        if twice := flat.keys() & inner.keys():
            raise ValueError(f"set twice, as a section's key and by its dotted name: {', '.join(sorted(twice))}")
        flat |= inner
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimizer.lr": 0.1}`` -> ``{"optimizer": {"lr": 0.1}}``; the inverse of :func:`flatten`.

    Raises:
        ValueError: a key is both a value and a section, such as ``optimizer`` beside ``optimizer.lr``.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{key!r} is set, but {part!r} is a value and not a section")
        if isinstance(node.get(leaf), dict):
            raise ValueError(f"{key!r} is a section and cannot be set to {value!r}")
        node[leaf] = value
    return tree
