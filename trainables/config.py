"""The configuration of a trial: frozen, validated, and the same dotted keys everywhere.

``optimizer.lr`` is the path in a YAML file, the key of a search space, the Optuna parameter, the W&B key and the column
of an exported table. Defaults are those of Table 4.1 of the thesis where it names one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from trainables.records import BY_NAME, METRICS

MNIST_LIKE = ("mnist5k", "mnist", "fashion_mnist")


class Frozen(BaseModel):
    """An immutable model that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetConfig(Frozen):
    """Which samples a trial sees (section 4.2.3)."""

    name: Literal["mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100"] = "mnist5k"
    classes: int | None = Field(None, ge=2, description="use the first n classes only; all by default")
    samples_per_class: PositiveInt | None = Field(None, description="training samples of each class; all by default")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="share of the training set held out, stratified")
    split_seed: int = Field(0, ge=0, description="seed of the splits and subsets; not the seed of training")


class ModelConfig(Frozen):
    """Which network: ``FCNet-n`` (in -> n -> out, written FCNet100), ``LeNet`` or ``ResNet18``."""

    name: str = "ResNet18"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in ("LeNet", "ResNet18") or re.fullmatch(r"FCNet[1-9]\d{0,5}", name):
            return name
        raise ValueError("must be LeNet, ResNet18 or FCNet followed by its hidden units, such as FCNet100")


class SGD(Frozen):
    """Stochastic gradient descent as in ``torch.optim.SGD``."""

    name: Literal["SGD"] = "SGD"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(5e-4, ge=0)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Frozen):
    """Adam as in ``torch.optim.Adam``; its learning rate defaults to PyTorch's, for Table 4.1's 0.1 is SGD's."""

    name: Literal["Adam"]
    lr: float = Field(1e-3, gt=0)
    amsgrad: bool = False
    weight_decay: float = Field(5e-4, ge=0)


class AdamW(Frozen):
    """Adam with decoupled weight decay as in ``torch.optim.AdamW``."""

    name: Literal["AdamW"]
    lr: float = Field(1e-3, gt=0)
    amsgrad: bool = False
    weight_decay: float = Field(5e-4, ge=0)


class Constant(Frozen):
    """The learning rate stays as it is."""

    name: Literal["none"] = "none"


class Exponential(Frozen):
    """The learning rate is multiplied by ``gamma`` after every epoch."""

    name: Literal["exponential"]
    gamma: float = Field(0.995, gt=0, le=1)


class MultiStep(Frozen):
    """The learning rate is multiplied by ``gamma`` at every ``every``-th epoch (section 4.4.7; Appendix II: 150 or
    200).
    """

    name: Literal["multistep"]
    gamma: float = Field(0.1, gt=0, le=1)
    every: PositiveInt = 150


class Cosine(Frozen):
    """The learning rate falls along half a cosine that would reach 0 after the last epoch."""

    name: Literal["cosine"]


OptimizerConfig = Annotated[SGD | Adam | AdamW, Field(discriminator="name")]
ScheduleConfig = Annotated[Constant | Exponential | MultiStep | Cosine, Field(discriminator="name")]


class MethodConfig(Frozen):
    """How an arm chooses what it trains on: a wrong answer of the model (Alg. 7) is what a filter keeps.

    ``granularity``: ``none`` is the archetype (Alg. 1); ``epoch`` filters the whole epoch before its first update (Alg.
    8); ``batch`` filters raw batches and trains when a filtered batch is full, holding a half-filled one over to the
    next epoch and discarding what does not fit (Alg. 10); ``epoch+batch`` does both (Table 4.4).
    Probes run in evaluation mode and see the augmented picture that would be trained on.
    """

    granularity: Literal["none", "epoch", "batch", "epoch+batch"] = "batch"
    raw_batch_size: PositiveInt | None = Field(
        None, description="samples probed at once; None: the batch size (Table 4.1)"
    )

    @model_validator(mode="after")
    def _raw_batches_need_a_probe(self) -> MethodConfig:
        if self.granularity == "none" and self.raw_batch_size is not None:
            raise ValueError("raw_batch_size means nothing with granularity none, which probes no sample")
        return self


ARMS: Mapping[str, Mapping[str, str]] = {"archetype": {"granularity": "none"}, "filtered": {"granularity": "batch"}}
"""What the arms of these names are, as far as a configuration does not say otherwise."""

ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_+-]*$")]


class TrialConfig(Frozen):
    """One comparison: the arms share everything here but their method."""

    dataset: DatasetConfig = DatasetConfig()
    model: ModelConfig = ModelConfig()
    augmentation: Literal["none", "standard", "thesis"] | None = Field(
        None, description="None: that of section 4.2.3 for CIFAR, none for MNIST-like data"
    )
    optimizer: OptimizerConfig = SGD()
    schedule: ScheduleConfig = Constant()
    batch_size: PositiveInt = 1024
    epochs: PositiveInt = 300
    seed: int = Field(0, ge=0, description="of initial weights, order and augmentation, shared by all arms")
    arms: dict[ArmName, MethodConfig] = Field(
        default_factory=lambda: {name: MethodConfig.model_validate(method) for name, method in ARMS.items()},
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
        for section, name in (("optimizer", "SGD"), ("schedule", "none")):
            if isinstance(values.get(section), Mapping):
                values[section] = {"name": name, **values[section]}
        if isinstance(values.get("arms"), Mapping):
            given = dict(values["arms"])
            roles = (values.get("baseline", "archetype"), values.get("treatment", "filtered"))
            known = {name: given.pop(name, {}) for name in ARMS if name in roles or name in given}
            values["arms"] = {
                name: {**ARMS[name], **method} if isinstance(method, Mapping) else method
                for name, method in known.items()
            } | given
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> TrialConfig:
        errors = []
        for role in ("baseline", "treatment"):
            if getattr(self, role) not in self.arms:
                errors.append(f"{role} {getattr(self, role)!r} is not among the arms: {', '.join(self.arms)}")
        if "gap" in self.arms:
            errors.append("an arm cannot be named 'gap': gap/METRIC is how gaps are reported")
        if self.baseline == self.treatment:
            errors.append(f"baseline and treatment are the same arm, {self.baseline!r}")
        if self.dataset.name in MNIST_LIKE and self.augmentation not in (None, "none"):
            errors.append(
                f"augmentation {self.augmentation!r} is for colour pictures: a flipped or turned digit is another "
                f"digit (section 4.2.3); use none with {self.dataset.name}"
            )
        if errors:
            raise ValueError("; ".join(errors))
        if self.augmentation is None:
            object.__setattr__(self, "augmentation", "none" if self.dataset.name in MNIST_LIKE else "thesis")
        return self

    def __hash__(self) -> int:
        return hash(frozenset(self.to_dotted().items()))

    @classmethod
    def from_dotted(cls, values: Mapping[str, Any]) -> TrialConfig:
        """The configuration whose dotted keys are ``values``; what is missing takes its default.

        Raises:
            pydantic.ValidationError: with every unknown key and bad value.
        """
        return cls.model_validate(nest(values))

    def to_dotted(self) -> dict[str, Any]:
        """The configuration as a flat mapping of dotted keys to plain values."""
        return flatten(self.model_dump(mode="json"))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optimizer": {"lr": 0.1}}`` -> ``{"optimizer.lr": 0.1}``; lists and empty mappings are leaves."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimizer.lr": 0.1}`` -> ``{"optimizer": {"lr": 0.1}}``; the inverse of :func:`flatten`.

    Raises:
        ValueError: a key is both a value and a section, such as ``optimizer`` beside ``optimizer.lr``.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{key!r} is set, but {part!r} is a value and not a section")
        if isinstance(node.get(leaf), dict):
            raise ValueError(f"{key!r} is a section and cannot be set to {value!r}")
        node[leaf] = value
    return tree


def metric_mode(metric: str) -> Literal["max", "min"]:
    """Whether larger or smaller is better in ``gap/METRIC`` or ``ARM/METRIC``, as the metric's declaration says.

    Raises:
        ValueError: it is neither, or the metric has no direction.
    """
    scope, _, name = metric.partition("/")
    if not scope or name not in METRICS:
        raise ValueError(f"must be gap/METRIC or ARM/METRIC with one of the metrics {', '.join(METRICS)}")
    return "max" if scope == "gap" or BY_NAME[name].direction > 0 else "min"


class Objective(Frozen):
    """What a search optimizes and a scheduler looks at: one number per epoch of a comparison.

    A gap alone rewards a baseline that fails to learn. Where the baseline's validation accuracy (training accuracy, if
    nothing is held out) is below ``baseline_floor``, a win counts for nothing, a loss still counts as a loss, and what
    the baseline lacks is subtracted: the value is below 0, and the further, the worse the baseline.
    """

    metric: str = Field("gap/validation_accuracy", description="gap/METRIC or ARM/METRIC")
    baseline_floor: float = Field(0.0, ge=0, le=1)

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        metric_mode(metric)
        return metric

    @property
    def mode(self) -> Literal["max", "min"]:
        """Whether larger or smaller is better, as the metric's declaration says."""
        return metric_mode(self.metric)

    def value(self, report: Mapping[str, Any], baseline: str) -> float:
        """The objective's value in a comparison's report; NaN where the metric is missing."""
        value = report.get(self.metric)
        if value is None:
            return math.nan
        accuracy = report.get(f"{baseline}/validation_accuracy", report.get(f"{baseline}/train_accuracy"))
        if self.metric.startswith("gap/") and accuracy is not None and accuracy < self.baseline_floor:
            return min(float(value), 0.0) - (self.baseline_floor - accuracy)
        return float(value)


class Runtime(Frozen):
    """Where a comparison runs; nothing here is a hyperparameter."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt = Field(1, description="CPU threads of torch; results are bit-identical for the same number")
    data_dir: str = Field("data", description="folder of the torchvision data sets")
