"""What a dotted key of a configuration takes, and how the configuration holds it.

A file may say ``64``, ``64.0`` or ``"64"`` for ``batch_size``: the configuration holds 64. A space, a condition and a
point of a search compare values before there is a configuration; they compare what it will hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from trainables.config import FILTER, SELECTOR, Frozen, Named, TrialConfig, leaves, members, numeric


@cache
def kinds(key: str) -> frozenset[type]:
    """The types of the values that ``key`` takes; none where it is no key, or a section."""
    types: frozenset[type] = frozenset().union(*map(leaves, _annotations(TrialConfig, key.split("."))))
    return frozenset() if any(issubclass(kind, Frozen | dict) for kind in types) else types


def read(key: str, value: Any) -> Any:
    """``value`` as a configuration holds it at ``key``; itself where that is no key, or a section.

    Raises:
        ValueError: the key does not take it; says what it takes.
    """
    if not kinds(key):
        return value
    if isinstance(value, bool) and numeric(kinds(key)):
        raise ValueError(f"{key}: {value!r}: should be a number")
    try:
        return _reader(key)(value)
    except ValidationError as error:
        allowed = dict.fromkeys(item["msg"].removeprefix("Input should be ") for item in error.errors())
        raise ValueError(f"{key}: {value!r}: should be {' or '.join(allowed)}") from None


def held(key: str, value: Any) -> Any:
    """As :func:`read`; itself where the key does not take it, so that the configuration can say why."""
    try:
        return read(key, value)
    except ValueError:
        return value


@cache
def _reader(key: str) -> Callable[[Any], Any]:
    return TypeAdapter(reduce(or_, _annotations(TrialConfig, key.split(".")))).validate_python


def _annotations(annotation: Any, path: Sequence[str]) -> Iterator[Any]:
    """What stands at ``path`` below an annotation, in every member of a union that has it."""
    if not path:
        yield annotation
    elif isinstance(annotation, type) and issubclass(annotation, Frozen):
        field = annotation.model_fields.get(path[0])
        if named := next((part for part in field.metadata if isinstance(part, Named)), None) if field else None:
            for member in named.members() if path[1:] else ():
                yield from _annotations(member, path[1:])
        elif field:
            limited = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            yield from _annotations(limited, path[1:])
    elif get_origin(annotation) is dict:
        yield from _annotations(get_args(annotation)[1], path[1:])
    else:
        for member in get_args(annotation):
            yield from _annotations(member, path)


def options(section: str, name: str | None) -> frozenset[str]:
    """The keys of a section such as ``optimizer`` or ``arms.mine.selector`` that names something built in.

    With ``name`` None they are those of code of one's own, as far as they are the same whatever it is. None are known
    of a name that is not built in.
    """
    part = section.rpartition(".")[2]
    if named := {"filter": FILTER, "selector": SELECTOR}.get(part):
        if name is None:
            return frozenset({"use"})
        return frozenset(named.class_of({"name": name}).model_fields) - {"use"} if name in named.table else frozenset()
    kinds = members(TrialConfig.model_fields[part].annotation)
    member = kinds.get("use") if name is None else kinds.get(name, kinds.get("built_in"))
    return frozenset(member.model_fields) if member else frozenset()
