"""A data set: coloured shapes on noisy ground, drawn from a seed."""

import numpy as np

from trainables.data import Arrays

NAMES = ("disc", "ring", "square", "cross", "triangle", "bars", "checks")


def shapes(size: int = 48, train: int = 60, test: int = 30, noise: float = 40.0, seed: int = 0) -> Arrays:
    """Images of 7 shapes; place, radius, angle and colours are random.

    Args:
        size: height and width in pixels.
        train: training images of each class.
        test: test images of each class.
        noise: standard deviation of each pixel's noise, in levels of 255.
        seed: of everything that is random.
    """
    random = np.random.default_rng(seed)
    return Arrays(_split(train, size, noise, random), _split(test, size, noise, random), names=NAMES)


def _split(count: int, size: int, noise: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = random.permutation(np.repeat(np.arange(len(NAMES)), count))
    return np.stack([_image(NAMES[label], size, noise, random) for label in labels]), labels


def _image(name: str, size: int, noise: float, random: np.random.Generator) -> np.ndarray:
    """One image, uint8, [size, size, 3]."""
    inside = _mask(name, *_coordinates(size, random))
    colour = random.uniform(130, 255, 3)
    ground = random.uniform(0, 125, 3)
    clean = np.where(inside[..., None], colour, ground)
    return np.clip(clean + random.normal(0, noise, clean.shape), 0, 255).astype(np.uint8)


def _coordinates(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's place as seen from the shape, whose radius is 1."""
    row, column = np.indices((size, size)) / size
    radius, angle = random.uniform(0.25, 0.4), random.uniform(-0.3, 0.3)
    y, x = ((axis - random.uniform(0.4, 0.6)) / radius for axis in (row, column))
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def _mask(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which pixels belong to the shape."""
    radius, width = np.hypot(x, y), np.maximum(abs(x), abs(y))
    masks = {
        "disc": radius < 1,
        "ring": (radius > 0.55) & (radius < 1),
        "square": width < 0.85,
        "cross": (np.minimum(abs(x), abs(y)) < 0.3) & (width < 1),
        "triangle": (abs(x) < (y + 1) / 2) & (y < 0.9),
        "bars": (width < 0.9) & (np.sin(9 * x) > 0),
        "checks": (width < 0.9) & (np.sin(7 * x) * np.sin(7 * y) > 0),
    }
    return masks[name]
