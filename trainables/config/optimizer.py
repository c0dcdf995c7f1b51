"""The optimizers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from trainables import imports
from trainables.config.base import Frozen, Used, kind


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


class RMSprop(Frozen):
    """RMSprop as in ``torch.optim.RMSprop``."""

    name: Literal["RMSprop"]
    lr: float = Field(1e-2, gt=0)
    alpha: float = Field(0.99, ge=0, lt=1, description="decay of the squared gradients' running mean")
    momentum: float = Field(0.0, ge=0, lt=1)
    centered: bool = False
    weight_decay: float = Field(5e-4, ge=0)


class UsedOptimizer(Used):
    """Any ``torch.optim.Optimizer``, by import path; further keys are the class's own options."""

    lr: float = Field(gt=0)

    @property
    def name(self) -> str:
        """The import path."""
        return self.use

    @model_validator(mode="after")
    def _takes_its_options(self) -> UsedOptimizer:
        """The code is looked up here, so that every mistake is told before anything runs."""
        known = imports.find(self.use, "optimizers")
        if not callable(known):
            raise ValueError(f"{self.use!r} is a {type(known).__name__}, and no torch.optim.Optimizer")
        if problems := imports.misfits(known, {**self.options, "lr": self.lr}, provided=("params",)):
            raise ValueError("; ".join(problems))
        if imports.misfits(getattr(known, "step", lambda: None), {}, provided=("self",)):
            raise ValueError(
                f"{self.use!r} needs a closure at every step, and training gives none; take another optimizer"
            )
        return self


ADJUSTABLE = ("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay")
"""What an optimizer takes anew in mid-run, whatever state it is in."""


OptimizerConfig = Annotated[
    Annotated[SGD, Tag("SGD")]
    | Annotated[Adam, Tag("Adam")]
    | Annotated[AdamW, Tag("AdamW")]
    | Annotated[RMSprop, Tag("RMSprop")]
    | Annotated[UsedOptimizer, Tag("use")],
    Discriminator(kind),
]
