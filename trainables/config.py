"""The configuration of a trial: frozen, validated, and the same dotted keys everywhere.

``optimizer.lr`` is the path in a YAML file, the key of a search space, the Optuna parameter, the W&B key and the column
of an exported table. Defaults are those of Table 4.1 of the thesis where it names one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from trainables.records import BY_NAME, METRICS

MNIST_LIKE = ("mnist5k", "mnist", "fashion_mnist")
NETWORKS = ("LeNet", "ResNet18", "SimpleDLA", "DLA")


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


class DatasetConfig(Frozen):
    """Which samples a trial sees (section 4.2.3)."""

    name: Literal["mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100"] = "mnist5k"
    classes: int | None = Field(None, ge=2, description="use the first n classes only; all by default")
    samples_per_class: PositiveInt | None = Field(None, description="training samples of each class; all by default")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="share of the training set held out, stratified")
    label_noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training labels, of those alone, that are replaced by another class drawn at random: "
        "an accuracy filter picks mislabelled samples by design, for they are what a good model gets wrong",
    )
    split_seed: int = Field(0, ge=0, description="seed of the splits and subsets; not the seed of training")


class ModelConfig(Frozen):
    """Which network: one of :data:`NETWORKS`, or ``FCNet-n`` (in -> n -> out, written FCNet100)."""

    name: str = "ResNet18"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in NETWORKS or re.fullmatch(r"FCNet[1-9]\d{0,5}", name):
            return name
        raise ValueError(f"must be {', '.join(NETWORKS)} or FCNet followed by its hidden units, such as FCNet100")


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


ADJUSTABLE = ("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay")
"""What an optimizer takes anew in mid-run, whatever state it is in."""


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


ARMS: Mapping[str, Mapping[str, Any]] = {
    "archetype": {"granularity": "none"},
    "filtered": {"granularity": "batch"},
    "epochwise": {"granularity": "epoch"},
    "epoch+batch": {"granularity": "epoch+batch"},
    "unstable": {"granularity": "batch", "batch": "unstable"},
    "soft": {"granularity": "batch", "filter": "soft"},
    "random": {"granularity": "batch", "selector": "random", "like": "filtered"},
    "selective_backprop": {"granularity": "batch", "selector": "selective_backprop", "overflow": "carry"},
    "infobatch": {"granularity": "epoch", "selector": "infobatch"},
}
"""What the arms of these names are, as far as a configuration does not say otherwise."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "thesis/alg1": ARMS["archetype"],
    "thesis/alg2": {"granularity": "epoch", "batch": "unstable"},
    "thesis/alg3": {"granularity": "epoch", "batch": "unstable", "filter": "none", "selector": "top_k"},
    "thesis/alg4": {"granularity": "epoch", "batch": "unstable", "filter": "none", "selector": "q_split"},
    "thesis/alg5": {"granularity": "epoch", "batch": "unstable", "filter": "hard", "selector": "top_k"},
    "thesis/alg6": {"granularity": "epoch", "batch": "unstable", "filter": "soft", "selector": "top_k"},
    "thesis/alg8": ARMS["epochwise"],
    "thesis/alg9": ARMS["unstable"],
    "thesis/alg10": ARMS["filtered"],
    "thesis/table4.4": ARMS["epoch+batch"],
}
"""The thesis's algorithms as methods: ``arms: {mine: {preset: thesis/alg3, k: 500}}``. Alg. 3 to 6 need their k;
Alg. 7 is the filter of Alg. 8 to 10."""


class MethodConfig(Frozen):
    """How an arm chooses what it trains on. ``docs/methods.md`` describes the methods that the options make.

    *Which*: ``filter`` (Alg. 6, 7) and, of what it lets through, ``selector`` (Alg. 3, 4; section 3.2.1).
    *When*: ``granularity`` ``none`` is the archetype (Alg. 1), which selects nothing; ``epoch`` selects from the whole
    epoch before its first update (Alg. 8); ``batch`` from each raw batch (Alg. 9, 10); ``epoch+batch`` does both (Table
    4.4).
    """

    granularity: Literal["none", "epoch", "batch", "epoch+batch"] = "batch"
    filter: Literal["none", "hard", "soft"] = Field("hard", description="with granularity none: none")
    margin: float = Field(0.1, gt=0, lt=1, description="α of the soft filter, a difference of beliefs")
    selector: Literal[
        "all", "top_k", "top_q", "loss_weighted", "q_split", "random", "selective_backprop", "infobatch"
    ] = "all"
    k: PositiveInt | None = Field(None, description="samples that top_k, loss_weighted, q_split or random selects")
    q: float = Field(0.5, ge=0, lt=1, description="quantile of the loss from which top_q selects")
    power: float = Field(2.0, gt=0, description="p of q_split: power of the losses whose sums its buckets share")
    buckets: int = Field(2, ge=2, description="q of q_split: how many buckets")
    ratio: float | None = Field(None, gt=0, le=1, description="share of samples that random selects, instead of k")
    like: str | None = Field(None, description="random selects as many samples as this arm did, raw batch by raw batch")
    beta: float = Field(1.0, gt=0, description="β of selective_backprop: power of the loss's rank")
    window: PositiveInt = Field(1024, description="R of selective_backprop: losses that the rank is among")
    prune: float = Field(0.5, gt=0, lt=1, description="r of infobatch: chance that a sample below the mean is pruned")
    anneal: float = Field(0.875, gt=0, le=1, description="δ of infobatch: share of the epochs in which it prunes")
    batch: Literal["stable", "unstable"] = Field(
        "stable", description="always full (Alg. 10), or what there is (Alg. 9)"
    )
    raw_batch_size: PositiveInt | Literal["adaptive"] | None = Field(
        None, description="samples probed at once; None: the batch size (Table 4.1); adaptive: as in section 5.2.2"
    )
    raw_batch_limit: PositiveInt = Field(16384, description="bound of an adaptive raw batch, set by memory")
    overflow: Literal["discard", "carry"] = Field("discard", description="what does not fit a stable batch (3.3.2)")
    fallback: Literal["none", "random"] = Field("none", description="random samples where too few are selected (3.2.1)")
    probe_mode: Literal["eval", "train"] = Field("eval", description="mode of the model while it probes (BatchNorm)")
    probe_view: Literal["trained", "fresh", "clean"] = Field(
        "trained", description="the picture probed: the one to be trained on, another augmentation, or the clean one"
    )

    @model_validator(mode="before")
    @classmethod
    def _presets_and_no_filter(cls, values: Any) -> Any:
        """A preset's values come first; where nothing is probed, the filter is none."""
        if isinstance(values, Mapping) and "preset" in values:
            values = dict(values)
            preset = values.pop("preset")
            if preset not in PRESETS:
                raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
            values = {**PRESETS[preset], **values}
        if isinstance(values, Mapping) and "filter" not in values:
            by_chance = values.get("like") is not None or values.get("ratio") is not None
            peer = values.get("selector") in ("selective_backprop", "infobatch")
            return {**values, "filter": "none"} if by_chance or peer or values.get("granularity") == "none" else values
        return values

    @model_validator(mode="after")
    def _makes_sense(self) -> MethodConfig:
        plain = self.granularity == "none"
        filling = "batch" in self.granularity and self.batch == "stable"  # batches are filled from raw ones
        chance = self.ratio is not None or self.like is not None
        unprobed = ("all", "random", "infobatch")
        probes = not plain and not chance and (self.filter != "none" or self.selector not in unprobed)
        counted = self.selector in ("top_k", "loss_weighted", "q_split", "random")
        set_keys = {name for name, field in MethodConfig.model_fields.items() if getattr(self, name) != field.default}
        refused = [
            (
                plain and (self.filter != "none" or self.selector != "all"),
                "granularity none trains on every sample: it has no filter and no selector",
            ),
            (
                plain and self.raw_batch_size is not None,
                "raw_batch_size means nothing with granularity none, which probes no sample",
            ),
            (plain and self.batch == "unstable", "batch unstable means nothing with granularity none"),
            (
                not plain and self.filter == "none" and self.selector == "all",
                "with neither filter nor selector nothing is selected; use granularity none",
            ),
            (
                counted and not chance and self.k is None,
                f"selector {self.selector} needs k, the number of samples to select",
            ),
            (
                self.k is not None and (chance or not counted),
                f"k means nothing with selector {self.selector}{' and a ratio or like' if chance else ''}",
            ),
            (
                chance and (self.selector != "random" or self.filter != "none"),
                "ratio and like are for selector random alone, without a filter",
            ),
            (self.ratio is not None and self.like is not None, "ratio and like exclude each other"),
            ("margin" in set_keys and self.filter != "soft", "margin is for filter soft"),
            ("q" in set_keys and self.selector != "top_q", "q is for selector top_q"),
            (
                bool(set_keys & {"power", "buckets"}) and self.selector != "q_split",
                "power and buckets are for selector q_split",
            ),
            (
                self.selector == "q_split" and (self.k or 0) % self.buckets > 0,
                f"k must be a multiple of buckets: {self.k} samples are not {self.buckets} equal parts",
            ),
            (
                bool(set_keys & {"beta", "window"}) and self.selector != "selective_backprop",
                "beta and window are for selector selective_backprop",
            ),
            (
                bool(set_keys & {"prune", "anneal"}) and self.selector != "infobatch",
                "prune and anneal are for selector infobatch",
            ),
            (
                self.selector in ("selective_backprop", "infobatch") and self.filter != "none",
                f"{self.selector} is a method of its own and takes no filter",
            ),
            (
                self.selector == "selective_backprop" and self.granularity != "batch",
                "selective_backprop judges raw batches: granularity batch",
            ),
            (
                self.selector == "infobatch" and (self.granularity, self.batch) != ("epoch", "stable"),
                "infobatch prunes the epoch and trains on stable batches: granularity epoch, batch stable",
            ),
            (
                self.overflow == "carry" and not filling,
                "overflow carry is for stable batches of granularity batch or epoch+batch; nothing else overflows",
            ),
            (
                self.raw_batch_size == "adaptive" and not filling,
                "raw_batch_size adaptive is for stable batches of granularity batch or epoch+batch",
            ),
            (
                "raw_batch_limit" in set_keys and self.raw_batch_size != "adaptive",
                "raw_batch_limit is for raw_batch_size adaptive",
            ),
            (
                self.fallback == "random" and not (probes and (self.k is not None or self.granularity == "epoch")),
                "fallback random needs a number to make up: a selector with k that probes, or granularity epoch",
            ),
            (
                not probes and (self.probe_mode, self.probe_view) != ("eval", "trained"),
                "probe_mode and probe_view mean nothing where no sample is probed",
            ),
        ]
        reasons = [reason for applies, reason in refused if applies]
        if reasons:
            raise ValueError("; ".join(reasons))
        return self


class EvaluationConfig(Frozen):
    """How often the training set is measured; validation and test sets are measured after every epoch."""

    train: PositiveInt | Literal["running"] = Field(
        1,
        description="every how many epochs, beside the first and the last: 1 is the thesis's protocol; running: never, "
        "train metrics are those of training's own forward passes instead (of its probes, where an arm probes)",
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
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description="arithmetic of every arm's forward and backward passes; tf32 is for CUDA alone"
    )
    evaluate: EvaluationConfig = EvaluationConfig()
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
        for name, arm in self.arms.items():
            if arm.like is not None:
                errors += self._follows(name, arm, arm.like)
        errors += [
            f"an arm cannot be named {name!r}: {name}/METRIC is {meaning}"
            for name, meaning in SCOPES.items()
            if name in self.arms
        ]
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

    def _follows(self, name: str, arm: MethodConfig, like: str) -> list[str]:
        """Why the arm ``name`` cannot select as many samples as the arm ``like``."""
        if like not in self.arms or self.arms[like].like is not None or self.arms[like].granularity == "none":
            able = [
                other for other, method in self.arms.items() if method.like is None and method.granularity != "none"
            ]
            return [
                f"arm {name!r} is to select like {like!r}; it can follow {', '.join(able) or 'no arm of this trial'}"
            ]
        shared = ("granularity", "batch", "raw_batch_size", "raw_batch_limit", "overflow")
        unlike = [field for field in shared if getattr(arm, field) != getattr(self.arms[like], field)]
        return [f"arm {name!r} can select like {like!r} only with the same {', '.join(unlike)}"] if unlike else []

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
    """``{"optimizer": {"lr": 0.1}}`` -> ``{"optimizer.lr": 0.1}``; lists and empty mappings are leaves.

    Raises:
        ValueError: a key stands twice, nested and dotted.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
        if twice := flat.keys() & inner.keys():
            raise ValueError(f"set twice, as a section's key and by its dotted name: {', '.join(sorted(twice))}")
        flat |= inner
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


Mode = Literal["max", "min"]


def metric_mode(metric: str) -> Mode:
    """Whether larger or smaller is better in ``gap/METRIC``, ``better/METRIC`` or ``ARM/METRIC``: as it is declared.

    Raises:
        ValueError: it is none of these, or the metric has no direction.
    """
    scope, _, name = metric.partition("/")
    if not scope or name not in METRICS:
        raise ValueError(f"must be gap/METRIC or ARM/METRIC with one of the metrics {', '.join(METRICS)}")
    return "max" if scope == "gap" or BY_NAME[name].direction > 0 else "min"


class Ceiling(Frozen):
    """The loss, in nats, above which a baseline has not learned, for each statistic of the loss that a gap can be of.

    A baseline can be accurate and still have huge losses on the few samples that it gets wrong. The defaults let pass
    the accurate SGD archetypes that the thesis prints (worst losses up to 38 nats, 0.9 quantiles up to 8) and stop
    those that Adam drove apart (worst losses of 67 to 148 nats). A median or best loss needs no bound of its own: where
    half of the samples are right, it is ln(classes) at most.
    """

    mean_loss: float | None = Field(4.6, gt=0, description="nats; 4.6 is what guessing among 100 classes costs")
    q90_loss: float | None = Field(10, gt=0, description="nats; None: any")
    q99_loss: float | None = Field(25, gt=0, description="nats; None: any")
    worst_loss: float | None = Field(40, gt=0, description="nats; None: any")

    def excess(self, metric: str, value: float | None) -> float:
        """By how many nats ``value`` of a metric such as ``test_worst_loss`` is above its bound; 0 without a bound."""
        bound = getattr(self, statistic(metric), None)
        return 0.0 if bound is None or value is None else max(value - bound, 0.0)


def statistic(metric: str) -> str:
    """What a metric is a statistic of, on whatever split: ``test_worst_loss`` -> ``worst_loss``."""
    return metric.partition("_")[2]


class Objective(Frozen):
    """What a search optimizes: one number per epoch of a comparison, or several that are traded off.

    A gap alone rewards a baseline that fails to learn. A baseline has not learned where its validation accuracy
    (training accuracy, if nothing is held out) is below ``baseline_floor``, or where the gap is of a loss and the
    baseline's own value of that loss is above ``baseline_ceiling``. There a win counts for nothing, a loss still counts
    as a loss, and what the baseline lacks of the floor and exceeds the ceiling by is subtracted: the value is below 0,
    and the further, the worse the baseline.
    """

    metric: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "gap/validation_accuracy", description="gap/METRIC or ARM/METRIC; a list for several objectives"
    )
    baseline_floor: float = Field(0.5, ge=0, le=1, description="accuracy below which the baseline has not learned")
    baseline_ceiling: Ceiling = Field(
        Ceiling(), description="losses above which the baseline has not learned, each for the gaps of that loss"
    )

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | tuple[str, ...]) -> str | tuple[str, ...]:
        several = (metric,) if isinstance(metric, str) else metric
        for one in several:
            try:
                metric_mode(one)
                if one.startswith(f"{BETTER}/"):
                    raise ValueError(
                        f"{one} says how good the better arm is and nothing of the other: a search for it would find "
                        "what trains well, not what tells the arms apart; it is for scheduler.metric alone, set this "
                        "to gap/METRIC or ARM/METRIC"
                    )
            except ValueError as error:
                raise ValueError(f"{one!r}: {error}" if len(several) > 1 else str(error)) from None
        if len(set(several)) < len(several):
            raise ValueError(f"names a metric twice: {', '.join(several)}")
        return metric if len(several) > 1 or isinstance(metric, str) else metric[0]

    @model_validator(mode="after")
    def _guards_what_is_searched(self) -> Objective:
        searched = {statistic(metric.partition("/")[2]) for metric in self.metrics if metric.startswith("gap/")}
        usual, bounds = Ceiling().model_dump(), self.baseline_ceiling.model_dump()
        idle = [name for name in bounds if bounds[name] != usual[name] and name not in searched]
        if idle:
            named = ", ".join(f"baseline_ceiling.{name} is set to {bounds[name]}" for name in idle)
            raise ValueError(
                f"{named}, and no gap of that loss is searched (metric: {', '.join(self.metrics)}); leave it out"
            )
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, be it one or several."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Whether each metric's largest or smallest value is best, as its declaration says."""
        return tuple(metric_mode(metric) for metric in self.metrics)

    def values(self, report: Mapping[str, Any], baseline: str) -> list[float]:
        """The value of every metric in a comparison's report; NaN where it is missing."""
        return [self._value(report, metric, baseline) for metric in self.metrics]

    def _value(self, report: Mapping[str, Any], metric: str, baseline: str) -> float:
        value = report.get(metric)
        if value is None:
            return math.nan
        scope, _, name = metric.partition("/")
        if scope != "gap":
            return float(value)
        accuracy = report.get(f"{baseline}/validation_accuracy", report.get(f"{baseline}/train_accuracy"))
        lacking = max(self.baseline_floor - accuracy, 0.0) if accuracy is not None else 0.0
        lacking += self.baseline_ceiling.excess(name, report.get(f"{baseline}/{name}"))
        return min(float(value), 0.0) - lacking if lacking else float(value)


class DeadRun(Frozen):
    """When a comparison is given up because nothing in it learns. (A loss that is not finite always ends one.)"""

    epochs: PositiveInt | None = Field(None, description="epochs after which no arm may be at chance; None: any")
    margin: float = Field(0.02, ge=0, le=1, description="training accuracy over chance that still counts as chance")


class Recovery(Frozen):
    """What is done so that nothing is lost."""

    checkpoint_seconds: float = Field(10, ge=0, description="time between a comparison's checkpoints; 0: every epoch")
    checkpoints: int = Field(2, ge=1, description="checkpoints kept of a comparison that trains")
    max_failures: int = Field(2, ge=0, description="times that a comparison is tried again from its checkpoint")
    hang_seconds: float = Field(3600, gt=0, description="an epoch of a comparison that takes longer is ended")


class Runtime(Frozen):
    """Where a comparison runs; nothing here is a hyperparameter."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt = Field(1, description="CPU threads of torch; results are bit-identical for the same number")
    cuda_graphs: bool = Field(
        True,
        description="whether a GPU records probes and updates of full size once and replays them; results are the "
        "same, and small networks and batches train several times faster; it takes some of the GPU's memory",
    )
    deterministic: bool = Field(
        False, description="whether a GPU gives the same bits every time, which costs it speed; a CPU does anyway"
    )
    data_dir: str = Field("data", description="folder of the torchvision data sets")
    trace: bool = Field(False, description="whether to keep a record of every update")
    memory_gib: float | None = Field(None, gt=0, description="memory that this process may allocate; None: any")
