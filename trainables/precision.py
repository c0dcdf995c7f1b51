"""In which arithmetic a model computes: fp32, tf32 (the matrix units of NVIDIA chips) or bf16 (automatic mixed); and
whether always in the same order.
"""

from __future__ import annotations

import os
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.errors import UserError

Precision = Literal["fp32", "tf32", "bf16"]


class PrecisionError(UserError, ValueError):
    """The device does not compute in the precision that was asked for."""


class Bfloat16(nn.Module):
    """A model that computes in bfloat16 where torch's autocast deems it safe; parameters and logits stay float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.model(images).float()


def place(model: nn.Module, precision: Precision, device: torch.device, channels_last: bool = True) -> nn.Module:
    """The model on ``device``, in ``precision``; with channels last, as the fast convolutions want them.

    Only the weights are laid out: a convolution gives its result in the layout of its weights. A network of one's own
    is left as it is, for it may rely on its layout (``x.view(len(x), -1)`` does).
    """
    model = model.to(device, memory_format=torch.channels_last) if channels_last else model.to(device)  # type: ignore[call-overload]
    return Bfloat16(model) if precision == "bf16" else model


def check_precision(precision: Precision, device: str) -> None:
    """Whether a device of the type ``device``, cpu or cuda, computes in ``precision``.

    Raises:
        PrecisionError: it does not.
    """
    if precision == "tf32" and device != "cuda":
        raise PrecisionError(f"precision is tf32, which only CUDA has; use fp32 or bf16 on the {device}")


def set_float32(precision: Precision, device: torch.device) -> None:
    """Have this process multiply float32 matrices as ``precision`` says: exactly, unless it is tf32.

    torch's own default is tf32 for convolutions.

    Raises:
        PrecisionError: it is tf32, and the device is not CUDA.
    """
    check_precision(precision, device.type)
    exactness = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = exactness
    torch.backends.cudnn.conv.fp32_precision = exactness  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = exactness  # type: ignore[attr-defined]  # the two must agree


def set_deterministic(wanted: bool) -> None:
    """Have this process's GPU add up in the same order every time, so that the same work gives the same bits.

    torch then raises RuntimeError where it knows no such way (https://pytorch.org/docs/stable/notes/randomness.html).
    cuBLAS must be told before it is first used in a process.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
