"""The norm of each sample's own gradient: what importance sampling would draw by, if it were not so dear."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from trainables.train import switch

TOGETHER = 2**26
"""Numbers that the gradients computed together may have: 256 MiB of fp32."""


def gradient_norms(
    model: nn.Module, images: Float[Tensor, "n channels h w"], labels: Int64[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The Euclidean norm of each sample's gradient of the cross-entropy by all parameters, in nats per unit.

    The model is in evaluation mode, so that no sample depends on another (batch normalization) or on chance (dropout),
    and stays as it is. Each sample's gradient is a whole set of parameters; as many are computed at once as fit
    :data:`TOGETHER`.
    """
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, (values, buffers), (image[None],)).float(), label[None])

    of_each = vmap(grad(loss), in_dims=(None, 0, 0))
    switch(model, training=False)
    size = max(TOGETHER // sum(value.numel() for value in parameters.values()), 1)
    norms = []
    for some, their in zip(images.split(size), labels.split(size), strict=True):
        squares = [gradient.flatten(1).square().sum(1) for gradient in of_each(parameters, some, their).values()]
        norms.append(torch.stack(squares).sum(0).sqrt())
    return torch.cat(norms)
