from typing import Any

import pytest

from trainables.config import TrialConfig
from trainables.fields import held, kinds, read


@pytest.mark.parametrize(
    ("key", "value", "as_held"),
    [
        ("batch_size", "64", 64),
        ("batch_size", 64.0, 64),
        ("dataset.classes", 10.0, 10),
        ("dataset.classes", None, None),
        ("optimizer.lr", 1, 1.0),
        ("optimizer.nesterov", "off", False),
        ("optimizer.amsgrad", 1, True),
        ("schedule.gamma", "0.5", 0.5),
        ("optimizer.name", "Adam", "Adam"),
        ("evaluate.train", "2", 2),
        ("evaluate.train", "running", "running"),
        ("arms.mine.raw_batch_size", "adaptive", "adaptive"),
    ],
)
def test_a_value_is_read_as_a_configuration_holds_it(key: str, value: Any, as_held: Any) -> None:
    for found in (read(key, value), held(key, value)):
        assert (found, type(found)) == (as_held, type(as_held))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 64.5, "batch_size: 64.5: should be a valid integer"),
        ("batch_size", True, "batch_size: True: should be a number"),
        ("optimizer.lr", 0, "optimizer.lr: 0: should be greater than 0"),
        ("optimizer.name", "Adamm", "optimizer.name: 'Adamm': should be 'SGD' or 'Adam' or 'AdamW'"),
        ("arms.mine.raw_batch_size", "some", "should be a valid integer.* or 'adaptive'"),
    ],
)
def test_a_value_that_a_key_does_not_take_is_refused_or_left_to_the_configuration(
    key: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(key, value)
    assert held(key, value) is value


@pytest.mark.parametrize("key", ["", "nobody", "optimizer", "arms", "arms.mine", "arms.mine.preset", "optimizer.lr.x"])
def test_what_is_no_key_of_one_value_takes_anything(key: str) -> None:
    assert kinds(key) == frozenset()
    assert read(key, "as it is") == "as it is"


def test_a_configuration_is_held_as_its_values_are_read() -> None:
    """Every key of the default configuration, and so every value that a record holds, is its own reading."""
    dotted = TrialConfig().to_dotted()
    assert all(kinds(key) for key in dotted)
    assert {key: repr(read(key, value)) for key, value in dotted.items()} == {k: repr(v) for k, v in dotted.items()}


@pytest.mark.parametrize(
    ("dotted", "keys"),
    [
        ({"batch_size": True, "seed": False}, ["batch_size", "seed"]),
        ({"optimizer.lr": True, "arms.soft.filter.margin": True}, ["optimizer.SGD.lr", "arms.soft.filter.margin"]),
        ({"arms.filtered.raw_batch_size": True}, ["arms.filtered.raw_batch_size"]),
    ],
)
def test_true_is_no_number(dotted: dict[str, Any], keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"'true'|'false'") as raised:
        TrialConfig.from_dotted(dotted)
    assert all(f"\n{key}" in str(raised.value) for key in keys)
