"""The configuration of a trial: frozen, validated, and the same dotted keys everywhere.

``optimizer.lr`` is the path in a YAML file, the key of a search space, the Optuna parameter, the W&B key and the column
of an exported table. Defaults are those of Table 4.1 of the thesis where it names one.
"""

from trainables.config.base import Frozen, Used, kind, leaves, members, numeric
from trainables.config.budget import Allotment, BudgetConfig, Clock
from trainables.config.built_in import ARMS, PRESETS
from trainables.config.dataset import (
    MNIST_LIKE,
    AnyDataset,
    BuiltIn,
    DatasetConfig,
    HuggingFace,
    ImageFolder,
    Npz,
    OwnDataset,
    Torchvision,
)
from trainables.config.dotted import flatten, nest
from trainables.config.method import FILTER, SELECTOR, MethodConfig, Named
from trainables.config.metric import MetricConfig, declaration, metric
from trainables.config.model import NETWORKS, AnyModel, ModelConfig, UsedModel
from trainables.config.objective import Ceiling, Mode, Objective, metric_mode, statistic
from trainables.config.optimizer import ADJUSTABLE, SGD, Adam, AdamW, OptimizerConfig, RMSprop, UsedOptimizer
from trainables.config.runtime import DeadRun, Recovery, Runtime
from trainables.config.schedule import Constant, Cosine, Exponential, Linear, MultiStep, OneCycle, ScheduleConfig
from trainables.config.trial import BETTER, SCOPES, ArmName, EvaluationConfig, TrialConfig

__all__ = [
    "ADJUSTABLE",
    "ARMS",
    "BETTER",
    "FILTER",
    "MNIST_LIKE",
    "NETWORKS",
    "PRESETS",
    "SCOPES",
    "SELECTOR",
    "SGD",
    "Adam",
    "AdamW",
    "Allotment",
    "AnyDataset",
    "AnyModel",
    "ArmName",
    "BudgetConfig",
    "BuiltIn",
    "Ceiling",
    "Clock",
    "Constant",
    "Cosine",
    "DatasetConfig",
    "DeadRun",
    "EvaluationConfig",
    "Exponential",
    "Frozen",
    "HuggingFace",
    "ImageFolder",
    "Linear",
    "MethodConfig",
    "MetricConfig",
    "Mode",
    "ModelConfig",
    "MultiStep",
    "Named",
    "Npz",
    "Objective",
    "OneCycle",
    "OptimizerConfig",
    "OwnDataset",
    "RMSprop",
    "Recovery",
    "Runtime",
    "ScheduleConfig",
    "Torchvision",
    "TrialConfig",
    "Used",
    "UsedModel",
    "UsedOptimizer",
    "declaration",
    "flatten",
    "kind",
    "leaves",
    "members",
    "metric",
    "metric_mode",
    "nest",
    "numeric",
    "statistic",
]
