"""Where and how safely a comparison runs; nothing here is a hyperparameter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from trainables.config.base import Frozen


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
    reference: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="seconds per sample of a forward pass and of an update, by trainables.clocks.key: the same in all "
        "runs of a study, for its clock of reference seconds; empty: it has none",
    )
