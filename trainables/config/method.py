"""How an arm chooses what it trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator, PositiveInt, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from trainables import imports, old_keys
from trainables.config.base import Frozen
from trainables.config.budget import BudgetConfig
from trainables.config.built_in import FILTERS, PRESETS, SELECTORS
from trainables.errors import did_you_mean

if TYPE_CHECKING:
    from trainables.methods.selection import Selection


class Named:
    """Reads a section that names a class, and has its options: ``{name: soft, margin: 0.1}``, or a word without any.

    ``{use: my_lab.rho:RhoLoss, keep: 0.1}`` names a class of a researcher's own.
    """

    def __init__(self, what: str, table: Mapping[str, str], method: str) -> None:
        self.what = what
        self.table = table
        self.method = method

    def __call__(self, value: Any) -> Any:
        """The object that a word or a section describes."""
        if value is None or hasattr(type(value), self.method):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            raise PydanticCustomError("section", "must be a word or a section with a name")
        use = value.get("use")
        kind = self.class_of(value)
        if use is None:
            return _validated(kind, value, str(value["name"]))
        with imports.blamed(f"{use!r}"):
            return _validated(kind, value, str(use))

    def class_of(self, section: Mapping[str, Any]) -> Any:
        """The class that a section names.

        Raises:
            ValueError: it names none.
        """
        use = section.get("use")
        if use is not None:
            found = imports.find(str(use), "methods")
            if not (isinstance(found, type) and issubclass(found, Frozen) and hasattr(found, self.method)):
                raise ValueError(f"{use!r} is no {self.what}: subclass one of trainables.methods")
            return found
        name = section.get("name")
        if not isinstance(name, str) or name not in self.table:
            raise ValidationError.from_exception_data(self.what, [self._unnamed(section)])
        return imports.find(self.table[name], "methods")

    def _unnamed(self, section: Mapping[str, Any]) -> InitErrorDetails:
        """Why a section names no built-in class: an unknown name, or none; then, who has its options."""
        if (name := section.get("name")) is not None:
            ctx = {"discriminator": "name", "tag": str(name), "expected_tags": ", ".join(map(repr, self.table))}
            return InitErrorDetails(type="union_tag_invalid", loc=(), input=dict(section), ctx=ctx)
        kinds = dict(zip(self.table, self.members(), strict=True))
        owners = [name for name, kind in kinds.items() if section.keys() <= kind.model_fields.keys()]
        told = {"what": self.what, "options": " and ".join(section), "owners": " or ".join(owners or self.table)}
        error: Any = PydanticCustomError("unnamed", "is missing; {options} is for {what} {owners}", told)
        return InitErrorDetails(type=error, loc=("name",), input=dict(section))

    def members(self) -> list[Any]:
        """The built-in classes."""
        return [imports.find(path, "methods") for path in self.table.values()]


def _validated(kind: Any, values: Mapping[str, Any], word: str) -> Any:
    """An object of the class with these options; an unknown one is told with those that there are."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        details = [_told(item, kind, word) for item in error.errors()]
        raise ValidationError.from_exception_data(word, details) from None


def _told(item: Any, kind: Any, word: str) -> InitErrorDetails:
    """One of pydantic's errors, raised anew."""
    if item["type"] == "extra_forbidden":
        known = [name for name in kind.model_fields if name not in ("use", "name")]
        hint = did_you_mean(item["loc"][-1], known, f"known here: {', '.join(known) or 'none'}")
        error: Any = PydanticCustomError(
            "unknown_option", "unknown key of {word}; {hint}", {"word": word, "hint": hint}
        )
        return InitErrorDetails(type=error, loc=item["loc"], input=item["input"])
    if item["type"] == "value_error":
        error = PydanticCustomError("value_error", "{reason}", {"reason": item["msg"].removeprefix("Value error, ")})
        return InitErrorDetails(type=error, loc=item["loc"], input=item["input"])
    return InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"], ctx=item.get("ctx", {}))


FILTER = Named("filter", FILTERS, "judge")
SELECTOR = Named("selector", SELECTORS, "over")


class MethodConfig(Frozen):
    """How an arm chooses what it trains on. ``docs/methods.md`` describes the methods that the options make.

    *Which*: ``filter`` (Alg. 6, 7) and, of what it lets through, ``selector`` (Alg. 3, 4; section 3.2.1); or a method
    of its own in the selector's place.
    *When*: ``granularity`` ``none`` is the archetype (Alg. 1), which selects nothing; ``epoch`` selects from the whole
    epoch before its first update (Alg. 8); ``batch`` from each raw batch (Alg. 9, 10); ``epoch+batch`` does both (Table
    4.4).
    """

    granularity: Literal["none", "epoch", "batch", "epoch+batch"] = "batch"
    selector: Annotated[Any, PlainValidator(SELECTOR), SELECTOR] = Field(
        {"name": "all"}, validate_default=True, description="what is trained on of the filter's candidates, or a method"
    )
    filter: Annotated[Any, PlainValidator(FILTER), FILTER] = Field(
        None, description="what is offered to the selector; None: hard, or none where nothing is filtered"
    )
    batch: Literal["stable", "unstable"] = Field(
        "stable", description="always full (Alg. 10), or what there is (Alg. 9)"
    )
    raw_batch_size: PositiveInt | Literal["adaptive"] | None = Field(
        None, description="samples probed at once; None: the batch size (Table 4.1); adaptive: as in section 5.2.2"
    )
    raw_batch_limit: PositiveInt = Field(16384, description="bound of an adaptive raw batch, set by memory")
    overflow: Literal["discard", "carry"] = Field("discard", description="what does not fit a stable batch (3.3.2)")
    fallback: Literal["none", "random"] = Field("none", description="random samples where too few are selected (3.2.1)")
    epochs: float | None = Field(
        None,
        gt=0,
        exclude_if=lambda value: value is None,
        description="passes that this arm trains, in place of budget",
    )
    budget: BudgetConfig | None = Field(
        None, exclude_if=lambda value: value is None, description="what this arm may spend, in place of the shared one"
    )
    probe_mode: Literal["eval", "train"] = Field("eval", description="mode of the model while it probes (BatchNorm)")
    probe_view: Literal["trained", "fresh", "clean"] = Field(
        "trained", description="the image probed: the one to be trained on, another augmentation, or the clean one"
    )

    @model_validator(mode="before")
    @classmethod
    def _presets_and_old_keys(cls, values: Any) -> Any:
        """A preset's values come first."""
        if not isinstance(values, Mapping):
            return values
        values = old_keys.method(values)
        if "preset" not in values:
            return values
        preset = values.pop("preset")
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
        return with_defaults(PRESETS[preset], values)

    @model_validator(mode="after")
    def _makes_sense(self) -> MethodConfig:
        plain = self.granularity == "none"
        if self.filter is None:
            object.__setattr__(self, "filter", FILTER("none" if plain or self.selector.alone else "hard"))
        filling = "batch" in self.granularity and self.batch == "stable"  # batches are filled from raw ones
        refused = [
            (
                plain and not (self.filter.passes_all and getattr(self.selector, "name", None) == "all"),
                "granularity none trains on every sample: it has no filter and no selector",
            ),
            (
                plain and self.raw_batch_size is not None,
                "raw_batch_size means nothing with granularity none, which probes no sample",
            ),
            (plain and self.batch == "unstable", "batch unstable means nothing with granularity none"),
            (
                self.overflow == "carry" and not filling,
                "overflow carry is for stable batches of granularity batch or epoch+batch; nothing else overflows",
            ),
            (
                self.raw_batch_size == "adaptive" and not filling,
                "raw_batch_size adaptive is for stable batches of granularity batch or epoch+batch",
            ),
            (
                "raw_batch_limit" in self.model_fields_set
                and self.raw_batch_limit != MethodConfig.model_fields["raw_batch_limit"].default
                and self.raw_batch_size != "adaptive",
                "raw_batch_limit is for raw_batch_size adaptive",
            ),
        ]
        reasons = [reason for applies, reason in refused if applies]
        if self.epochs is not None and self.budget is not None:
            reasons.append(f"epochs {self.epochs:g} and budget exclude each other: epochs is the budget on that clock")
        if self.paced is not None and (self.epochs is not None or self.budget is not None):
            reasons.append(f"it spends what {self.paced} spends, and takes no epochs or budget of its own")
        if plain:
            reasons += self._unprobed() if self.fallback == "none" else [*self._unprobed(), FALLBACK]
        else:
            reasons += self._suits_the_selection()
        if reasons:
            raise ValueError("; ".join(reasons))
        return self

    def _suits_the_selection(self) -> list[str]:
        """What the method does not go together with."""
        try:
            selection = self.selection(1)
        except ValueError as error:
            return [str(error)]
        word = self.selector.word
        reasons = [] if selection.probes else self._unprobed()
        if self.granularity not in selection.granularities:
            reasons.append(f"{word} is for granularity {' or '.join(selection.granularities)}")
        if self.batch not in selection.batches:
            reasons.append(f"{word} needs {' or '.join(selection.batches)} batches: batch {selection.batches[0]}")
        if selection.own_raw_batches and self.raw_batch_size is not None:
            reasons.append(f"{word} says itself how large a raw batch is, and takes no raw_batch_size")
        if self.fallback == "random" and self.selector.number is None and self.granularity != "epoch":
            reasons.append(FALLBACK)
        return reasons

    def _unprobed(self) -> list[str]:
        asked = (self.probe_mode, self.probe_view) != ("eval", "trained")
        return ["probe_mode and probe_view mean nothing where no sample is probed"] if asked else []

    def selection(self, batch_size: int) -> Selection:
        """The method: its filter and selector as one, or the method that stands in the selector's place.

        Arguments:
            batch_size: what a fallback makes up, where the selector selects no fixed number.
        """
        if self.granularity == "none":
            return imports.find("trainables.methods.archetype:Everything", "methods")()
        fallback = 0
        if self.fallback == "random":
            fallback = self.selector.number or batch_size
        return self.selector.over(self.filter, fallback)

    @property
    def follows(self) -> str | None:
        """The arm whose numbers of kept samples it needs."""
        return self.selector.follows

    @property
    def own_raw_batches(self) -> bool:
        """Whether the method says itself how large its raw batches are."""
        return self.granularity != "none" and self.selection(1).own_raw_batches

    @property
    def paced(self) -> str | None:
        """The arm that it trains as much as: it makes the same updates, or costs the same compute."""
        return self.selector.follows or self.selector.like_compute_of


FALLBACK = "fallback random needs a number to make up: a selector with k that probes, or granularity epoch"


def with_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's options: those that are given, and defaults for the others; a section that names something else than
    the default's is its own.
    """
    values = {**defaults, **given}
    for section in old_keys.SECTIONS:
        usual, own = defaults.get(section), given.get(section)
        if isinstance(usual, Mapping) and isinstance(own, Mapping) and "use" not in own:
            values[section] = {**usual, **own} if own.get("name", usual["name"]) == usual["name"] else own
    return values
