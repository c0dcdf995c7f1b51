"""Which network is trained."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Tag, field_validator

from trainables.config.base import Frozen, Used, kind

NETWORKS = ("LeNet", "ResNet18", "SimpleDLA", "DLA", "ResNet8", "ResNet20", "ResNet56", "Linear")
FULLY_CONNECTED = re.compile(r"FCNet([1-9]\d{0,5}(?:x[1-9]\d{0,5})*)")


class ModelConfig(Frozen):
    """A built-in network: one of :data:`NETWORKS`, or ``FCNet`` followed by its hidden units (FCNet100, FCNet512x512).

    Attributes:
        own: whether the network is code of one's own.
    """

    own: ClassVar[bool] = False

    name: str = "ResNet18"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in NETWORKS or FULLY_CONNECTED.fullmatch(name):
            return name
        raise ValueError(
            f"must be {', '.join(NETWORKS)} or FCNet followed by its hidden units, such as FCNet100 or FCNet512x512; "
            "name a network of your own by model.use"
        )

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name

    @property
    def hidden(self) -> tuple[int, ...]:
        """The units of each hidden layer of a fully connected network; empty for any other."""
        found = FULLY_CONNECTED.fullmatch(self.name)
        return tuple(map(int, found[1].split("x"))) if found else ()


class UsedModel(Used):
    """A network of one's own: a callable to a ``torch.nn.Module``, and its options (see :mod:`trainables.models`)."""

    own: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.use


def _which(section: Any) -> str:
    return "use" if kind(section) == "use" else "built_in"


AnyModel = Annotated[
    Annotated[ModelConfig, Tag("built_in")] | Annotated[UsedModel, Tag("use")],
    Discriminator(_which),
]
