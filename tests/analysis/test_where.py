import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.database import TableError
from analysis.where import LONGEST, matching

TRIALS = pd.DataFrame(
    {
        "optimizer.name": pd.array(["SGD", "Adam", None], dtype="string"),
        "optimizer.lr": [0.1, 0.01, np.nan],
        "batch_size": pd.array([16, None, 64], dtype="Int64"),
        "optimizer.nesterov": pd.array([True, None, False], dtype="boolean"),
        "schedule.name": pd.array(["none", "multistep", None], dtype="string"),
        "arms.epoch+batch.k": [1.0, 2.0, 3.0],
        "baseline": pd.array(["archetype", "random", "Adam"], dtype="string"),
    },
    index=[7, 8, 9],
)


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        ('optimizer.name == "adam"', [8]),  # whatever the case
        ('"ADAM" == optimizer.name', [8]),
        ('optimizer.name != "adam"', [7, 9]),  # what is not set is not Adam
        ('optimizer.name in ["sgd", "Adam"]', [7, 8]),
        ('optimizer.name not in ("sgd", "rmsprop")', [8, 9]),
        ("optimizer.name in []", []),
        ("optimizer.lr < 0.05", [8]),
        ("not optimizer.lr < 0.05", [7, 9]),
        ("0.01 < optimizer.lr <= 0.1", [7]),
        ("0.01 <= optimizer.lr <= .1", [7, 8]),
        ("-1 < batch_size", [7, 9]),
        ("batch_size == 64.0", [9]),
        ("batch_size in {16, 64}", [7, 9]),
        ("batch_size == none", [8]),
        ("batch_size is None", [8]),
        ("batch_size is not none", [7, 9]),
        ("batch_size != none", [7, 9]),
        ("batch_size in [none, 64]", [8, 9]),
        ("schedule.name == none", [7, 9]),  # not set, or set to the word
        ('schedule.name == "none"', [7]),
        ("optimizer.nesterov", [7]),
        ("not optimizer.nesterov", [8, 9]),
        ("optimizer.nesterov == false", [9]),
        ("optimizer.nesterov != True", [8, 9]),
        ("`arms.epoch+batch.k` >= 2", [8, 9]),
        ("`arms.epoch+batch.k` > 1 and `optimizer.lr` > 0", [8]),
        ("batch_size > 16 or optimizer.lr > 0.05", [7, 9]),
        ("batch_size > 16 and optimizer.lr > 0.05", []),
        ("not (batch_size > 16 or\n optimizer.lr > 0.05)", [8]),
        ("optimizer.name == baseline", []),
        ("optimizer.lr < batch_size", [7]),
        ('baseline == "a`d`am" or baseline == "adam"', [9]),  # no name in text
        ('optimizer.name == "\\d"', []),
    ],
)
def test_holds_for(condition, numbers):
    holds = matching(TRIALS, condition)
    assert holds.dtype == bool
    assert list(holds[holds].index) == numbers
    assert list(holds.index) == [7, 8, 9]


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("optimiser.lr < 1", ["no trial has a key 'optimiser.lr'", "did you mean optimizer.lr"]),
        ("lr < 1", ["no trial has a key 'lr'", "did you mean optimizer.lr?"]),
        ("optimizer.name == adam", ["no trial has a key 'adam'", "text stands in quotes"]),
        ("`no such` == 1", ["no trial has a key 'no such'"]),
        ('optimizer.lr == "fast"', ['optimizer.lr holds numbers and is compared with these, not with "fast"']),
        ("optimizer.name == 3", ["optimizer.name holds text and is compared with these, in quotes, not with 3"]),
        ("optimizer.nesterov == 1", ["optimizer.nesterov holds true or false"]),
        ("optimizer.lr == optimizer.name", ["optimizer.lr holds numbers", "optimizer.name"]),
        ('optimizer.name < "sgd"', ["optimizer.name is not a number, and has no order"]),
        ("batch_size < none", ["none is not a number"]),
        ("batch_size is 3", ["'is' goes with none alone; use =="]),
        ('optimizer.name in "sgd"', ["'\"sgd\"' is no list; write in [A, B]"]),
        ("batch_size", ["'batch_size' is no condition by itself"]),
        ("1 < 2", ["neither 1 nor 2 is a key"]),
        ("none == none", ["neither none nor none is a key"]),
        ("optimizer.lr < 1 & batch_size > 3", ["'1 & batch_size' is no value; combine conditions with and"]),
        ("(optimizer.lr < 1) | (batch_size > 3)", ["is no condition; combine conditions with or"]),
        ("batch_size + 1 > 3", ["'batch_size + 1' is neither a key nor a value"]),
        ('__import__("os").system("true")', ["is neither a key nor a value"]),
        ('optimizer.name == f"{batch_size}"', ["is neither a key nor a value"]),
        ('"x".name == 3', ["is not a key's name"]),
        ("batch_size == 3j", ["'3j' is no value"]),
        ("batch_size == 99999999999999999999", ["is too large a number"]),
        ("`a+b` == 3 or `optimizer.name` == 3 and batch", ["'a+b'", "optimizer.name holds text", "'batch'"]),  # all
    ],
)
def test_says_what_does_not_fit(condition, parts):
    with pytest.raises(TableError) as raised:
        matching(TRIALS, condition)
    assert condition in str(raised.value)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("condition", "place", "why"),
    [
        ("optimizer.lr = 0.1", 13, "use == to compare"),
        ('optimizer.name == "SGD" AND batch_size > 1', 24, "invalid syntax"),
        ('optimizer.name == "SGD', 18, "unterminated"),
        ("`arms.epoch+batch.k` => 3", 21, "use == to compare"),
        ("optimizer.lr < 1 && batch_size > 3", 18, "invalid syntax"),
    ],
)
def test_marks_the_place(condition, place, why):
    with pytest.raises(TableError) as raised:
        matching(TRIALS, condition)
    first, shown, mark, last = str(raised.value).split("\n")
    assert why in first
    assert shown.strip() == condition
    assert mark.index("^") - shown.index(condition) == place
    assert last.startswith("write it like: ")


@pytest.mark.parametrize(
    "condition", ["", "  \n", "x" * (LONGEST + 1), "(" * 300 + "x" + ")" * 300, "not " * 490 + "x", "x\0"]
)
def test_refuses_what_is_empty_long_or_nested(condition):
    with pytest.raises(TableError):
        matching(TRIALS, condition)


TOKENS = (
    *(
        "optimizer.name",
        "optimizer.lr",
        "batch_size",
        "optimizer.nesterov",
        "`a b`",
        "nothing",
        "none",
        "true",
        "1",
        "é",
    ),
    *(
        '"sgd"',
        "0.1",
        "[",
        "]",
        "(",
        ")",
        ",",
        "==",
        "!=",
        "<",
        "in",
        "not",
        "is",
        "and",
        "or",
        "+",
        "-",
        ".",
        "lambda:",
    ),
)


@given(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(TOKENS), max_size=9).map(" ".join)))
def test_gives_truths_or_a_table_error(condition):
    try:
        holds = matching(TRIALS, condition)
    except TableError as error:
        holds = error
    assert isinstance(holds, TableError) or holds.dtype == bool


NUMBERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([0.5, -0.5]))
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
OPERATORS = {"==": operator.eq, "!=": operator.ne, **ORDERS}


@given(st.lists(NUMBERS, max_size=6), st.sampled_from(sorted(OPERATORS)), st.sampled_from([-1, 0, 0.5, 2]))
def test_numbers_compare_as_numbers_do(values, sign, bound):
    trials = pd.DataFrame({"x": pd.array(values, dtype="Float64")})
    expected = [(sign == "!=") if value is None else OPERATORS[sign](value, bound) for value in values]
    assert matching(trials, f"x {sign} {bound}").tolist() == expected
    turned = sign.translate(str.maketrans("<>", "><"))
    assert matching(trials, f"{bound} {turned} x").tolist() == expected


@given(st.lists(st.sampled_from(["SGD", "sgd", "Adam", "none", None]), max_size=6), st.data())
def test_combines_as_logic_does(names, data):
    trials = pd.DataFrame({"name": pd.array(names, dtype="string"), "n": np.arange(len(names))})
    atoms = ['name == "sgd"', 'name in ["adam", "sgd"]', "name == none", "n > 2", "0 < n < 3"]
    one, other = data.draw(st.sampled_from(atoms)), data.draw(st.sampled_from(atoms))
    a, b = matching(trials, one), matching(trials, other)
    assert matching(trials, f"{one} and {other}").equals(a & b)
    assert matching(trials, f"{one} or {other}").equals(a | b)
    assert matching(trials, f"not ({one})").equals(~a)
    assert matching(trials, f"not ({one} and {other})").equals(matching(trials, f"not {one} or not {other}"))
    assert matching(trials, 'name != "sgd"').equals(~matching(trials, 'name == "sgd"'))
    assert matching(trials, 'name not in ["sgd"]').equals(matching(trials, 'name != "sgd"'))


def test_no_trials():
    assert matching(TRIALS.iloc[:0], "optimizer.lr > 1 and not optimizer.nesterov").empty
