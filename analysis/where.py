"""Conditions on trials, as ``--where 'optimizer.name == "adam" and epochs >= 100'`` takes them.

A condition is a small part of Python's own grammar, read with :mod:`ast` and never executed:

- a *key* is a column of the trials table by its name (``optimizer.lr``, ``status``); one that is no dotted name stands
  in backticks (```arms.epoch+batch.granularity```);
- values are numbers, quoted text, ``true``, ``false``, ``none``, and lists of these;
- ``==  !=  <  <=  >  >=  in  not in`` compare, and may be chained (``0.01 < optimizer.lr <= 0.1``); ``is`` and
  ``is not`` go with ``none``; ``and``, ``or``, ``not`` and parentheses combine. A key of truth values is a condition by
  itself.

Text is compared without regard to case. A comparison with a missing value is false, whatever the order or list; so
``!=`` and ``not in``, which are the opposites of ``==`` and ``in``, are true of it: what is not set is not ``"adam"``.
``none`` is a missing value, and also the text "none", for a schedule of that name is as much as no schedule.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.database import TableError

__all__ = ["matching"]

EXAMPLE = 'optimizer.name == "adam" and optimizer.lr < 0.1'
LONGEST = 2000
WORDS: Mapping[str, Any] = {"none": None, "true": True, "false": False}
ORDERS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
OTHER_WORDS: Mapping[type[ast.operator], str] = {ast.BitAnd: "and", ast.BitOr: "or"}
HOLDS = {"number": "numbers", "text": "text", "truth": "true or false"}

Truths = np.ndarray[Any, np.dtype[np.bool_]]


class _Fault(Exception):
    """What is wrong with one part of a condition."""


@dataclass(frozen=True)
class _Condition:
    """What is known while a condition is read."""

    trials: pd.DataFrame
    text: str
    read: str
    quoted: Mapping[str, str]
    faults: list[str] = field(default_factory=list)

    def source(self, node: ast.expr) -> str:
        """The part of the condition that ``node`` stands for, as it was written."""
        whole = self.read.encode()
        start, end = (len(whole[:at].decode(errors="ignore")) for at in (node.col_offset, node.end_col_offset or 0))
        return self.text[start:end]

    def none(self) -> Truths:
        """False for every trial."""
        return np.zeros(len(self.trials), dtype=bool)


@dataclass(frozen=True)
class _Operand:
    """A key's values or one value: its ``kind`` is number, text, truth or none, and text is folded to one case."""

    kind: str
    values: Any
    name: str
    key: bool


def matching(trials: pd.DataFrame, condition: str) -> pd.Series[bool]:
    """Which trials a condition holds for.

    Args:
        trials: a row per trial with a column per key, such as ``Study.trials``.
        condition: as the module describes it.

    Returns:
        Booleans, indexed like ``trials``.

    Raises:
        TableError: the condition cannot be read (the place is marked), or names what is not there, or compares what
            cannot be compared; all such faults at once.
    """
    text = " ".join(condition.split("\n")).strip()
    if not 0 < len(text) <= LONGEST:
        raise TableError(f"a condition has 1 to {LONGEST} characters, not {len(text)}; write it like: {EXAMPLE}")
    read, quoted = _without_backticks(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of an escape in a string
            tree = ast.parse(read, mode="eval").body
        given = _Condition(trials, text, read, quoted)
        holds = _holds(tree, given)
    except SyntaxError as error:
        place = min(max((error.offset or 1) - 1, 0), len(text))
        why = "use == to compare" if text[place : place + 1] == "=" else error.msg
        marked = f"{text}\n  {' ' * place}^"
        raise TableError(f"the condition cannot be read: {why}\n  {marked}\nwrite it like: {EXAMPLE}") from None
    except (ValueError, RecursionError, MemoryError):
        raise TableError(f"the condition cannot be read: it is nested too deeply; write it like: {EXAMPLE}") from None
    if given.faults:
        raise TableError(f"the condition {text!r} does not fit: {'; '.join(dict.fromkeys(given.faults))}")
    return pd.Series(holds, index=trials.index, dtype=bool)


def _without_backticks(text: str) -> tuple[str, dict[str, str]]:
    """The text with each name in backticks replaced by a plain one of the same length, and what these stand for."""
    quoted: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        stand_in = f"_{len(quoted)}".ljust(len(match[0]), "_")
        quoted[stand_in] = match["name"]
        return stand_in

    pattern = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?P<name>[^`]*)`"""
    return re.sub(pattern, plain, text), quoted


def _holds(node: ast.expr, given: _Condition) -> Truths:
    """The trials that a condition or a part of one holds for; faults are noted, and hold for none."""
    try:
        match node:
            case ast.BoolOp(op=op, values=parts):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return combine.reduce([_holds(part, given) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return ~_holds(part, given)
            case ast.Compare(left=first, ops=ops, comparators=others):
                sides = zip(ops, [first, *others], others, strict=False)
                return np.logical_and.reduce([_compared(op, left, right, given) for op, left, right in sides])
            case ast.BinOp(op=op) if type(op) in OTHER_WORDS:
                raise _Fault(f"{given.source(node)!r} is no condition; combine conditions with {OTHER_WORDS[type(op)]}")
        whole = _operand(node, given)
        if whole.key and whole.kind == "truth":
            return _truths(whole.values)
        raise _Fault(f"{given.source(node)!r} is no condition by itself; compare a key with a value")
    except _Fault as fault:
        given.faults.append(str(fault))
        return given.none()


def _compared(op: ast.cmpop, left_node: ast.expr, right_node: ast.expr, given: _Condition) -> Truths:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right_node, ast.List | ast.Tuple | ast.Set):
            raise _Fault(f"{given.source(right_node)!r} is no list; write in [A, B]")
        left = _operand(left_node, given)
        among = [_equal(left, _operand(item, given), given) for item in right_node.elts]
        found = np.logical_or.reduce([given.none(), *among])
        return ~found if isinstance(op, ast.NotIn) else found
    left, right = _operand(left_node, given), _operand(right_node, given)
    _one_key(left, right)
    if isinstance(op, ast.Is | ast.IsNot) and "none" not in (left.kind, right.kind):
        raise _Fault(f"'is' goes with none alone; use == for {right.name}")
    if type(op) in ORDERS:
        if (left.kind, right.kind) != ("number", "number"):
            other = left if left.kind != "number" else right
            raise _Fault(f"{other.name} is not a number, and has no order; use ==, != or in")
        return _truths(ORDERS[type(op)](left.values, right.values))
    equal = _equal(left, right, given)
    return ~equal if isinstance(op, ast.NotEq | ast.IsNot) else equal


def _equal(left: _Operand, right: _Operand, given: _Condition) -> Truths:
    _one_key(left, right)
    if "none" in (left.kind, right.kind):
        key = left if left.key else right
        said = _truths(key.values == "none") if key.kind == "text" else given.none()
        return _truths(key.values.isna()) | said
    if left.kind != right.kind:
        key, other = (left, right) if left.key else (right, left)
        remedy = f"{HOLDS[key.kind]} and is compared with these" + (", in quotes" if key.kind == "text" else "")
        raise _Fault(f"{key.name} holds {remedy}, not with {other.name}")
    return _truths(left.values == right.values)


def _one_key(left: _Operand, right: _Operand) -> None:
    if not (left.key or right.key):
        raise _Fault(f"neither {left.name} nor {right.name} is a key; a key stands without quotes")


def _truths(values: pd.Series[Any]) -> Truths:
    """Booleans, false where a value is missing."""
    return values.astype("boolean").fillna(False).to_numpy(dtype=bool)


def _operand(node: ast.expr, given: _Condition) -> _Operand:
    source = given.source(node)
    match node:
        case ast.Name() | ast.Attribute():
            return _key(node, given)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)):
            return _value(-number if isinstance(sign, ast.USub) else number, source)
        case ast.Constant(value=value):
            return _value(value, source)
        case ast.BinOp(op=op) if type(op) in OTHER_WORDS:
            raise _Fault(f"{source!r} is no value; combine conditions with {OTHER_WORDS[type(op)]}")
    raise _Fault(f"{source!r} is neither a key nor a value; numbers, text in quotes, true, false and none are values")


def _value(value: Any, source: str) -> _Operand:
    match value:
        case None:
            return _Operand("none", None, source, False)
        case bool():
            return _Operand("truth", value, source, False)
        case int() if abs(value) >= 2**63:
            raise _Fault(f"{source[:20]}… is too large a number")
        case int() | float():
            return _Operand("number", value, source, False)
        case str():
            return _Operand("text", value.casefold(), source, False)
    raise _Fault(f"{source!r} is no value; numbers, text in quotes, true, false and none are")


def _key(node: ast.expr, given: _Condition) -> _Operand:
    parts, inner = [], node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        raise _Fault(f"{given.source(node)!r} is not a key's name")
    name = ".".join([given.quoted.get(inner.id, inner.id), *reversed(parts)])
    if name not in given.trials:
        if name.lower() in WORDS:
            return _value(WORDS[name.lower()], name)
        raise _Fault(_unknown(name, [str(column) for column in given.trials.columns]))
    values = given.trials[name]
    if pd.api.types.is_bool_dtype(values):
        return _Operand("truth", values, name, True)
    if pd.api.types.is_numeric_dtype(values):
        return _Operand("number", values, name, True)
    return _Operand("text", values.astype("string").str.casefold(), name, True)


def _unknown(name: str, keys: list[str]) -> str:
    same_end = [key for key in keys if key.rpartition(".")[2] == name.rpartition(".")[2]]
    near = difflib.get_close_matches(name, keys, n=3) or same_end[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "a key that no trial sets has no column"
    return f"no trial has a key {name!r}; {hint} (text stands in quotes)"
