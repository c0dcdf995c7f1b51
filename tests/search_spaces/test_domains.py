import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces.domains import (
    FEW,
    MANY,
    Parameter,
    SpaceError,
    candidates,
    combined,
    complete,
    corners,
    domain,
    grid,
    merge,
    ordered,
    sample,
    space,
)

CONDITIONAL = space(
    optimizer__momentum={"uniform": [0.1, 0.9], "when": {"optimizer.name": "SGD"}},
    optimizer__name={"choice": ["SGD", "Adam"]},
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "it has none"),
        ({"choice": [1], "uniform": [0, 1]}, "it has choice, uniform"),
        ({"uniform": [1, 1]}, "lower and a higher bound"),
        ({"integer": [5, 2]}, "lower and a higher bound"),
        ({"loguniform": [0, 1]}, "above 0"),
        ({"choice": [1, 2, 1]}, "choice names a value twice: 1"),
        ({"choice": [1, 1.0]}, "twice"),
        ({"choice": [True, 1]}, "twice"),
        ({"uniform": [0, math.inf]}, "must be two finite numbers"),
        ({"loguniform": [math.nan, 1]}, "must be two finite numbers"),
        ({"uniform": [False, 1]}, "must be two finite numbers"),
        ({"integer": [1, True]}, "must be two finite numbers"),
        ({"integer": [1.5, 8]}, "must be two whole numbers"),
        ({"integer": ["1", "8"]}, "must be two finite numbers"),
        ({"uniform": [0, 1, 2]}, "must be a list of two numbers"),
        ({"uniform": 1}, "must be a list of two numbers"),
        ({"choice": []}, "at least 1"),
        ({"choice": [1, [2]]}, "a list of numbers, words"),
        ({"choice": "SGD"}, "a list of numbers, words"),
        ({"chioce": [1]}, "Extra inputs"),
    ],
)
def test_a_parameter_that_is_no_domain_is_refused_with_the_reason(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Parameter.model_validate(values)


@given(
    st.sampled_from(["uniform", "loguniform", "integer"]),
    st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).filter(lambda b: b[0] < b[1]),
    st.integers(0, 2**32),
)
def test_draws_stay_within_the_bounds(kind: str, bounds: tuple[int, int], seed: int) -> None:
    value = Parameter.model_validate({kind: bounds}).draw(Random(seed))
    assert bounds[0] <= value <= bounds[1]  # type: ignore[operator]
    assert isinstance(value, int if kind == "integer" else float)


def test_log_uniform_draws_are_even_in_the_logarithm() -> None:
    parameter = Parameter(loguniform=(1e-4, 1.0))
    rng = Random(0)
    below = sum(parameter.draw(rng) < 1e-2 for _ in range(4000))  # type: ignore[operator]
    assert abs(below / 4000 - 0.5) < 0.03


@pytest.mark.parametrize(
    ("key", "stated", "read"),
    [
        ("batch_size", {"choice": ["64", 128.0]}, Parameter(choice=(64, 128))),
        ("batch_size", {"integer": [8.0, "64"]}, Parameter(integer=(8, 64))),
        ("optimizer.lr", {"choice": [1, "0.1"]}, Parameter(choice=(1.0, 0.1))),
        ("optimizer.lr", {"integer": [1, 3]}, Parameter(integer=(1.0, 3.0))),
        ("optimizer.nesterov", {"choice": ["yes", 0]}, Parameter(choice=(True, False))),
        ("arms.mine.raw_batch_size", {"choice": ["adaptive", "64", None]}, Parameter(choice=("adaptive", 64, None))),
        (
            "seed",
            {"choice": [0], "when": {"dataset.classes": 10.0}},
            Parameter(choice=(0,), when={"dataset.classes": (10,)}),
        ),
        ("batch_size", {"choice": ["many", 0]}, Parameter(choice=("many", 0))),  # the configuration says why it is none
    ],
)
def test_a_domain_has_the_values_that_a_configuration_holds(key: str, stated: Any, read: Parameter) -> None:
    found = domain(key, stated)
    assert (found, repr(found)) == (read, repr(read))  # 1 == 1.0 == True, but not their texts


@pytest.mark.parametrize(
    ("key", "stated", "message"),
    [
        ("batch_size", {"choice": [64, "64"]}, "choice names a value twice: 64"),
        ("optimizer.lr", {"choice": ["0.1", 0.1]}, "choice names a value twice: 0.1"),
        ("optimizer.nesterov", {"choice": ["true", 1]}, "choice names a value twice: true"),
        ("batch_size", {"uniform": [16, 64]}, r"takes whole numbers; use integer: \[16, 64\], or choice"),
        ("arms.mine.raw_batch_size", {"loguniform": [16.5, 64.5]}, r"use integer: \[17, 64\], or choice"),
        ("model.name", {"integer": [0, 1]}, "integer draws numbers, which model.name does not take; use choice"),
        ("optimizer.nesterov", {"integer": [0, 1]}, "draws numbers, which optimizer.nesterov does not take"),
        ("seed", {"choice": [0], "when": {"optimizer.name": "Adamm"}}, "optimizer.name: 'Adamm': should be 'SGD' or"),
        ("seed", {"choice": [0], "when": {"dataset.classes": [2, True]}}, "dataset.classes: True: should be a number"),
    ],
)
def test_a_domain_that_its_key_does_not_take_is_refused(key: str, stated: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        domain(key, stated)


def test_whole_numbers_of_a_key_that_takes_fractions_are_floats_everywhere() -> None:
    factor, rng = domain("arms.mine.selector.power", {"integer": [1, 3]}), Random(0)
    values = [
        factor.draw(rng),
        factor.near(2.0, rng),
        *(p["arms.mine.selector.power"] for p in grid({"arms.mine.selector.power": factor}, {})),
    ]
    assert [type(value) for value in values] == [float] * 5
    assert [factor.contains(value) for value in (2.0, 2, 2.5, 4.0)] == [True, False, False, False]


def test_merging_spaces_refuses_a_key_that_stands_twice() -> None:
    assert merge(CONDITIONAL, space(batch_size={"choice": [1]})).keys() == CONDITIONAL.keys() | {"batch_size"}
    with pytest.raises(SpaceError, match=r"searched twice: optimizer\.name"):
        merge(CONDITIONAL, space(optimizer__name={"choice": ["AdamW"]}))


def test_a_key_comes_after_the_keys_that_its_condition_looks_at() -> None:
    assert ordered(CONDITIONAL, {}) == ["optimizer.name", "optimizer.momentum"]


def test_conditions_on_unknown_keys_and_in_circles_are_refused() -> None:
    with pytest.raises(SpaceError, match="b is conditional on c, which is neither searched nor set"):
        ordered(space(b={"choice": [1], "when": {"c": 1}}), {})
    circle = space(a={"choice": [1], "when": {"b": 1}}, b={"choice": [1], "when": {"a": 1}})
    with pytest.raises(SpaceError, match="circle: a, b"):
        ordered(circle, {})


@given(st.integers(0, 10**6))
def test_a_conditional_key_is_drawn_only_where_its_condition_holds(seed: int) -> None:
    values = sample(CONDITIONAL, {"batch_size": 8}, Random(seed))
    assert values["batch_size"] == 8
    assert ("optimizer.momentum" in values) == (values["optimizer.name"] == "SGD")


def test_a_condition_can_look_at_a_key_that_is_fixed() -> None:
    only_sgd = {"optimizer.momentum": CONDITIONAL["optimizer.momentum"]}
    assert "optimizer.momentum" in sample(only_sgd, {"optimizer.name": "SGD"}, Random(0))
    assert "optimizer.momentum" not in sample(only_sgd, {"optimizer.name": "Adam"}, Random(0))


def test_a_searched_key_takes_the_place_of_a_fixed_one_even_where_it_does_not_exist() -> None:
    fixed = {"optimizer.momentum": 0.5}
    drawn = [sample(CONDITIONAL, fixed, Random(seed)) for seed in range(20)]
    assert all("optimizer.momentum" not in values for values in drawn if values["optimizer.name"] == "Adam")
    assert {values["optimizer.name"] for values in drawn} == {"SGD", "Adam"}


def test_a_grid_unfolds_conditional_keys_only_where_they_exist() -> None:
    choices = space(
        optimizer__momentum={"choice": [0.0, 0.9], "when": {"optimizer.name": "SGD"}},
        optimizer__name={"choice": ["SGD", "Adam"]},
        epochs={"integer": [1, 2]},
    )
    points = grid(choices, {"seed": 3})
    assert len(points) == 2 * (2 + 1)
    assert all(point["seed"] == 3 for point in points)
    assert {"optimizer.name": "Adam", "epochs": 2, "seed": 3} in points
    assert len({tuple(sorted(point.items(), key=str)) for point in points}) == len(points)


def test_a_grid_of_an_endless_domain_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"give optimizer\.momentum as choice"):
        grid(CONDITIONAL, {})


def test_corners_take_every_extreme_value() -> None:
    found = list(corners(CONDITIONAL, {}, Random(0)))
    assert {values["optimizer.name"] for values in found} == {"SGD", "Adam"}
    assert {0.1, 0.9} <= {values.get("optimizer.momentum") for values in found}
    assert all(("optimizer.momentum" in values) == (values["optimizer.name"] == "SGD") for values in found)


def test_corners_leave_out_what_a_fixed_key_rules_out() -> None:
    only_sgd = {"optimizer.momentum": CONDITIONAL["optimizer.momentum"]}
    assert list(corners(only_sgd, {"optimizer.name": "Adam"}, Random(0))) == []


def test_what_goes_wrong_between_keys_shows_in_their_combined_extremes() -> None:
    searched = space(
        batch_size={"choice": [32, 1024, 64]},
        dataset__samples_per_class={"integer": [20, 320]},
        dataset__classes={"choice": [2, 5], "when": {"model.name": ["a", "b"]}},
        model__name={"choice": ["a", "b", "c"]},
        optimizer__lr={"loguniform": [0.1, 1]},
    )
    keys = {"batch_size", "dataset.samples_per_class", "dataset.classes"}
    found = combined(searched, {"epochs": 3}, keys, Random(0))
    assert {(c["batch_size"], c["dataset.samples_per_class"]) for c in found} == {
        (32, 20),
        (32, 320),
        (1024, 20),
        (1024, 320),
    }
    assert {(c["model.name"], c.get("dataset.classes")) for c in found} == {
        ("a", 2),
        ("a", 5),
        ("b", 2),
        ("b", 5),
        ("c", None),
    }
    assert len({c["optimizer.lr"] for c in found}) == 1
    assert len(found) == 4 * 5


def test_candidates_are_every_combination_where_these_are_few() -> None:
    few = space(
        optimizer__momentum={"uniform": [0.1, 0.9], "when": {"optimizer.name": "SGD"}},
        optimizer__name={"choice": ["SGD", "Adam"]},
        epochs={"integer": [1, FEW]},
    )
    found = candidates(few, {"seed": 3}, Random(0))
    momenta = {values.get("optimizer.momentum") for values in found}
    assert {0.1, 0.9, None} < momenta
    assert all(("optimizer.momentum" in values) == (values["optimizer.name"] == "SGD") for values in found)
    combinations = {(values["epochs"], values.get("optimizer.momentum")) for values in found}
    assert len(found) == len(combinations) == FEW * len(momenta)
    assert all(values["seed"] == 3 for values in found)


def test_candidates_are_a_sample_where_there_are_many_with_the_bounds_in_it() -> None:
    many = space(**{name: {"integer": [0, 10**6]} for name in "abcdef"})
    found = candidates(many, {}, Random(0))
    assert len(found) == MANY
    assert all({0, 10**6} < {values[key] for values in found} for key in many)
    assert found == candidates(many, {}, Random(0))


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        ({"uniform": [0, 1]}, [0, 0.5, 1, 1.0], [-1e-9, 1.1, math.nan, math.inf, "0.5", None, True]),
        ({"loguniform": [1e-3, 1]}, [1e-3, 1], [0, 1e-4, False]),
        ({"integer": [2, 5]}, [2, 5], [1, 6, 3.0, 2.5, "3", True, None]),
        ({"choice": [1, "a", None]}, [1, "a", None], [True, 1.0, "1", "b", 0]),
        ({"choice": [True, 0.5]}, [True, 0.5], [1, 1.0, False]),
    ],
)
def test_a_domain_has_its_values_and_no_others(domain: dict[str, Any], inside: list[Any], outside: list[Any]) -> None:
    parameter = Parameter.model_validate(domain)
    assert [value for value in inside if not parameter.contains(value)] == []
    assert [value for value in outside if parameter.contains(value)] == []


@given(st.integers(0, 10**6))
def test_a_domain_has_what_is_drawn_from_it(seed: int) -> None:
    values = sample(merge(CONDITIONAL, space(epochs={"integer": [1, 9]})), {}, Random(seed))
    assert all(CONDITIONAL[key].contains(values[key]) for key in values.keys() & CONDITIONAL.keys())


@given(st.integers(0, 1000))
def test_what_is_near_is_a_fifth_away_within_the_bounds_or_next_in_a_choice(seed: int) -> None:
    rng = Random(seed)
    rate = Parameter(loguniform=(1e-4, 0.3))
    assert rate.near(0.1, rng) in (0.1 * 0.8, 0.1 * 1.2)
    assert rate.near(0.29, rng) in (0.29 * 0.8, 0.3)
    assert Parameter(integer=(1, 9)).near(5, rng) in (4, 6)
    choice = Parameter(choice=("a", "b", "c"))
    assert [choice.near(value, rng) in near for value, near in (("a", "b"), ("b", "ac"), ("c", "b"))] == [True] * 3
    assert choice.near("d", rng) in ("a", "b", "c")
    assert Parameter(choice=("a",)).near("a", rng) == "a"


def test_what_a_point_leaves_open_is_as_it_is_set() -> None:
    settings = {"optimizer.name": "SGD", "optimizer.momentum": 0.7, "seed": 3}
    assert complete(CONDITIONAL, settings, {"seed": 4}) == settings | {"seed": 4}
    assert complete(CONDITIONAL, {"seed": 3}, {"optimizer.name": "SGD"}) == {"seed": 3, "optimizer.name": "SGD"}


def test_a_point_drops_what_its_condition_rules_out_unless_it_says_so_itself() -> None:
    settings = {"optimizer.name": "SGD", "optimizer.momentum": 0.7}
    assert complete(CONDITIONAL, settings, {"optimizer.name": "Adam"}) == {"optimizer.name": "Adam"}
    point = {"optimizer.name": "Adam", "optimizer.momentum": 0.2}  # a mistake, which the configuration will refuse
    assert complete(CONDITIONAL, settings, point) == point


def test_a_point_of_a_space_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(SpaceError, match="b is conditional on c, which is neither searched nor set"):
        complete(space(b={"choice": [1], "when": {"c": 1}}), {}, {})
