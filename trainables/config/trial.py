"""One comparison: everything that its arms share, and their methods."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from trainables import old_keys
from trainables.config.base import Frozen
from trainables.config.budget import Allotment, BudgetConfig
from trainables.config.built_in import ARMS
from trainables.config.dataset import AnyDataset, BuiltIn
from trainables.config.dotted import flatten, nest
from trainables.config.method import MethodConfig, with_defaults
from trainables.config.metric import MetricConfig
from trainables.config.model import AnyModel, ModelConfig
from trainables.config.optimizer import SGD, OptimizerConfig
from trainables.config.schedule import Constant, ScheduleConfig
from trainables.records import BUILT_IN, Columns


class EvaluationConfig(Frozen):
    """How often the training set is measured; validation and test sets are measured after every epoch."""

    train: PositiveInt | Literal["running"] = Field(
        1,
        description="every how many epochs, beside the first and the last: 1 is the thesis's protocol; running: never, "
        "train metrics are those of training's own forward passes instead (of its probes, where an arm probes)",
    )

    batchnorm: Literal["running", "reestimated"] = Field(
        "running",
        description="statistics that batch normalization evaluates with: those of training's batches, or of clean "
        "training images, measured before every evaluation",
    )

    @property
    def every(self) -> int:
        """Every how many epochs there are train metrics."""
        return 1 if self.train == "running" else self.train

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether the training set is measured after ``epoch`` of ``epochs``, counted from 0, which always is."""
        return epoch == 0 or (self.train != "running" and (epoch % self.train == 0 or epoch == epochs))


BETTER = "better"


SCOPES: Mapping[str, str] = {
    "gap": "how gaps are reported",
    BETTER: "the better of baseline and treatment in a metric",
}
"""What can stand before a metric in the place of an arm."""


MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_+-]*$")]


class TrialConfig(Frozen):
    """One comparison: the arms share everything here but their method."""

    dataset: AnyDataset = BuiltIn()
    model: AnyModel = ModelConfig()
    augmentation: Literal["none", "standard", "thesis"] | None = Field(
        None, description="None: that of section 4.2.3 for CIFAR, none for all other data"
    )
    optimizer: OptimizerConfig = SGD()
    schedule: ScheduleConfig = Constant()
    batch_size: PositiveInt = 1024
    epochs: PositiveInt = 300
    budget: BudgetConfig = Field(
        BudgetConfig(), description="what every arm may spend; its rows fall at equal shares, as many as epochs says"
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description="arithmetic of every arm's forward and backward passes; tf32 is for CUDA alone"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="of the training loss alone; probes and evaluations measure plain cross-entropy"
    )
    evaluate: EvaluationConfig = EvaluationConfig()
    metrics: dict[MetricName, MetricConfig] = Field(
        default_factory=dict, description="metrics of one's own, beside those that are always measured"
    )
    seed: int = Field(0, ge=0, description="of initial weights, order and augmentation, shared by all arms")
    arms: dict[ArmName, MethodConfig] = Field(
        default_factory=lambda: {name: MethodConfig.model_validate(ARMS[name]) for name in ("archetype", "filtered")},
        description="baseline and treatment need not be named where they are archetype and filtered",
    )
    baseline: str = Field("archetype", description="the arm that gaps are measured from")
    treatment: str = Field("filtered", description="the arm that gaps are measured for")

    @model_validator(mode="before")
    @classmethod
    def _names_are_optional(cls, values: Any) -> Any:
        """A section without a name is of its default kind: ``{"lr": 0.5}`` is SGD with that learning rate.

        Likewise an arm that is missing or incomplete, but known by its name.
        """
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for section, name in (("dataset", "mnist5k"), ("optimizer", "SGD"), ("schedule", "none")):
            if isinstance(values.get(section), Mapping) and "use" not in values[section]:
                values[section] = {"name": name, **values[section]}
        if isinstance(values.get("arms"), Mapping):
            given = dict(values["arms"])
            roles = (values.get("baseline", "archetype"), values.get("treatment", "filtered"))
            known = {name: given.pop(name, {}) for name in ARMS if name in roles or name in given}
            values["arms"] = {
                name: _known_arm(name, method) if isinstance(method, Mapping) else method
                for name, method in known.items()
            } | given
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> TrialConfig:
        errors = []
        for role in ("baseline", "treatment"):
            if getattr(self, role) not in self.arms:
                errors.append(f"{role} {getattr(self, role)!r} is not among the arms: {', '.join(self.arms)}")
        for name, arm in self.arms.items():
            if arm.follows is not None:
                errors += self._follows(name, arm, arm.follows)
            if arm.selector.knows_labels and not self.dataset.label_noise:
                errors.append(
                    f"arm {name!r}: {arm.selector.word} is told which labels are right, and without label noise all "
                    f"are; set dataset.label_noise, which is {self.dataset.label_noise:g}, above 0"
                )
        errors += self._budgets()
        errors += [
            f"an arm cannot be named {name!r}: {name}/METRIC is {meaning}"
            for name, meaning in SCOPES.items()
            if name in self.arms
        ]
        if self.baseline == self.treatment:
            errors.append(f"baseline and treatment are the same arm, {self.baseline!r}")
        if self.dataset.upright and self.augmentation not in (None, "none"):
            errors.append(
                f"augmentation {self.augmentation!r} is for colour pictures: a flipped or turned digit is another "
                f"digit (section 4.2.3); use none with {self.dataset.title}"
            )
        try:
            self.columns  # noqa: B018
        except ValueError as error:
            errors.append(f"metrics: {error}")
        if errors:
            raise ValueError("; ".join(errors))
        if self.augmentation is None:
            object.__setattr__(self, "augmentation", self.dataset.default_augmentation)
        return self

    def _follows(self, name: str, arm: MethodConfig, like: str) -> list[str]:
        """Why the arm ``name`` cannot select as many samples as the arm ``like``."""
        able = [other for other, method in self.arms.items() if not method.follows and method.granularity != "none"]
        if like not in able:
            return [
                f"arm {name!r} is to select like {like!r}; it can follow {', '.join(able) or 'no arm of this trial'}"
            ]
        shared = ("granularity", "batch", "raw_batch_size", "raw_batch_limit", "overflow")
        if self.arms[like].own_raw_batches:
            return [f"arm {name!r} cannot select like {like!r}, which draws raw batches of its own; use like_compute"]
        unlike = [field for field in shared if getattr(arm, field) != getattr(self.arms[like], field)]
        return [f"arm {name!r} can select like {like!r} only with the same {', '.join(unlike)}"] if unlike else []

    def _budgets(self) -> list[str]:
        """Why an arm's budget cannot be that of another."""
        errors = []
        for name in self.arms:
            chain = [name]
            while (of := self.allotment(chain[-1]).of) is not None and of in self.arms and of not in chain:
                chain.append(of)
            if of is not None and of not in self.arms:
                errors.append(f"arm {chain[-1]!r} is to spend what {of!r} spends, which is not among the arms")
            elif of is not None:
                errors.append(f"arms spend what one another spend, in a circle: {', '.join(sorted(chain))}")
        return list(dict.fromkeys(errors))

    def allotment(self, name: str) -> Allotment:
        """What an arm may spend: what an arm that it follows spends, its own budget, or the one that all share."""
        method = self.arms[name]
        if method.selector.like_compute_of is not None:
            return Allotment("compute", of=method.selector.like_compute_of)
        if method.follows is not None and method.follows in self.arms:
            theirs = self._own_allotment(method.follows)
            return theirs if theirs.clock == "epochs" else Allotment("steps", of=method.follows)
        return self._own_allotment(name)

    def _own_allotment(self, name: str) -> Allotment:
        """What an arm may spend that follows no other."""
        method = self.arms[name]
        if method.epochs is not None:
            return Allotment("epochs", method.epochs)
        budget = method.budget or self.budget
        if budget.of == name or (budget.of is None and budget.amount is None):
            return Allotment("epochs", self.epochs * method.selector.pace)
        return Allotment(budget.clock, budget.amount, budget.of)

    @property
    def in_order(self) -> list[str]:
        """The arms in an order in which each comes after those whose numbers it needs."""
        return sorted(self.arms, key=self._depth)

    def needed(self, arm: str) -> list[str]:
        """An arm and those whose numbers it needs, in :attr:`in_order`: what must be trained to train it.

        Raises:
            ValueError: there is no such arm.
        """
        if arm not in self.arms:
            raise ValueError(f"arm {arm!r} is not one of {', '.join(self.arms)}")
        found = [arm]
        for one in found:
            found += [leader for leader in self._leaders(one) if leader not in found]
        return sorted(found, key=self._depth)

    def _leaders(self, name: str) -> list[str]:
        """The arms whose numbers an arm needs."""
        return [leader for leader in (self.arms[name].follows, self.allotment(name).of) if leader is not None]

    def _depth(self, name: str) -> int:
        return 1 + max(map(self._depth, self._leaders(name)), default=-1)

    def __hash__(self) -> int:
        return hash(
            frozenset((key, one if isinstance(one, Hashable) else repr(one)) for key, one in self.to_dotted().items())
        )

    @classmethod
    def from_dotted(cls, values: Mapping[str, Any]) -> TrialConfig:
        """The configuration whose dotted keys are ``values``; what is missing takes its default.

        Raises:
            pydantic.ValidationError: with every unknown key and bad value.
        """
        return cls.model_validate(nest(values))

    def to_dotted(self) -> dict[str, Any]:
        """The configuration as a flat mapping of dotted keys to plain values."""
        return flatten(self.model_dump(mode="json", exclude=None if self.metrics else {"metrics"}))

    @property
    def columns(self) -> Columns:
        """The columns of its epoch table: those of every comparison, and those of its own metrics.

        Raises:
            ValueError: two metrics have the same name.
        """
        if not self.metrics:
            return BUILT_IN
        return Columns(tuple(column for name, metric in self.metrics.items() for column in metric.columns(name)))


def _known_arm(name: str, method: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an arm that is known by its name, where ``method`` does not say otherwise."""
    return with_defaults(ARMS[name], old_keys.method(method))
