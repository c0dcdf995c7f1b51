"""Experiments: YAML files, built-in and users' own in the same form, read with all their errors at once.

The keys of a TrialConfig stand at the top of the file beside the study's own sections, so that a hyperparameter's path
in the file is its name everywhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from importlib import resources
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Self, cast, get_args, get_origin

from pydantic import Field, PositiveInt, ValidationError, ValidationInfo, field_validator, model_validator

from search_spaces import domains, spaces
from search_spaces.domains import Parameter, Space, SpaceError
from trainables import documents, fields, imports, old_keys
from trainables.config import (
    ADJUSTABLE,
    BETTER,
    SCOPES,
    DeadRun,
    Frozen,
    Mode,
    Objective,
    Recovery,
    TrialConfig,
    Used,
    declaration,
    flatten,
    members,
    metric_mode,
    nest,
)
from trainables.config.objective import declared
from trainables.errors import UserError, did_you_mean
from trainables.places import Place
from trainables.records import SIDES, SPLITS, Column, Columns

BUILT_IN = resources.files("study") / "experiments"
SMALLEST_POPULATION = 4
UNIONS = ("dataset", "model", "optimizer", "schedule")
TrackerName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
_METHOD_PART = re.compile(r"arms\.[^.]+\.(filter|selector)")
"""Sections of a trial that are of several kinds, each with keys of its own."""
DATA_PATH = "dataset.path"
LISTED = 10_000
"""Configurations of a grid or of a random search that are checked one by one."""
LONGEST_LIST = 1_000_000
"""Whole numbers of a domain that Optuna's Gaussian process can list; it takes memory for each."""
OBJECTIVE = "objective"
"""The word in ``scheduler.metric`` for what the search optimizes."""


class ExperimentError(UserError, ValueError):
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

    name: Literal["optuna", "random", "grid", "points"] = "optuna"
    sampler: Literal["tpe", "gp", "cmaes", "nsgaii", "random"] = Field(
        "tpe", description="Optuna's sampler; only with search.name optuna"
    )
    trials: PositiveInt | None = Field(None, description="configurations to try; a grid has as many as it has points")
    points: tuple[dict[str, domains.Scalar], ...] = Field(
        (), description="configurations to try first, as keys that differ; with search.name points the only ones"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    each: Literal["comparison", "arm"] = Field(
        "comparison",
        description="what is tuned: the comparison, by the objective; or the baseline and the treatment each on its "
        "own, by the METRIC of gap/METRIC, in turn and with half of the trials each; only with search.name optuna",
    )

    @field_validator("points", mode="before")
    @classmethod
    def _points_set_keys(cls, points: Any) -> Any:
        if not isinstance(points, list | tuple) or not all(map(_is_point, points)):
            raise ValueError("must be a list of points such as {optimizer.lr: 0.1, batch_size: 8}, by dotted keys")
        return points

    @field_validator("points")
    @classmethod
    def _values_are_those_that_a_configuration_holds(cls, points: tuple[dict[str, Any], ...]) -> tuple[Any, ...]:
        return tuple(
            {key: fields.held(key, value) for key, value in old_keys.dotted(point).items()} for point in points
        )

    @model_validator(mode="after")
    def _trials_are_known(self) -> Self:
        if self.name in ("grid", "points") and self.trials is not None:
            raise ValueError(f"search.name {self.name} runs every point; leave trials out, or use search.name random")
        if self.name in ("optuna", "random") and self.trials is None:
            raise ValueError(f"trials is missing: say how many configurations search.name {self.name} may try")
        if self.name == "grid" and self.points:
            raise ValueError("a grid has its own points; leave points out, or use search.name points")
        if self.name == "points" and not self.points:
            raise ValueError("search.name points needs points: a list of the keys to set in each comparison")
        return self


def _is_point(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, domains.Scalar) for one in value.values())


class Scheduler(Frozen):
    """Who stops comparisons early, or changes them in mid-run.

    ``asha``: Li et al. 2020, at rungs of grace_period x reduction_factor^k epochs. ``hyperband``: the same in several
    brackets, each with a longer grace period than the one before; with search.sampler tpe, which learns from stopped
    comparisons too, a model-based HyperBand in the manner of BOHB (Falkner et al. 2018). ``median``: Golovin et al.
    2017, stops what is worse than the median of the running means. ``pbt``: Jaderberg et al. 2017, stops none; every
    ``interval`` epochs the worst ``quantile`` goes on from the states of the best, with settings near theirs.

    A rule that stops comparisons chooses which of them have a final gap. One that looks at one arm alone flatters this
    arm, and one that looks at the gap flatters the gap. So a rule looks at the better of both arms unless told
    otherwise, and stops what does badly in both. ``pbt`` is a search, and looks at the objective.
    """

    name: Literal["none", "asha", "hyperband", "median", "pbt"] = "none"
    metric: str | None = Field(
        None,
        description="better/METRIC, gap/METRIC, ARM/METRIC or objective; left out: better/METRIC in what the objective "
        "measures, on validation data where there are some (of pbt: objective)",
    )
    grace_period: PositiveInt = Field(1, description="epochs that every comparison gets")
    reduction_factor: int = Field(3, ge=2, description="one comparison of this many goes on at each rung")
    brackets: int = Field(3, ge=2, description="of hyperband")
    min_samples: PositiveInt = Field(3, description="comparisons that median needs before it judges")
    interval: PositiveInt = Field(5, description="epochs between two changes of a population; of pbt")
    quantile: float = Field(0.25, gt=0, le=0.5, description="share that is replaced at each change; of pbt")

    @field_validator("metric", mode="before")
    @classmethod
    def _as_it_was(cls, metric: Any) -> Any:
        """A metric that is set to null is the objective: so it is written in studies of earlier versions."""
        return OBJECTIVE if metric is None else metric

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | None, info: ValidationInfo) -> str | None:
        if metric is not None and metric != OBJECTIVE:
            try:
                metric_mode(metric, declared(info.context))
            except ValueError as error:
                raise ValueError(f"{error}; or {BETTER}/METRIC or {OBJECTIVE}") from None
        return metric


class Resources(Frozen):
    """What one comparison occupies."""

    cpu: PositiveInt = Field(1, description="CPU threads")
    gpu: float = Field(0, ge=0, le=1, description="share of one GPU")
    cuda_graphs: bool = Field(True, description="whether a GPU records full batches once and replays them")
    deterministic: bool = Field(False, description="whether a GPU gives the same bits every time, at some speed")
    memory_gib: float | None = Field(None, gt=0, description="memory that a comparison may allocate; None: its share")


class Wandb(Frozen):
    """Logging to Weights & Biases, from the driver."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "filter-study"
    artifact: bool = Field(False, description="keep the exported tables as an artifact when the study has ended")


class Mlflow(Frozen):
    """Logging to MLflow, from the driver."""

    uri: str | None = Field(
        None,
        description="a tracking server, such as http://localhost:5000, or a folder for an SQLite file; None: none",
    )
    experiment: str = Field("filter-study", description="the MLflow experiment that runs belong to")


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
    seeds: PositiveInt = Field(1, description="comparisons of each configuration, on seeds from seed upwards")
    scheduler: Scheduler = Scheduler()
    dead_run: DeadRun = DeadRun()
    resources: Resources = Resources()
    recovery: Recovery = Recovery()
    wandb: Wandb = Wandb()
    tensorboard: bool = False
    mlflow: Mlflow = Mlflow()
    trackers: dict[TrackerName, Used] = Field(
        default_factory=dict, description="places of one's own that comparisons are shown at, by use:"
    )
    data_dir: str = "data"
    code: tuple[str, ...] = Field((), description="folders with code of one's own, relative to the experiment's file")
    storage: str | None = Field(None, description="folder or URI that every node can write; None: the study's own")
    trace: bool = Field(False, description="keep a record of every update, the table steps")
    smoke: dict[str, Any] = Field(default_factory=dict, description="keys to set for a trial run of under a minute")

    @field_validator("code", mode="before")
    @classmethod
    def _one_folder_is_a_list(cls, code: Any) -> Any:
        return (code,) if isinstance(code, str) else code

    @property
    def fixed(self) -> dict[str, Any]:
        """What all comparisons share: keys that are set and not searched, and defaults that a condition looks at."""
        return _fixed(self.trial, self.space)

    @property
    def points(self) -> list[dict[str, Any]]:
        """The points of the search, what they leave open as the file sets it."""
        return [domains.complete(self.space, _settings(self.trial, self.space), p) for p in self.search.points]

    @property
    def configurations(self) -> list[dict[str, Any]] | None:
        """Every configuration, where the search can list them beforehand; None for Optuna's.

        The first of a random search are the same however many it has.
        """
        if self.search.name == "optuna":
            return None
        points = self.points
        if self.search.name == "random":
            assert self.search.trials is not None
            rng = Random(self.search.seed)
            drawn = [domains.sample(self.space, self.fixed, rng) for _ in range(self.search.trials)]
            return [*points, *drawn][: self.search.trials]
        return points or domains.grid(self.space, self.fixed)

    @property
    def trials(self) -> int:
        """How many comparisons the search runs at most: every configuration on every seed."""
        return self.seeds * (self.search.trials or len(self.configurations or ()))

    @property
    def scheduled(self) -> tuple[str, Literal["max", "min"]]:
        """The metric that the scheduler looks at (``objective`` is the search's own), and its mode."""
        metric = self.scheduler.metric or OBJECTIVE
        return metric, self.modes[0] if metric == OBJECTIVE else metric_mode(metric, self.columns)

    @property
    def columns(self) -> Columns:
        """The columns of its epoch table, those of its own metrics included."""
        return _columns(self.trial)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Whether each objective's largest or smallest value is best."""
        return self.objective.modes(self.columns)

    @property
    def each(self) -> dict[str, Mode]:
        """Where each arm is tuned on its own, what its search optimizes: ``ARM/METRIC`` of baseline and treatment.

        With whether the largest or smallest value is best.
        """
        if self.search.each == "comparison":
            return {}
        config = TrialConfig.from_dotted(self.corners()[0])
        column = self.objective.metrics[0].partition("/")[2]
        names = f"{config.baseline}/{column}", f"{config.treatment}/{column}"
        return {name: metric_mode(name, self.columns) for name in names}

    def proposed_by(self, number: int) -> str | None:
        """The side whose own search proposes the comparison with this number; None where one search has both."""
        return None if self.search.each == "comparison" else SIDES[number // self.seeds % len(SIDES)]

    @property
    def explored(self) -> dict[str, Parameter]:
        """What of the space a population may change in mid-run."""
        return {key: parameter for key, parameter in self.space.items() if key in ADJUSTABLE}

    @property
    def longest(self) -> int:
        """Epochs of the longest comparison."""
        return max(TrialConfig.from_dotted(corner).epochs for corner in self.corners())

    @property
    def cost(self) -> int:
        """Epochs that the study trains at most, every arm's counted."""
        if self.search.name in ("grid", "points"):
            configs = [TrialConfig.from_dotted(point) for point in self.configurations or ()]
            return self.seeds * sum(config.epochs * len(config.arms) for config in configs)
        configs = [TrialConfig.from_dotted(corner) for corner in self.corners()]
        return self.trials * max(config.epochs * len(config.arms) for config in configs)

    @property
    def validated(self) -> bool:
        """Whether every comparison that the search can propose has validation data."""
        return all(TrialConfig.from_dotted(corner).dataset.validation_fraction > 0 for corner in self.corners())

    @property
    def extent(self) -> str:
        """How much there is to train, in words."""
        return f"{self.trials} comparisons, up to {self.cost:,} epochs over all arms"

    def corners(self) -> list[dict[str, Any]]:
        """Configurations that show whether every value the search can take is valid."""
        if self.search.name == "points":
            return self.points
        return [*self.points, *domains.corners(self.space, self.fixed, Random(0))] or [self.fixed]

    def alone(self) -> Experiment:
        """The one comparison of the experiment's own settings, nothing searched and nothing stopped."""
        single = {"space": {}, "search": Search(name="grid"), "seeds": 1, "scheduler": Scheduler(), "smoke": {}}
        return self.model_copy(update=single)

    def to_yaml(self) -> str:
        """The experiment with every default spelled out, as a file that reads back as the same experiment."""
        document = self.model_dump(mode="json", exclude={"trial", "space", "name", "smoke"})
        about = document.pop("about")
        space = {key: parameter.model_dump(mode="json", exclude_defaults=True) for key, parameter in self.space.items()}
        smoke = {"smoke": self.smoke} if self.smoke else {}
        return documents.dump({"about": about, **nest(self.trial), "space": space, **document, **smoke})


STUDY_SECTIONS = frozenset(Experiment.model_fields) - {"name", "trial"}


def built_in() -> list[str]:
    """Names of the experiments that come with the program."""
    return sorted(path.name.removesuffix(".yaml") for path in BUILT_IN.iterdir() if path.name.endswith(".yaml"))


def load(
    source: str,
    overrides: Iterable[str] = (),
    smoke: bool = False,
    begun: bool = False,
    code: Sequence[str] = (),
    unchecked: bool = False,
) -> Experiment:
    """The experiment ``source``: a built-in name or a YAML file, with ``overrides`` of the form ``key=value``.

    With ``smoke``, the keys of its section of that name are set first. ``begun`` and ``unchecked`` as for
    :func:`from_document`. ``code`` are further folders with code of one's own.

    Raises:
        ExperimentError: with every error at once.
    """
    name, text = _read(source)
    document = _parse(text, source)
    sections = {key: value for key, value in document.items() if key in STUDY_SECTIONS}
    document = sections | nest(_trial(document, source))
    errors: list[str] = []
    settings = _smoke(document, source) if smoke else []
    settings += _stated(overrides, errors)
    pinned = _set(document, settings, errors)
    home = Path() if "code" in pinned or source in built_in() else Path(source).parent
    document = _with_code(document, home, code)
    try:
        experiment = _rooted(from_document(name, document, pinned, begun, unchecked))
    except ExperimentError as error:
        raise ExperimentError(source, errors + error.errors) from None
    if errors:
        raise ExperimentError(source, errors)
    return experiment


def _rooted(experiment: Experiment) -> Experiment:
    """The experiment with every path of a data set made absolute, seen from the working directory; URIs stay.

    So a configuration is recorded the same wherever a study goes on. A path among the options of code of one's own is
    left to that code.

    Raises:
        ExperimentError: a path leads nowhere.
    """
    if "dataset.use" in experiment.trial:
        return experiment

    def absolute(key: str, value: Any) -> Any:
        return Place.of(value).root if key == DATA_PATH and isinstance(value, str) else value

    def rooted(parameter: Parameter, key: str) -> Parameter:
        choice = parameter.choice and tuple(absolute(key, value) for value in parameter.choice)
        when = {looked: tuple(absolute(looked, one) for one in values) for looked, values in parameter.when.items()}
        return parameter.model_copy(update={"choice": choice, "when": when})

    try:
        trial = {key: absolute(key, value) for key, value in experiment.trial.items()}
        space = {key: rooted(parameter, key) for key, parameter in experiment.space.items()}
        points = tuple({key: absolute(key, value) for key, value in one.items()} for one in experiment.search.points)
    except ValueError as error:
        raise ExperimentError(experiment.name, [f"{DATA_PATH}: {error}"]) from None
    search = experiment.search.model_copy(update={"points": points})
    return experiment.model_copy(update={"trial": trial, "space": space, "search": search})


def _with_code(document: Mapping[str, Any], home: Path, more: Sequence[str]) -> dict[str, Any]:
    """The document with the folders of code that it names, seen from ``home``, and ``more``, all absolute."""
    named = document.get("code") or ()
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list | tuple) or not all(isinstance(folder, str) for folder in named):
        return dict(document)  # which is refused as what it is
    folders = [(home / Path(folder).expanduser()).absolute() for folder in named]
    folders += [Path(folder).expanduser().absolute() for folder in more]
    return {**document, **({"code": [str(folder) for folder in dict.fromkeys(folders)]} if folders else {})}


def from_document(
    name: str, document: Mapping[str, Any], pinned: Collection[str] = (), begun: bool = False, unchecked: bool = False
) -> Experiment:
    """The experiment that a parsed YAML document describes; keys in ``pinned`` are taken out of its space.

    A study that has ``begun`` goes on although its space has a few configurations that cannot be: these will fail. One
    that is ``unchecked`` is only looked at: its configurations are not made, so that no code of one's own is needed.

    Raises:
        ExperimentError: with every error at once.
    """
    sections = {key: value for key, value in document.items() if key in STUDY_SECTIONS}
    errors: list[str] = []
    trial = _trial(document, name)
    if not unchecked:
        _provide(sections.get("code") or (), errors)  # reading a configuration imports its methods and optimizers
    if not begun:
        trial = _declared(trial, errors)
    space = _space(sections.pop("space", None) or {}, errors)
    space = _unpinned(space, trial, pinned)
    sections.setdefault("search", {})
    try:
        values = {"name": name, "trial": trial, "space": dict(space), **sections}
        experiment = Experiment.model_validate(values, context={"columns": _columns(trial)})
    except ValidationError as error:
        errors += describe(error, Experiment)
        experiment = None
    if not unchecked:
        errors += _trial_errors(trial, space, experiment.search.points if experiment else (), begun)
    if errors or experiment is None:
        raise ExperimentError(name, errors)
    if unchecked:
        return experiment
    experiment = _with_scheduled(experiment)
    errors = [*_clashes(experiment), *([] if begun else [*_twins(experiment), *_listed_errors(experiment)])]
    if errors:
        raise ExperimentError(name, errors)
    return experiment


def _trial(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The dotted keys of a configuration that the document sets, each value as a configuration holds it."""
    try:
        stated = flatten(nest(flatten({k: v for k, v in document.items() if k not in STUDY_SECTIONS})))
        trial = flatten(nest(old_keys.dotted(stated)))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ExperimentError(source, [f"the settings are not sections with named keys: {error}"]) from None
    return {key: fields.held(key, value) for key, value in trial.items()}


def _columns(trial: Mapping[str, Any]) -> Columns:
    """The columns of comparisons whose settings are these; where a metric is not valid, some that stand for its own."""
    own: list[Column] = []
    for name in dict.fromkeys(key.split(".")[1] for key in trial if key.startswith("metrics.")):
        section = {key: value for key, value in trial.items() if f"{key}.".startswith(f"metrics.{name}.")}
        try:
            added = TrialConfig.from_dotted(section).columns.own
        except ValueError:  # which is told elsewhere: what looks at the metric is not to be refused as well
            added = tuple(Column(f"{split}_{name}", "float", "", "", 1) for split in SPLITS)
        with contextlib.suppress(ValueError):
            own = list(Columns((*own, *added)).own)
    return Columns(tuple(own))


def _provide(code: Any, errors: list[str]) -> None:
    """Let modules be found in the folders of code of one's own."""
    folders = [code] if isinstance(code, str) else list(code) if isinstance(code, list | tuple) else []
    try:
        imports.provide(list(map(str, folders)))
    except imports.CodeError as error:
        errors.append(str(error))


def _declared(trial: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """The settings with the direction, unit and meaning that functions of own metrics declare of themselves."""
    completed = dict(trial)
    for key, use in trial.items():
        section = key.removesuffix(".use")
        if section == key or not section.startswith("metrics.") or section.count(".") > 1:
            continue
        try:
            said = declaration(imports.find(str(use), "metrics"))
        except imports.CodeError as error:
            errors.append(f"{key}: {error}")
            completed.setdefault(f"{section}.direction", "max")  # so that what looks at it is not refused as well
            continue
        own = {
            name for name in said if any(k == f"{section}.{name}" or k.startswith(f"{section}.{name}.") for k in trial)
        }
        completed |= flatten({name: value for name, value in said.items() if name not in own}, f"{section}.")
        if not any(k == f"{section}.direction" or k.startswith(f"{section}.direction.") for k in completed):
            errors.append(
                f"{section}.direction: is missing: say which values are better, max, min or none, here or by "
                f"@metric(...) on {use}"
            )
    return completed


def _with_scheduled(experiment: Experiment) -> Experiment:
    """The experiment with the metric that its scheduler looks at, where the file leaves that out."""
    scheduler = experiment.scheduler
    if scheduler.metric is not None:
        return experiment
    metric = OBJECTIVE if scheduler.name == "pbt" else _symmetric(experiment)
    return experiment.model_copy(update={"scheduler": scheduler.model_copy(update={"metric": metric})})


def _symmetric(experiment: Experiment) -> str:
    """What the objective measures, of the better arm, on data that are no test; accuracy where it measures a clock."""
    columns = [metric.partition("/")[2] for metric in experiment.objective.metrics]
    measured = [column.partition("_")[2] for column in columns if column in experiment.columns.evaluations]
    statistic = next(iter(measured), "accuracy")
    return f"{BETTER}/{'validation' if experiment.validated else 'train'}_{statistic}"


def _clashes(experiment: Experiment) -> list[str]:
    """What does not go together in an experiment whose parts are valid."""
    errors = [
        *_metric_errors(experiment),
        *_own_metric_errors(experiment),
        *_sampler_errors(experiment),
        *_each_errors(experiment),
        *_population_errors(experiment),
    ]
    search, scheduler = experiment.search, experiment.scheduler
    try:
        experiment.trials  # noqa: B018
    except SpaceError as error:
        errors.append(f"space: {error}")
    if scheduler.name != "none" and scheduler.grace_period > experiment.longest:
        errors.append(
            f"scheduler.grace_period: {scheduler.grace_period} is more than the {experiment.longest} epochs "
            "of a comparison; lower it, or set scheduler.name to none"
        )
    if scheduler.name == "hyperband":
        last = scheduler.grace_period * scheduler.reduction_factor ** (scheduler.brackets - 1)
        if last > experiment.longest:
            errors.append(
                f"scheduler.brackets: {scheduler.brackets}: the last bracket would start at epoch {last} of "
                f"{experiment.longest}; have fewer, or a smaller grace_period or reduction_factor, or use asha"
            )
    if experiment.dead_run.epochs and experiment.dead_run.epochs > experiment.longest:
        errors.append(
            f"dead_run.epochs: {experiment.dead_run.epochs} is more than the {experiment.longest} epochs there are"
        )
    if search.name in ("optuna", "random") and not experiment.space and (search.trials or 0) > 1:
        errors.append(
            "space: nothing is searched, so every comparison would be the same; give a space, or search.name grid"
        )
    if experiment.seeds > 1 and ("seed" in experiment.space or any("seed" in point for point in search.points)):
        errors.append(f"seeds: {experiment.seeds}: seed is searched too; leave out one of them")
    return errors


def _twins(experiment: Experiment) -> list[str]:
    """The points that would run the comparison of another point again, bit by bit."""
    points = [TrialConfig.from_dotted(point) for point in experiment.points]
    return [
        f"search.points: number {place + 1} is the same comparison as number {points.index(point) + 1}; leave one out "
        "(seeds has several comparisons of each configuration)"
        for place, point in enumerate(points)
        if point in points[:place]
    ]


def _own_metric_errors(experiment: Experiment) -> list[str]:
    """What of an own metric is searched and must be the same in all comparisons, for the table has one column of it."""
    fixed = ("use", "direction", "unit", "meaning")
    searched = {f"space.{key}": key for key in experiment.space}
    searched |= {f"search.points: {key}": key for point in experiment.search.points for key in point}
    return [
        f"{where}: is the same in all comparisons of a study; set it once, or declare two metrics"
        for where, key in searched.items()
        if (parts := key.split("."))[0] == "metrics" and len(parts) > 2 and parts[2] in fixed
    ]


def _metric_errors(experiment: Experiment) -> list[str]:
    errors = []
    arms = TrialConfig.from_dotted(experiment.corners()[0]).arms
    looked_at = [("objective", metric) for metric in experiment.objective.metrics]
    scheduler = experiment.scheduler
    unused = scheduler.name == "none" and scheduler.metric == _symmetric(experiment)  # the default, looked at by nobody
    if scheduler.metric not in (None, OBJECTIVE) and not unused:
        looked_at.append(("scheduler", str(scheduler.metric)))
    for where, metric in looked_at:
        scope, _, column = metric.partition("/")
        if scope not in (*SCOPES, *arms):
            errors.append(
                f"{where}.metric: {scope!r} is no arm of this experiment; set it to "
                f"{f'{BETTER}/METRIC, ' if where == 'scheduler' else ''}gap/METRIC or to a metric of {', '.join(arms)}"
            )
        if column.startswith("validation_") and not experiment.validated:
            errors.append(
                f"{where}.metric: {metric!r} needs a validation set, and dataset.validation_fraction is 0; "
                "set it above 0, or take a train_ or test_ metric"
            )
        if column.startswith("train_") and (values := _train_evaluations(experiment) - {1}):
            errors.append(
                f"{where}.metric: {metric!r} is to be known after every epoch, and evaluate.train is {_one(values)}; "
                "set it to 1, or take a validation_ metric"
            )
    seldom = _train_evaluations(experiment) - {1, "running"}
    if seldom and experiment.objective.baseline_floor > 0 and not experiment.validated:
        errors.append(
            f"objective.baseline_floor: {experiment.objective.baseline_floor} is asked of training accuracy where "
            f"dataset.validation_fraction is 0, and evaluate.train is {_one(seldom)}; set evaluate.train to 1 or "
            "running, or hold out a validation set"
        )
    if scheduler.name != "none" and scheduler.metric == OBJECTIVE and len(experiment.objective.metrics) > 1:
        errors.append(
            f"scheduler.metric: {OBJECTIVE}: {scheduler.name} needs one number, and there are several objectives; set "
            f"it, for instance to {_symmetric(experiment)}"
        )
    return errors


def _sampler_errors(experiment: Experiment) -> list[str]:
    """Why the sampler cannot search this space, or not with this scheduler."""
    search, scheduler = experiment.search, experiment.scheduler
    if search.name != "optuna":
        return []
    errors = []
    for point, whole in zip(search.points, experiment.points, strict=True):
        foreign = [key for key in point if key not in experiment.space]
        errors += [f"search.points: {key} is not searched; leave it out, or use search.name points" for key in foreign]
        for key, parameter in experiment.space.items():
            if key in whole and not parameter.contains(whole[key]):
                where = "" if key in point else ", as the file sets it,"
                errors.append(f"search.points: {key}: {whole[key]!r}{where} is not in the space")
    if search.sampler == "gp":
        errors += [
            f"space.{key}: integer: {list(parameter.whole_bounds)}: search.sampler gp lists every number between the "
            f"bounds, up to {LONGEST_LIST:,}; narrow them, or use tpe"
            for key, parameter in experiment.space.items()
            if parameter.integer is not None and domains.count(parameter) > LONGEST_LIST
        ]
    if search.sampler == "cmaes":
        unfit = [key for key, parameter in experiment.space.items() if parameter.choice is not None or parameter.when]
        if unfit:
            errors.append(
                f"search.sampler: cmaes searches numbers that always exist, and {', '.join(unfit)} is a choice or "
                "conditional; use tpe"
            )
        if len(experiment.objective.metrics) > 1:
            errors.append("search.sampler: cmaes has one objective; use nsgaii or tpe for several")
    if search.sampler in ("gp", "cmaes", "nsgaii") and scheduler.name != "none":
        errors.append(
            f"search.sampler: {search.sampler} learns from complete comparisons alone, and scheduler.name "
            f"{scheduler.name} stops most of them; use tpe, or scheduler.name none"
        )
    return errors


def _each_errors(experiment: Experiment) -> list[str]:
    """Why the arms cannot be tuned each on its own."""
    search, scheduler, metrics = experiment.search, experiment.scheduler, experiment.objective.metrics
    if search.each == "comparison":
        return []
    errors = []
    if search.name != "optuna" or search.sampler == "random":
        which = f"sampler {search.sampler}" if search.name == "optuna" else f"name {search.name}"
        errors.append(
            f"search.each: arm: search.{which} does not learn from what it has tried, so it tunes no arm; leave "
            "search.each out, or use search.name optuna with sampler tpe, gp or nsgaii"
        )
    elif search.sampler == "cmaes":
        errors.append(
            "search.each: arm: search.sampler cmaes learns only from its own proposals, and each arm's search is to "
            "learn from both's; use tpe, gp or nsgaii"
        )
    if (search.trials or 0) % 2:
        errors.append(
            f"search.trials: {search.trials}: with search.each arm baseline and treatment propose in turn, as many "
            "configurations each; make it even"
        )
    scope, _, column = metrics[0].partition("/")
    if len(metrics) > 1 or scope != "gap" or column not in experiment.columns.evaluations:
        errors.append(
            f"objective.metric: {', '.join(metrics)}: with search.each arm each arm is tuned by its own METRIC of "
            "gap/METRIC; set it to the gap of one accuracy, loss or metric of your own, such as gap/validation_accuracy"
        )
    elif column.startswith("test_"):
        errors.append(
            f"objective.metric: {metrics[0]}: with search.each arm each arm would be tuned on the test set, on which "
            "the tuned arms are to be compared; take a validation_ metric, or a train_ metric where nothing is held out"
        )
    errors += [
        f"space.{side}: with search.each arm the arm that is tuned is the same in all comparisons; set it once"
        for side in SIDES
        if side in experiment.space
    ]
    if scheduler.name != "none" and not str(scheduler.metric).startswith(f"{BETTER}/"):
        errors.append(
            f"scheduler.metric: {scheduler.metric}: does not look at both arms alike, and would favour one arm's "
            f"search; with search.each arm leave it out, or set it to {BETTER}/METRIC"
        )
    return errors


def _population_errors(experiment: Experiment) -> list[str]:
    """Why the comparisons cannot be a population, whose members take over one another's state."""
    search, scheduler = experiment.search, experiment.scheduler
    if scheduler.name != "pbt":
        return []
    errors = []
    if experiment.seeds > 1:
        errors.append(
            f"seeds: {experiment.seeds}: scheduler.name pbt changes every comparison by itself, so that those of one "
            "configuration would part; set it to 1, and search seed if the population is to have several"
        )
    if scheduler.interval >= experiment.longest:
        errors.append(
            f"scheduler.interval: {scheduler.interval}: pbt would change nothing before the last of "
            f"{experiment.longest} epochs; lower it"
        )
    errors += [
        f"space.{key}: scheduler.name pbt changes settings in mid-run, and can change {', '.join(ADJUSTABLE)} alone, "
        "without a condition; set it instead of searching it"
        for key, parameter in experiment.space.items()
        if key not in (*ADJUSTABLE, "seed") or parameter.when
    ]
    if not experiment.explored:
        errors.append(f"space: scheduler.name pbt has nothing to change; search one of {', '.join(ADJUSTABLE)}")
    try:
        configurations = experiment.configurations
    except SpaceError:  # told already
        return errors
    if configurations is None:
        return [
            *errors,
            f"scheduler.name: pbt changes settings in mid-run, which search.name {search.name} would not know of; use "
            "random, grid or points",
        ]
    if len(configurations) < SMALLEST_POPULATION:
        errors.append(
            f"search: {len(configurations)} configurations are no population; scheduler.name pbt needs "
            f"{SMALLEST_POPULATION} or more"
        )
    settings = [TrialConfig.from_dotted(configuration).to_dotted() for configuration in configurations]
    differing = {key for values in settings for key in values if values[key] != settings[0].get(key)}
    errors += [
        f"search.points: {key} differs, and with scheduler.name pbt comparisons take over one another's state; give "
        "all points the same"
        for key in sorted(differing - {*ADJUSTABLE, "seed", *experiment.space})
    ]
    return errors


def _unpinned(space: Space, trial: Mapping[str, Any], pinned: Collection[str]) -> Space:
    """The space without the keys, or keys of sections, that are pinned; where one is conditional, it stays so."""
    sections = tuple(f"{key}." for key in pinned)
    left = {}
    for key, parameter in space.items():
        if key in pinned and parameter.when and key in trial and isinstance(trial[key], domains.Scalar):
            left[key] = Parameter(choice=(trial[key],), when=parameter.when)
        elif key not in pinned and not key.startswith(sections):
            left[key] = parameter
    return left


def _settings(trial: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The file's settings, and the defaults that a condition looks at."""
    return _looked_at(trial, space) | dict(trial)


def _looked_at(trial: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The defaults that a condition looks at: what the file's own comparison holds where nothing is set or searched."""
    keys = {key for parameter in space.values() for key in parameter.when} - space.keys() - trial.keys()
    if not keys:
        return {}
    try:
        defaults = TrialConfig.from_dotted(trial).to_dotted()
    except ValueError:  # which is told elsewhere
        defaults = TrialConfig().to_dotted()
    return {key: defaults[key] for key in sorted(keys & defaults.keys())}


def _fixed(trial: Mapping[str, Any], space: Space) -> dict[str, Any]:
    return {key: value for key, value in _settings(trial, space).items() if key not in space}


def _train_evaluations(experiment: Experiment) -> set[int | str]:
    return {TrialConfig.from_dotted(corner).evaluate.train for corner in experiment.corners()}


def _one(values: set[int | str]) -> str:
    return " or ".join(sorted(map(str, values)))


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
            own[old_keys.key(key)] = domains.domain(old_keys.key(key), value)
        except ValidationError as error:
            errors += describe(error, Parameter, f"space.{key}")
    try:
        return domains.merge(*parts, own)
    except SpaceError as error:
        errors.append(f"space: {error}")
        return {}


def _trial_errors(
    trial: Mapping[str, Any], space: Space, points: Iterable[Mapping[str, Any]], begun: bool
) -> list[str]:
    """What is wrong with the settings themselves, or with any configuration that the search can propose."""
    fixed, settings, defaults = _fixed(trial, space), _settings(trial, space), _looked_at(trial, space)
    try:
        tried = [domains.complete(space, settings, point) for point in points]
        corners = list(domains.corners(space, fixed, Random(0)))
        others = [] if begun else domains.candidates(space, fixed, Random(0))
    except SpaceError as error:
        return [f"space: {error}"]
    errors = [line for candidate in (trial, *tried) for line in _refusal(candidate)]
    known = {line.partition(":")[0] for line in errors}
    drawn = _refusals((*corners, *others), space, defaults)
    errors += [line for place, line in drawn.items() if place not in known]
    if errors or begun:
        return errors
    return [line for candidate in (*tried, *corners) for line in _unheld(candidate, space, defaults)]


def _refusals(drawn: Iterable[Mapping[str, Any]], space: Space, defaults: Mapping[str, Any]) -> dict[str, str]:
    """Why configurations that a search can propose cannot be: the first line for each place in the file."""
    errors: dict[str, str] = {}
    for values in drawn:
        for line in _refusal(_without(values, defaults)):
            place = line.partition(":")[0]
            errors.setdefault(place, line + _drawn(place, space, values))
    return errors


def _listed_errors(experiment: Experiment) -> list[str]:
    """Why a configuration of a search that lists them beforehand cannot be; of very many, the first are looked at."""
    try:
        listed = experiment.configurations or []
    except SpaceError:  # told already
        return []
    defaults = _looked_at(experiment.trial, experiment.space)
    return list(_refusals(listed[:LISTED], experiment.space, defaults).values())


def _refusal(values: Mapping[str, Any]) -> list[str]:
    """Why the values are no configuration."""
    try:
        TrialConfig.from_dotted(values)
    except ValidationError as error:
        return describe(error, TrialConfig)
    except ValueError as error:
        return [str(error)]
    return []


def _drawn(place: str, space: Space, values: Mapping[str, Any]) -> str:
    """What a search has drawn for a section whose values do not suit one another; nothing for a single value."""
    section = "" if place == "experiment" else f"{place}."
    drawn = [f"{key} {values[key]!r}" for key in space if key in values and key.startswith(section)]
    if not drawn or fields.kinds(place):
        return ""
    return f"; the search can propose {', '.join(drawn)}: leave out a value, or give a key a condition (when)"


def _unheld(values: Mapping[str, Any], space: Space, defaults: Mapping[str, Any]) -> list[str]:
    """Where a configuration holds something else than what is searched for, or what a condition looks at."""
    held = TrialConfig.from_dotted(_without(values, defaults)).to_dotted()
    looked_at = {key for parameter in space.values() for key in parameter.when}
    errors = []
    for key in sorted((space.keys() | looked_at) & values.keys()):
        if key in defaults and held.get(key) != values[key]:
            errors.append(f"space: a condition looks at {key}, whose default differs between configurations; set {key}")
        elif held.get(key) != values[key]:
            where = f"space.{key}" if key in space else key
            errors.append(f"{where}: {values[key]!r} is held as {held.get(key)!r}; say what is held")
    return errors


def _without(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def describe(error: ValidationError, model: type[Frozen], prefix: str = "") -> list[str]:
    """Pydantic's errors as lines ``path: value: what is allowed``, with the nearest known key for an unknown one."""
    lines = []
    for item in error.errors():
        location = item["loc"]
        tagged = location and location[0] in UNIONS  # then the second part names the union's member
        path = [*location[:1], *location[2:]] if tagged else list(location)
        if fields.kinds(".".join(map(str, path[:-1]))):  # then the last part names the member of a value's union
            path.pop()
        where = ".".join(filter(None, (prefix, *map(str, path)))) or "experiment"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = sorted(_holder(model, location).model_fields)
            if model is TrialConfig and len(path) == 1:
                known = sorted([*known, *STUDY_SECTIONS])
            hint = did_you_mean(path[-1], known, all_known := f"known here: {', '.join(known)}")
            member = f" of {location[1]}" if tagged and location[1] != "built_in" and hint == all_known else ""
            lines.append(f"{where}: unknown key{member}; {hint}")
        elif item["type"] in ("unnamed", "unknown_option"):
            lines.append(f"{where}: {message}")
        elif item["type"] == "missing":
            lines.append(f"{where}: is missing")
        elif item["type"] == "union_tag_invalid":
            names = item["ctx"]["expected_tags"].removesuffix(", 'use'")
            own = "; or use: module:name, without a name, for code of one's own" * (
                names != item["ctx"]["expected_tags"]
            )
            lines.append(f"{where}.name: {item['ctx']['tag']!r}: must be one of {names}{own}")
        elif item["type"] in ("dict_type", "model_type", "model_attributes_type", "union_tag_not_found"):
            empty = "; {} has all defaults" if item["input"] is None else ""
            lines.append(f"{where}: {_short(item['input'])}: must be a section with keys of its own{empty}")
        elif item["type"] == "value_error" and isinstance(item["input"], Mapping | Frozen):
            lines.append(f"{where}: {message}")
        else:
            number = item["type"] == "string_type" and isinstance(item["input"], bool | int | float)
            quotes = "; put it in quotes" if number else ""
            lines.append(f"{where}: {_short(item['input'])}: {message[0].lower()}{message[1:]}{quotes}")
    return lines


def _short(value: Any) -> str:
    """The value, or its ends where it is too long for a line."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:60]}…{text[-20:]}"


def _holder(annotation: Any, location: Sequence[int | str]) -> type[Frozen]:
    """The model that would hold the last key of an error's location."""
    if len(location) == 1:
        return cast("type[Frozen]", annotation)
    head, rest = location[0], location[1:]
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return _holder(annotation.model_fields[str(head)].annotation, rest)
    if get_origin(annotation) is dict:
        return _holder(get_args(annotation)[1], rest)
    return _holder(members(annotation)[str(head)], rest)


class _Setting(NamedTuple):
    """A key that is set over what the file says, and where that is said."""

    where: str
    key: str
    value: Any


def _smoke(document: Mapping[str, Any], source: str) -> list[_Setting]:
    section = document.get("smoke")
    if not isinstance(section, Mapping):
        raise ExperimentError(source, ["--smoke: the experiment has no section smoke with the keys to set"])
    return [_Setting(f"smoke.{key}", key, value) for key, value in section.items()]


def _stated(overrides: Iterable[str], errors: list[str]) -> list[_Setting]:
    """What ``key=value`` says, one after the other."""
    settings: list[_Setting] = []
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        where = f"--set {override}"
        if not equals or not key:
            errors.append(f"{where}: must be key=value, such as --set optimizer.lr=0.1")
        elif not text:
            errors.append(f"{where}: has no value; write {key}=null for none, {key}=\"''\" for an empty text")
        elif any(setting.key == key for setting in settings):
            errors.append(f"{where}: {key} is set twice; leave one out")
        else:
            try:
                settings.append(_Setting(where, key, documents.parse(text)))
            except documents.DocumentError as error:
                errors.append(f"{where}: {str(error).removeprefix('line 1: ')}")
    return settings


def _set(document: dict[str, Any], settings: Iterable[_Setting], errors: list[str]) -> set[str]:
    """Apply the settings to the document; the keys that were set."""
    keys: set[str] = set()
    for where, stated, value in settings:
        key = stated if isinstance(value, Mapping) else old_keys.key(stated)
        *path, leaf = key.split(".", 1) if key.startswith("space.") else key.split(".")
        node: Any = document
        for part in path:
            if isinstance(node, dict):
                if node.get(part) is None:
                    node[part] = {}
                node = node[part]
        if not isinstance(node, dict):
            errors.append(f"{where}: {'.'.join(path)} is a value, not a section")
            continue
        node[leaf] = value
        keys.add(key)
    for section in sorted({key.rpartition(".")[0] for key in keys if key.endswith((".name", ".use"))}):
        if section in UNIONS or _METHOD_PART.fullmatch(section):
            _drop_foreign(_at(document, section), section, keys)
            keys |= {f"{section}.name", f"{section}.use"}  # a search for another is over
    return keys


def _at(document: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The section of a document that a dotted name leads to."""
    return reduce(lambda node, part: node[part], section.split("."), cast("dict[str, Any]", document))


def _drop_foreign(values: dict[str, Any], section: str, set_keys: Collection[str]) -> None:
    """Leave out the file's options of the model, optimizer, selector … that another has taken the place of."""
    own = f"{section}.use" in set_keys and values.get("use") is not None
    name = values.get("name")
    options = fields.options(section, name if isinstance(name, str) and not own else None)
    for key in values.keys() - options if options else ():
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
        hint = did_you_mean(source, built_in(), "filter-study ls lists them")
        raise ExperimentError(source, [f"no such file, and no built-in experiment: {', '.join(built_in())}; {hint}"])
    try:
        return path.stem, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(source, [f"cannot be read: {error}"]) from None


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        document = documents.parse(text)
    except documents.DocumentError as error:
        raise ExperimentError(source, [str(error)]) from None
    if not isinstance(document, dict):
        raise ExperimentError(source, ["must be a YAML mapping with the sections of an experiment"])
    return document
