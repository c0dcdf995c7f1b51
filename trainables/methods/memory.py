"""What a selection remembers between calls; it is saved in every checkpoint."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Memory:
    """What a selection remembers, by attribute: tensors, numbers, words, None, lists of these, and objects that have a
    ``state_dict`` and a ``load_state_dict`` (networks, optimizers, torch generators' states as tensors).

    Whatever is set here is saved with every checkpoint and restored from it.
    """

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name!r} is not remembered: set it in begin()")

    def __setattr__(self, name: str, value: Any) -> None:
        if not _plain(value) and not hasattr(value, "load_state_dict"):
            raise TypeError(
                f"memory.{name}: a {type(value).__name__} cannot be saved in a checkpoint; take tensors, numbers, "
                "words, lists of them, or an object with state_dict and load_state_dict"
            )
        super().__setattr__(name, value)

    def state_dict(self) -> dict[str, Any]:
        """Everything that is remembered, as tensors and plain values of its own."""
        return {name: _copied(value) for name, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned. Tensors of the same shape keep their place in memory."""
        for name in vars(self).keys() - state.keys():
            delattr(self, name)
        for name, value in state.items():
            known = vars(self).get(name)
            if known is not None and hasattr(known, "load_state_dict"):
                known.load_state_dict(value)
            elif isinstance(known, Tensor) and isinstance(value, Tensor) and known.shape == value.shape:
                known.copy_(value)
            elif isinstance(value, Tensor) and isinstance(known, Tensor):
                setattr(self, name, value.to(known.device, copy=True))
            else:
                setattr(self, name, value)


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    return value is None or isinstance(value, Tensor | bool | int | float | str)


def _copied(value: Any) -> Any:
    if hasattr(value, "load_state_dict"):
        return value.state_dict()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value.detach().clone() if isinstance(value, Tensor) else value
