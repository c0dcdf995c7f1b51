"""What every part of a configuration is: frozen, validated, without keys that it does not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Tag, model_validator


class Frozen(BaseModel):
    """An immutable model that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        """Pydantic would take true for 1; the word it refuses, with the key."""
        true = {k: v for k, v in values.items() if isinstance(v, bool)} if isinstance(values, Mapping) else {}
        if not true:
            return values
        kinds = {key: leaves(field.annotation) for key, field in cls.model_fields.items() if key in true}
        return {**values, **{key: str(true[key]).lower() for key, kind in kinds.items() if numeric(kind)}}


def leaves(annotation: Any) -> frozenset[type]:
    """The types of the values that an annotation admits: those of a union, of literals, of None."""
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return frozenset(map(type, members))
    if get_origin(annotation) is Annotated:
        return leaves(members[0])
    if get_origin(annotation) in (Union, UnionType):
        return frozenset().union(*map(leaves, members))
    return frozenset({get_origin(annotation) or annotation})


def numeric(kinds: Collection[type]) -> bool:
    """Whether values of these types include numbers, and true and false are not among them."""
    return bool not in kinds and (int in kinds or float in kinds)


class Used(Frozen):
    """A section that names code of one's own; its other keys are that code's options (see :mod:`trainables.imports`).

    Which keys there may be is not known without the code, so they are checked where the code is at hand.
    """

    model_config = ConfigDict(extra="allow")

    use: str = Field(description="import path such as my_lab.rho:RhoLoss, or an entry point")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the code that is named."""
        return dict(self.model_extra or {})


def kind(section: Any) -> str | None:
    """What tells the members of a union of sections apart: ``use`` for code of one's own, else the section's name."""
    if isinstance(section, Mapping):
        name = "use" if "use" in section else section.get("name")
        return name if name is None or isinstance(name, str) else repr(name)  # which no section has
    return "use" if hasattr(section, "use") else getattr(section, "name", None)


def members(union: Any) -> dict[str, type[Frozen]]:
    """The sections that a union is of, by what tells them apart: their tag, or the names that they take."""
    found: dict[str, type[Frozen]] = {}
    for member in get_args(union):
        if get_origin(member) is Annotated:
            section, *marks = get_args(member)
            found |= {mark.tag: section for mark in marks if isinstance(mark, Tag)}
        else:
            found |= dict.fromkeys(get_args(member.model_fields["name"].annotation), member)
    return found
