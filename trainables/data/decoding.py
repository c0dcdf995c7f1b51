"""Images of any format as arrays of one shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.dataset import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

GRAY = ("1", "L", "LA")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")


def pixels(image: Image, size: int | tuple[int, int] | None) -> np.ndarray:
    """A decoded image as uint8: [h, w, 1] of a gray one, [h, w, 3] of all others; resized (bilinear) if asked.

    Raises:
        ValueError: it has more than 8 bits for each channel.
    """
    from PIL.Image import Resampling

    if image.mode in DEEP:
        raise ValueError(f"has more than 8 bits for each channel (mode {image.mode}); save it with 8")
    plain = image.convert("L" if image.mode in GRAY else "RGB")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        plain = plain.resize((width, height), Resampling.BILINEAR)
    array = np.asarray(plain)
    return array[..., None] if array.ndim == 2 else array


def stacked(named: Iterable[tuple[str, np.ndarray]]) -> np.ndarray:
    """Images as one array, [n, h, w, c]; gray ones among colour ones become colour ones.

    Raises:
        DatasetError: two have different sizes, or there are none; names them.
    """
    images: list[np.ndarray] = []
    first = ""
    for name, image in named:
        first = first or name
        if images and image.shape[:2] != images[0].shape[:2]:
            sizes = [f"{height} x {width}" for height, width, _ in (image.shape, images[0].shape)]
            raise DatasetError(
                f"{name}: is {sizes[0]}, and {first} is {sizes[1]}; all images must have one size: set dataset.size"
            )
        images.append(image)
    if not images:
        raise DatasetError("there are no images")
    channels = max(image.shape[2] for image in images)
    return np.stack([coloured(image, channels) for image in images])


def coloured(images: Any, channels: int) -> Any:
    """Images [..., c] with this many channels: of gray ones, the one channel is repeated."""
    return images if images.shape[-1] == channels else np.repeat(images, channels, axis=-1)
