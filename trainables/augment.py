"""Augmentation as a pure function of (seed, epoch, sample index).

A sample's random numbers come from hashing those three, not from a generator's state. So both arms of a comparison see
the same picture of sample 1234 in epoch 7, a filter can store indices alone and still train on the picture it judged
(the problem of sections 3.3.1 and 5.2.1), and a resumed run continues identically. All shapes are fixed and nothing
waits for the device.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from trainables.errors import UserError

Augmentation = Literal["none", "standard", "thesis"]


class AugmentationError(UserError, ValueError):
    """An augmentation does not suit the images."""


def check(policy: Augmentation, channels: int, what: str = "these images") -> None:
    """Whether a policy suits images of that many channels.

    Raises:
        AugmentationError: it changes colours, and the images have none.
    """
    if policy == "thesis" and channels != 3:
        raise AugmentationError(
            f"augmentation 'thesis' changes colours, and {what} have {channels} channel; use standard (flip and crop) "
            "or none"
        )


_DRAWS = 12
_ORDERS = tuple(permutations(range(4)))
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


def augment(
    images: UInt8[Tensor, "n c h w"],
    index: Int64[Tensor, " n"],
    epoch: Int64[Tensor, " n"],
    seed: int,
    policy: Augmentation,
) -> Float[Tensor, "n c h w"]:
    """The images in [0, 1], each transformed as its (seed, epoch, index) says.

    ``thesis`` is section 4.2.3: RandomHorizontalFlip, RandomAffine(180, (0.1, 0.1), (0.9, 1.1)), RandomCrop(32,
    padding=4), ColorJitter(0.5, 0.5, 0.5, 0.05). ``standard`` is the flip and the crop. Distributions are those of
    torchvision's transforms of these names; geometry is resampled once. At another size than 32 x 32, the crop's
    padding is an eighth of height and width, rounded down: the same share of the image.

    Raises:
        AugmentationError: the policy changes colours, and the images have none.
    """
    check(policy, images.shape[1])
    pixels = images.float() / 255
    if policy == "none":
        return pixels
    u = uniforms(seed, epoch, index, _DRAWS)
    height, width = images.shape[2:]
    if policy == "standard":
        return warp(pixels, flip=u[:, 0] < 0.5, crop=_crop(u[:, 1:3], width, height))
    moved = warp(
        pixels,
        flip=u[:, 0] < 0.5,
        crop=_crop(u[:, 1:3], width, height),
        angle=(2 * u[:, 3] - 1) * math.pi,
        shift=((2 * u[:, 4:6] - 1) * 0.1 * _constant((width, height), torch.float32, images.device)).round(),
        scale=0.9 + 0.2 * u[:, 6],
    )
    order = _constant(_ORDERS, torch.int64, images.device)[(u[:, 7] * len(_ORDERS)).long()]
    return jitter(moved, factors=0.5 + u[:, 8:11], hue=(u[:, 11] - 0.5) * 0.1, order=order)


@lru_cache
def _constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of these values, brought to the device once: each time would be a wait for it."""
    return torch.tensor(values, dtype=dtype, device=device)


def _crop(u: Float[Tensor, "n 2"], width: int, height: int) -> Float[Tensor, "n 2"]:
    """Offsets (x, y) of a crop out of an image padded by an eighth of its size, relative to it: -4 to 4 at 32."""
    places = [(u[:, axis] * (2 * (size // 8) + 1)).floor() - size // 8 for axis, size in enumerate((width, height))]
    return torch.stack(places, dim=1)


def uniforms(seed: int, epoch: Int64[Tensor, " n"], index: Int64[Tensor, " n"], count: int) -> Float[Tensor, "n count"]:
    """``count`` numbers in [0, 1) for each sample: SplitMix64 (Steele et al. 2014) over (seed, epoch, index,
    column).
    """
    state = _mix(_mix(_mix(torch.full_like(index, seed)) + epoch) + index)
    columns = torch.arange(1, count + 1, device=index.device)
    bits = _mix(state[:, None] + columns * _signed(0x9E3779B97F4A7C15))
    return _shifted(bits, 40).float() * 2.0**-24


def _mix(x: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """SplitMix64's finalizer; int64 products wrap like unsigned ones."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Int64[Tensor, "*n"], bits: int) -> Int64[Tensor, "*n"]:
    """A logical right shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64)


def warp(
    images: Float[Tensor, "n c h w"],
    flip: Tensor,
    crop: Float[Tensor, "n 2"],
    angle: Float[Tensor, " n"] | None = None,
    shift: Float[Tensor, "n 2"] | None = None,
    scale: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """Flip, then turn, scale and shift about the centre, then crop from a padded picture, in one nearest resampling.

    ``angle`` is in radians, clockwise; ``crop`` and ``shift`` are (x, y) in pixels. What the affine step moves out of
    the frame is lost, as it would be in two steps.
    """
    n, _, h, w = images.shape
    ys, xs = torch.meshgrid(
        torch.arange(h, device=images.device) + 0.5 - h / 2,
        torch.arange(w, device=images.device) + 0.5 - w / 2,
        indexing="ij",
    )
    x = xs + crop[:, 0].view(n, 1, 1)
    y = ys + crop[:, 1].view(n, 1, 1)
    inside = (x.abs() < w / 2) & (y.abs() < h / 2)
    if angle is not None and shift is not None and scale is not None:
        x, y = x - shift[:, 0].view(n, 1, 1), y - shift[:, 1].view(n, 1, 1)
        cos, sin = (angle.cos() / scale).view(n, 1, 1), (angle.sin() / scale).view(n, 1, 1)
        x, y = cos * x + sin * y, cos * y - sin * x
    x = torch.where(flip.view(n, 1, 1), -x, x)
    grid = torch.stack((x / (w / 2), y / (h / 2)), dim=-1)
    warped = torch.nn.functional.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return warped * inside.unsqueeze(1)


def jitter(
    images: Float[Tensor, "n 3 h w"],
    factors: Float[Tensor, "n 3"],
    hue: Float[Tensor, " n"],
    order: Int64[Tensor, "n 4"],
) -> Float[Tensor, "n 3 h w"]:
    """Brightness, contrast, saturation (``factors``) and hue (a share of the circle) in each sample's own ``order``.

    The first three are one kind of blend, so each of their turns is one blend over the batch; hue, the costly one, is
    done once for all, between the blends that come before it and those that come after.
    """
    place_of_hue = (order == _HUE).int().argmax(1)
    for turn in range(3):
        images = _blend(images, factors, order[:, turn], active=turn < place_of_hue)
    images = shift_hue(images, hue)
    for turn in range(1, 4):
        images = _blend(images, factors, order[:, turn], active=turn > place_of_hue)
    return images


def shift_hue(images: Float[Tensor, "n 3 h w"], share: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Each picture's hue turned by its ``share`` of the circle; value and saturation (HSV) stay.

    In the closed form of each channel in hue and chroma, which needs no case for each sixth of the circle:
    value - chroma · clamp(min(k, 4 - k), 0, 1), where k = (n + 6 · hue) mod 6 with n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    divisor = chroma.clamp_min(torch.finfo(chroma.dtype).tiny)  # of gray, all of whose differences are 0
    sixths = torch.where(value == green, (blue - red).div_(divisor).add_(2), (red - green).div_(divisor).add_(4))
    sixths = torch.where(value == red, (green - blue).div_(divisor), sixths).add_(6 * share.view(-1, 1, 1))
    channels = []
    for offset in (5, 3, 1):
        k = sixths + offset
        k.sub_(k.div(6).floor_(), alpha=6)
        channels.append(value - torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma))
    return torch.stack(channels, dim=1)


def _blend(
    images: Float[Tensor, "n 3 h w"],
    factors: Float[Tensor, "n 3"],
    kind: Int64[Tensor, " n"],
    active: Tensor,
) -> Float[Tensor, "n 3 h w"]:
    """torchvision's ``adjust_brightness``, ``adjust_contrast`` or ``adjust_saturation``, by sample; inactive:
    unchanged.
    """
    red, green, blue = images.unbind(1)
    gray = (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    mean = gray.mean((1, 2), keepdim=True)
    kind, active = kind.view(-1, 1, 1), active.view(-1, 1, 1)
    base = gray.mul_(kind == _SATURATION).add_(mean * (kind == _CONTRAST))  # of brightness: black
    factor = factors.gather(1, kind.view(-1, 1).clamp(max=2)).view(-1, 1, 1)
    return torch.lerp(base.unsqueeze(1), images, torch.where(active, factor, 1.0).unsqueeze(1)).clamp_(0, 1)
