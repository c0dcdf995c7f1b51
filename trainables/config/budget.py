"""How much an arm trains: so many epochs, or until it has spent as much of something as it may."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from trainables.config.base import Frozen

Clock = Literal["epochs", "steps", "samples", "compute", "reference_seconds"]


class BudgetConfig(Frozen):
    """What every arm may spend, and on which clock.

    Rows fall at equal shares of it, as many as ``epochs`` says, and a schedule is read at the share that is spent: an
    arm that selects goes through the raw data more often for the same compute, and its learning rate decays as fully as
    that of all others (Kaddour et al. 2023, arXiv:2307.06440). The default is the thesis's: ``epochs`` passes.
    """

    clock: Clock = Field(
        "epochs",
        description="epochs: passes over the raw data; steps: updates; samples: trained on; compute: forward-"
        "equivalents; reference_seconds: forward and backward passes at the seconds measured for them beforehand",
    )
    amount: float | None = Field(None, gt=0, description="in the clock's unit; None: what of spends, or epochs")
    of: str | None = Field(None, description="the arm that trains for epochs, and whose spending is the budget")

    @model_validator(mode="after")
    def _says_how_much(self) -> BudgetConfig:
        if self.amount is not None and self.of is not None:
            raise ValueError(f"amount {self.amount:g} and of {self.of!r} exclude each other")
        if self.clock != "epochs" and self.amount is None and self.of is None:
            raise ValueError(f"a budget of {self.clock} needs its amount, or of: the arm whose spending it is")
        return self


class Allotment(NamedTuple):
    """What one arm may spend.

    Attributes:
        amount: in the clock's unit; None where it is what the arm ``of`` spends, row by row.
    """

    clock: Clock
    amount: float | None = None
    of: str | None = None
