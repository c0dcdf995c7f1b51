"""Experiments: YAML files, built-in and users' own in the same form, read with all their errors at once.

The keys of a TrialConfig stand at the top of the file beside the study's own sections, so that a hyperparameter's path
in the file is its name everywhere.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, Literal, Self, cast, get_args, get_origin

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from search_spaces import domains, spaces
from search_spaces.domains import Parameter, Space, SpaceError
from trainables.config import Frozen, Objective, TrialConfig, flatten, metric_mode, nest

BUILT_IN = resources.files("study") / "experiments"


class ExperimentError(ValueError):
    """What is wrong with an experiment, every error on a line of its own: path, value, what is allowed."""

    def __init__(self, source: str, errors: Sequence[str]) -> None:
        self.errors = list(dict.fromkeys(errors))
        count = f"{len(self.errors)} errors" if len(self.errors) > 1 else "1 error"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {error}" for error in self.errors)]))


class About(Frozen):
    """The head of an experiment."""

    title: str
    question: str
    section: str = Field("", description="section of the thesis")
    command: str = ""
    time: str = Field("", description="expected time, and on what machine")
    result: str = Field("", description="expected result")


class Search(Frozen):
    """Who proposes configurations, and how many."""

    name: Literal["optuna", "random", "grid"] = "optuna"
    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna's sampler; only with search.name optuna")
    trials: PositiveInt | None = Field(None, description="comparisons to run; a grid has as many as it has points")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _trials_are_known(self) -> Self:
        if self.name == "grid" and self.trials is not None:
            raise ValueError("a grid runs every point; leave trials out, or use search.name random")
        if self.name != "grid" and self.trials is None:
            raise ValueError(f"trials is missing: say how many comparisons search.name {self.name} may run")
        return self


class Scheduler(Frozen):
    """Who stops comparisons early. ``asha``: Li et al. 2020, at rungs of grace_period x reduction_factor^k epochs.

    What it looks at can differ from what is searched for: a run is dead where the treatment does not learn, not where
    it loses to the baseline.
    """

    name: Literal["none", "asha"] = "none"
    metric: str | None = Field(None, description="gap/METRIC or ARM/METRIC; None: the objective")
    grace_period: PositiveInt = Field(1, description="epochs that every comparison gets")
    reduction_factor: int = Field(3, ge=2, description="one comparison of this many goes on at each rung")

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | None) -> str | None:
        if metric is not None:
            metric_mode(metric)
        return metric


class Resources(Frozen):
    """What one comparison occupies."""

    cpu: PositiveInt = Field(1, description="CPU threads")
    gpu: float = Field(0, ge=0, le=1, description="share of one GPU")


class Wandb(Frozen):
    """Logging to Weights & Biases, from the driver."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "filter-study"


class Experiment(Frozen):
    """An experiment.

    ``trial`` holds the dotted keys that the file sets, ``space`` those that are searched. A key in both has in
    ``trial`` what ``filter-study train`` takes.
    """

    name: str
    about: About
    trial: dict[str, Any]
    space: dict[str, Parameter] = Field(default_factory=dict)
    search: Search
    objective: Objective = Objective()
    scheduler: Scheduler = Scheduler()
    resources: Resources = Resources()
    wandb: Wandb = Wandb()
    data_dir: str = "data"
    trace: bool = Field(False, description="keep a record of every update, the table steps")
    smoke: dict[str, Any] = Field(default_factory=dict, description="keys to set for a trial run of under a minute")

    @property
    def fixed(self) -> dict[str, Any]:
        """What all comparisons share: keys that are set and not searched, and defaults that a condition looks at."""
        return _fixed(self.trial, self.space)

    @property
    def trials(self) -> int:
        """How many comparisons the search runs at most."""
        return self.search.trials or len(domains.grid(self.space, self.fixed))

    @property
    def longest(self) -> int:
        """Epochs of the longest comparison."""
        return max(TrialConfig.from_dotted(corner).epochs for corner in self.corners())

    @property
    def cost(self) -> int:
        """Epochs that the study trains at most, every arm's counted."""
        if self.search.name == "grid":
            configs = [TrialConfig.from_dotted(point) for point in domains.grid(self.space, self.fixed)]
            return sum(config.epochs * len(config.arms) for config in configs)
        configs = [TrialConfig.from_dotted(corner) for corner in self.corners()]
        return self.trials * max(config.epochs * len(config.arms) for config in configs)

    def corners(self) -> list[dict[str, Any]]:
        """Configurations that show whether every value the search can take is valid."""
        return list(domains.corners(self.space, self.fixed, Random(0))) or [self.fixed]

    def alone(self) -> Experiment:
        """The one comparison of the experiment's own settings, nothing searched and nothing stopped."""
        single = {"space": {}, "search": Search(name="grid"), "scheduler": Scheduler(), "smoke": {}}
        return self.model_copy(update=single)

    def to_yaml(self) -> str:
        """The experiment with every default spelled out, as a file that reads back as the same experiment."""
        document = self.model_dump(mode="json", exclude={"trial", "space", "name", "smoke"})
        about = document.pop("about")
        space = {key: parameter.model_dump(mode="json", exclude_defaults=True) for key, parameter in self.space.items()}
        smoke = {"smoke": self.smoke} if self.smoke else {}
        return _dump({"about": about, **nest(self.trial), "space": space, **document, **smoke})


STUDY_SECTIONS = frozenset(Experiment.model_fields) - {"name", "trial"}


def built_in() -> list[str]:
    """Names of the experiments that come with the program."""
    return sorted(path.name.removesuffix(".yaml") for path in BUILT_IN.iterdir() if path.name.endswith(".yaml"))


def load(source: str, overrides: Iterable[str] = (), smoke: bool = False) -> Experiment:
    """The experiment ``source``: a built-in name or a YAML file, with ``overrides`` of the form ``key=value``.

    With ``smoke``, the keys of its section of that name are set first.

    Raises:
        ExperimentError: with every error at once.
    """
    name, text = _read(source)
    document = _parse(text, source)
    shortened = document.get("smoke") if smoke else None
    if smoke and not isinstance(shortened, dict):
        raise ExperimentError(source, ["--smoke: the experiment has no section smoke with the keys to set"])
    first = [f"{key}={json.dumps(value)}" for key, value in (shortened or {}).items()]
    errors, pinned = _override(document, [*first, *overrides])
    try:
        experiment = from_document(name, document, pinned)
    except ExperimentError as error:
        raise ExperimentError(source, errors + error.errors) from None
    if errors:
        raise ExperimentError(source, errors)
    return experiment


def from_document(name: str, document: Mapping[str, Any], pinned: Collection[str] = ()) -> Experiment:
    """The experiment that a parsed YAML document describes; keys in ``pinned`` are taken out of its space.

    Raises:
        ExperimentError: with every error at once.
    """
    sections = {key: value for key, value in document.items() if key in STUDY_SECTIONS}
    errors: list[str] = []
    try:
        trial = flatten(nest(flatten({k: v for k, v in document.items() if k not in STUDY_SECTIONS})))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ExperimentError(name, [f"the settings are not sections with named keys: {error}"]) from None
    space = _space(sections.pop("space", None) or {}, errors)
    space = _unpinned(space, trial, pinned)
    sections.setdefault("search", {})
    try:
        experiment = Experiment(name=name, trial=trial, space=dict(space), **sections)
    except ValidationError as error:
        errors += describe(error, Experiment)
        experiment = None
    errors += _trial_errors(trial, space)
    if errors or experiment is None:
        raise ExperimentError(name, errors)
    arms = TrialConfig.from_dotted(experiment.corners()[0]).arms
    for where, metric in (("objective", experiment.objective.metric), ("scheduler", experiment.scheduler.metric)):
        scope, _, column = (metric or "").partition("/")
        if metric and scope not in ("gap", *arms):
            errors.append(
                f"{where}.metric: {scope!r} is no arm of this experiment; set it to gap/METRIC or to a metric of "
                f"{', '.join(arms)}"
            )
        if column.startswith("validation_") and not _has_validation(experiment):
            errors.append(
                f"{where}.metric: {metric!r} needs a validation set, and dataset.validation_fraction is 0; "
                "set it above 0, or take a train_ or test_ metric"
            )
    try:
        experiment.trials  # noqa: B018
    except SpaceError as error:
        errors.append(f"space: {error}")
    if experiment.scheduler.name != "none" and experiment.scheduler.grace_period > experiment.longest:
        errors.append(
            f"scheduler.grace_period: {experiment.scheduler.grace_period} is more than the {experiment.longest} epochs "
            "of a comparison; lower it, or set scheduler.name to none"
        )
    if experiment.search.name != "grid" and not experiment.space and experiment.trials > 1:
        errors.append(
            "space: nothing is searched, so every comparison would be the same; give a space, or search.name grid"
        )
    if errors:
        raise ExperimentError(name, errors)
    return experiment


def _unpinned(space: Space, trial: Mapping[str, Any], pinned: Collection[str]) -> Space:
    """The space without the keys, or keys of sections, that are pinned; where one is conditional, it stays so."""
    sections = tuple(f"{key}." for key in pinned)
    left = {}
    for key, parameter in space.items():
        if key in pinned and parameter.when and isinstance(trial.get(key), domains.Scalar):
            left[key] = Parameter(choice=(trial[key],), when=parameter.when)
        elif key not in pinned and not key.startswith(sections):
            left[key] = parameter
    return left


def _fixed(trial: Mapping[str, Any], space: Space) -> dict[str, Any]:
    looked_at = {key for parameter in space.values() for key in parameter.when} - space.keys()
    defaults = TrialConfig().to_dotted()
    shared = {key: value for key, value in trial.items() if key not in space}
    return {key: defaults[key] for key in sorted(looked_at & defaults.keys())} | shared


def _has_validation(experiment: Experiment) -> bool:
    return all(TrialConfig.from_dotted(corner).dataset.validation_fraction > 0 for corner in experiment.corners())


def _space(section: Any, errors: list[str]) -> Space:
    """The space of an experiment's section: the spaces it includes, and its own parameters."""
    if not isinstance(section, Mapping):
        errors.append(f"space: must map keys to parameters, not {section!r}")
        return {}
    section = dict(section)
    included = section.pop("include", None) or []
    included = included if isinstance(included, list) else [included]
    parts: list[Space] = []
    for name in included:
        if isinstance(name, str) and name in spaces.BY_NAME:
            parts.append(spaces.BY_NAME[name])
        else:
            errors.append(f"space.include: {name!r} is not one of {', '.join(spaces.BY_NAME)}")
    own: dict[str, Parameter] = {}
    for key, value in section.items():
        if not isinstance(key, str):
            errors.append(f"space.{key}: a key must be the dotted name of a setting")
            continue
        try:
            own[key] = Parameter.model_validate(value)
        except ValidationError as error:
            errors += describe(error, Parameter, f"space.{key}")
    try:
        return domains.merge(*parts, own)
    except SpaceError as error:
        errors.append(f"space: {error}")
        return {}


def _trial_errors(trial: Mapping[str, Any], space: Space) -> list[str]:
    """What is wrong with the settings themselves, or with any configuration that the search can propose."""
    fixed = _fixed(trial, space)
    try:
        candidates = [dict(trial), *domains.corners(space, fixed, Random(0))]
    except SpaceError as error:
        return [f"space: {error}"]
    errors: list[str] = []
    for candidate in candidates:
        try:
            TrialConfig.from_dotted(candidate)
        except ValidationError as error:
            errors += describe(error, TrialConfig)
        except ValueError as error:
            errors.append(str(error))
    return errors


def describe(error: ValidationError, model: type[Frozen], prefix: str = "") -> list[str]:
    """Pydantic's errors as lines ``path: value: what is allowed``, with the nearest known key for an unknown one."""
    lines = []
    for item in error.errors():
        location = item["loc"]
        tagged = location and location[0] in ("optimizer", "schedule")  # then the second part names the union's member
        path = [*location[:1], *location[2:]] if tagged else location
        where = ".".join(filter(None, (prefix, *map(str, path)))) or "experiment"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = sorted(_holder(model, location).model_fields)
            if model is TrialConfig and len(path) == 1:
                known = sorted([*known, *STUDY_SECTIONS])
            close = difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
            member = f" of {location[1]}" if tagged and not close else ""
            lines.append(f"{where}: unknown key{member}; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: is missing")
        elif item["type"] == "union_tag_invalid":
            lines.append(f"{where}.name: {item['ctx']['tag']!r}: must be one of {item['ctx']['expected_tags']}")
        elif isinstance(item["input"], Mapping | Frozen):
            lines.append(f"{where}: {message}")
        else:
            lines.append(f"{where}: {item['input']!r}: {message[0].lower()}{message[1:]}")
    return lines


def _holder(annotation: Any, location: Sequence[int | str]) -> type[Frozen]:
    """The model that would hold the last key of an error's location."""
    if len(location) == 1:
        return cast("type[Frozen]", annotation)
    head, rest = location[0], location[1:]
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return _holder(annotation.model_fields[str(head)].annotation, rest)
    members = get_args(annotation)
    if get_origin(annotation) is dict:
        return _holder(members[1], rest)
    return _holder(next(m for m in members if head in get_args(m.model_fields["name"].annotation)), rest)


def _override(document: dict[str, Any], overrides: Iterable[str]) -> tuple[list[str], set[str]]:
    """Apply ``key=value`` to the document; the errors, and the keys that were set."""
    errors: list[str] = []
    keys: set[str] = set()
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if not equals or not key:
            errors.append(f"--set {override}: must be key=value, such as --set optimizer.lr=0.1")
            continue
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            errors.append(f"--set {override}: {text!r} is not a YAML value")
            continue
        *path, leaf = key.split(".", 1) if key.startswith("space.") else key.split(".")
        node: Any = document
        for part in path:
            if isinstance(node, dict):
                if node.get(part) is None:
                    node[part] = {}
                node = node[part]
        if not isinstance(node, dict):
            errors.append(f"--set {override}: {'.'.join(path)} is a value, not a section")
            continue
        node[leaf] = value
        keys.add(key)
    for section in ("optimizer", "schedule"):
        if f"{section}.name" in keys:
            _drop_foreign(document[section], section, keys)
    return errors, keys


def _drop_foreign(values: dict[str, Any], section: str, set_keys: Collection[str]) -> None:
    """Leave out what the file sets for the optimizer or schedule that another has taken the place of."""
    for member in get_args(TrialConfig.model_fields[section].annotation):
        if values["name"] in get_args(member.model_fields["name"].annotation):
            for key in values.keys() - member.model_fields.keys():
                if f"{section}.{key}" not in set_keys:
                    del values[key]


def _read(source: str) -> tuple[str, str]:
    """Name and text of a built-in experiment or of a file."""
    if source in built_in():
        return source, (BUILT_IN / f"{source}.yaml").read_text("utf-8")
    path = Path(source)
    try:
        found = path.is_file()
    except OSError:  # a name too long for a file
        found = False
    if not found:
        close = difflib.get_close_matches(source, built_in(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ExperimentError(source, [f"no such file, and no built-in experiment: {', '.join(built_in())}{hint}"])
    try:
        return path.stem, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(source, [f"cannot be read: {error}"]) from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number and a key may stand only once in a section."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse what YAML would silently overwrite."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"set twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?([eE][-+]?\d+)$"),
    list("-+0123456789"),
)


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, _Loader)
    except (ValueError, RecursionError) as error:
        raise ExperimentError(source, [f"is not YAML that can be read: {str(error)[:200]}"]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ExperimentError(source, [f"{line}{getattr(error, 'problem', None) or error}"]) from None
    if not isinstance(document, dict):
        raise ExperimentError(source, ["must be a YAML mapping with the sections of an experiment"])
    return document


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
