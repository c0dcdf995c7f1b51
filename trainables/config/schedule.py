"""How the learning rate changes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from trainables.config.base import Frozen

CLOCK = "whether the rate changes after every epoch, or with every step at the share of the budget that is spent"
WARM_UP = "epochs, or a part of one, in which the rate rises linearly from a hundredth of itself; with every update"


class Schedule(Frozen):
    """How the learning rate changes: a function of the share of the budget that is spent, so that it has no state."""

    @property
    def per_update(self) -> bool:
        """Whether the rate changes with every update, not with every epoch."""
        return False


class Constant(Schedule):
    """The learning rate stays as it is."""

    name: Literal["none"] = "none"


class Exponential(Schedule):
    """The learning rate is multiplied by ``gamma`` after every epoch."""

    name: Literal["exponential"]
    gamma: float = Field(0.995, gt=0, le=1)
    clock: Literal["epochs", "steps"] = Field("epochs", description=CLOCK)

    @property
    def per_update(self) -> bool:
        """As ``clock`` says."""
        return self.clock == "steps"


class MultiStep(Schedule):
    """The learning rate is multiplied by ``gamma`` at every ``every``-th epoch (section 4.4.7; Appendix II: 150 or
    200).
    """

    name: Literal["multistep"]
    gamma: float = Field(0.1, gt=0, le=1)
    every: PositiveInt = 150


class Cosine(Schedule):
    """The learning rate falls along half a cosine that would reach 0 after the last epoch."""

    name: Literal["cosine"]
    clock: Literal["epochs", "steps"] = Field("epochs", description=CLOCK)
    warmup: float = Field(0.0, ge=0, description=WARM_UP)

    @model_validator(mode="after")
    def _warms_up_by_updates(self) -> Cosine:
        if self.warmup and self.clock == "epochs":
            raise ValueError(f"warmup {self.warmup} rises with every update; set clock to steps")
        return self

    @property
    def per_update(self) -> bool:
        """As ``clock`` says."""
        return self.clock == "steps"


class Linear(Schedule):
    """The learning rate falls on a line that would reach 0 after the last update."""

    name: Literal["linear"]
    warmup: float = Field(0.0, ge=0, description=WARM_UP)

    @property
    def per_update(self) -> bool:
        """Always."""
        return True


class OneCycle(Schedule):
    """The learning rate rises to ``optimizer.lr`` and falls again, as in ``torch.optim.lr_scheduler.OneCycleLR``.

    Both along half a cosine, with every update (Smith & Topin 2018, arXiv:1708.07120). The momentum stays.
    """

    name: Literal["one_cycle"]
    rising: float = Field(0.3, gt=0, lt=1, description="share of training in which the rate rises (pct_start)")
    div_factor: float = Field(25.0, ge=1, description="highest rate over the first one")
    final_div_factor: float = Field(1e4, ge=1, description="first rate over the last one")

    @property
    def per_update(self) -> bool:
        """Always."""
        return True


ScheduleConfig = Annotated[Constant | Exponential | MultiStep | Cosine | Linear | OneCycle, Field(discriminator="name")]
