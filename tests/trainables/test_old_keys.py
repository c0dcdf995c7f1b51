"""Files and records of earlier versions, in which all options of an arm stood side by side."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import OTHERS, methods
from hypothesis import given, settings

from trainables import old_keys
from trainables.config import MethodConfig, TrialConfig

SPELLED_OUT = {"margin": 0.1, "k": None, "q": 0.5, "power": 2.0, "buckets": 2, "ratio": None, "like": None} | {
    "beta": 1.0,
    "window": 1024,
    "prune": 0.5,
    "anneal": 0.875,
}
"""What an old record says of every arm, whether it means anything there or not."""
NEWER = ("like_compute", "prime", "strict", "start", "end", "interrupt", "stale")
"""Options of selectors that no old record has."""


def flat(method: MethodConfig) -> dict[str, Any]:
    """The method as an old record spells it out."""
    values = method.model_dump(mode="json")
    filter, selector = values.pop("filter"), values.pop("selector")
    names = {"filter": filter.pop("name"), "selector": selector.pop("name")}
    for option in NEWER:
        selector.pop(option, None)
    return values | SPELLED_OUT | filter | selector | names


def as_of_old(method: MethodConfig) -> MethodConfig:
    """The method with every newer option at its default."""
    values = method.model_dump(mode="json")
    values["selector"] = {name: value for name, value in values["selector"].items() if name not in NEWER}
    return MethodConfig(**values)


@given(methods().filter(lambda method: method.selector.name not in ("rs2", *OTHERS)).map(as_of_old))
@settings(max_examples=80)
def test_an_old_record_of_a_method_is_read_as_the_method(method: MethodConfig) -> None:
    assert MethodConfig(**flat(method)) == method
    dotted = {f"arms.mine.{key}": value for key, value in flat(method).items()}
    archetype = {"arms.archetype.granularity": "none"}
    trial = TrialConfig.from_dotted(old_keys.dotted(dotted) | archetype | {"treatment": "mine"})
    assert trial.arms["mine"] == method
    assert old_keys.dotted(dotted).items() <= trial.to_dotted().items()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("arms.filtered.filter", "arms.filtered.filter.name"),
        ("arms.filtered.selector", "arms.filtered.selector.name"),
        ("arms.a+b.margin", "arms.a+b.filter.margin"),
        ("arms.mine.k", "arms.mine.selector.k"),
        ("arms.random.like", "arms.random.selector.like"),
        ("arms.mine.granularity", "arms.mine.granularity"),
        ("arms.mine.selector.k", "arms.mine.selector.k"),
        ("optimizer.lr", "optimizer.lr"),
        ("k", "k"),
    ],
)
def test_an_old_key_has_todays_name(old: str, new: str) -> None:
    assert old_keys.key(old) == new
    assert old_keys.key(new) == new


def test_a_new_form_stays_as_it_is() -> None:
    new = {"granularity": "batch", "filter": {"name": "soft", "margin": 0.2}, "selector": {"use": "lab:Rho", "k": 3}}
    assert old_keys.method(new) == new
    dotted = {"arms.a.filter.name": "soft", "arms.a.filter.margin": 0.1, "arms.a.selector.k": None}
    assert old_keys.dotted(dotted) == dotted


def test_an_option_that_means_nothing_is_left_out_only_at_its_default() -> None:
    assert old_keys.method({"selector": "all", "beta": 1.0}) == {"selector": {"name": "all"}}
    with pytest.raises(ValueError, match="unknown key of all"):
        MethodConfig(selector="all", beta=2.0)
