"""Images that resemble no class, made only of in-distribution images, by kind of deviation.

They represent out-of-distribution images where real ones must not be used: in learning the weights
of the fused score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from nav_monitor_ros.fitting.decoys import joined, overlaid, shuffled

Maker = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
# (image, image of another class, random generator) -> image; uint8 (h, w, channels) each


def occluded(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover a tenth to a third of the image with a rectangle."""
    result = image.copy()
    height, width = image.shape[:2]
    side = rng.uniform(0.35, 0.55)
    rows, columns = int(height * side), int(width * side)
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    result[top : top + rows, left : left + columns] = rng.choice([0, 128, 255])
    return result


def warped(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Warp the image by a smooth random field, by a sixth of its height on average."""
    height, width = image.shape[:2]
    dx, dy = (
        np.asarray(cv2.GaussianBlur(
            rng.normal(size=(height, width)).astype(np.float32), (0, 0), height / 9
        ), np.float32)
        for _ in 'xy'
    )
    gain = 0.16 * height / max(1e-9, float(np.sqrt(np.mean(dx**2 + dy**2))))
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    moved = cv2.remap(
        image, columns + gain * dx, rows + gain * dy, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return moved.reshape(image.shape)


def blurred(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur the image by about a tenth of its height."""
    sigma = image.shape[0] * rng.uniform(0.07, 0.12)
    return cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)


def stretched(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stretch the image two to three times along one axis."""
    height, width = image.shape[:2]
    factor = rng.uniform(2.0, 3.0)
    matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    axis = int(rng.integers(2))
    matrix[axis, axis] = factor
    matrix[axis, 2] = (1 - factor) * (width, height)[axis] / 2
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return moved.reshape(image.shape)


def textured(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace the Fourier phases by random ones: a texture with the image's spectrum."""
    height, width = image.shape[:2]
    phase = np.angle(np.fft.fft2(rng.normal(size=(height, width))))[..., None]
    spectrum = np.abs(np.fft.fft2(image.astype(np.float64), axes=(0, 1)))
    spectrum[0, 0] *= np.exp(-1j * phase[0, 0]).real  # the mean is kept
    made = np.fft.ifft2(spectrum * np.exp(1j * phase), axes=(0, 1)).real
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def outlined(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep the outlines only, bright on black or dark on white, as in a drawing."""
    rows, columns = (
        cv2.Sobel(image.astype(np.float32), -1, dx, 1 - dx).reshape(image.shape) for dx in (1, 0)
    )
    edges = np.hypot(rows, columns).max(axis=2, keepdims=True)
    edges = np.clip(edges * (255 / max(1.0, float(np.quantile(edges, 0.97)))), 0, 255)
    drawn = edges if rng.random() < 0.5 else 255 - edges
    return np.repeat(drawn, image.shape[2], axis=2).astype(np.uint8)


def pixelated(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Take the image with a sensor of 4 to 6 pixels a side."""
    height, width = image.shape[:2]
    side = int(rng.integers(4, 7))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return large.reshape(image.shape)


def halftoned(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Print the image with black and white dots, by an ordered 4 x 4 dither in each channel."""
    matrix = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    height, width = image.shape[:2]
    limits = np.tile((matrix + 0.5) * 16, (height // 4 + 1, width // 4 + 1))[:height, :width]
    lifted = np.clip(image * 0.7 + rng.uniform(20, 70), 0, 255)
    return np.where(lifted > limits[..., None], 255, 0).astype(np.uint8)


def shaded(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a strong linear gradient of light, from black at one side to white at the other."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    light = (np.cos(angle) * columns + np.sin(angle) * rows) * rng.uniform(120, 200)
    return np.clip(image + light[..., None], 0, 255).astype(np.uint8)


CORRUPTION, DOMAIN = 'corruption', 'domain'
MAKERS: Mapping[str, Mapping[str, Maker]] = {
    # The content is changed, covered or mixed.
    CORRUPTION: {
        'shuffled': shuffled, 'joined': joined, 'overlaid': overlaid, 'occluded': occluded,
        'warped': warped, 'blurred': blurred, 'stretched': stretched,
    },
    # As if from another sensor, medium or light: the image differs everywhere.
    DOMAIN: {
        'textured': textured, 'outlined': outlined, 'pixelated': pixelated,
        'halftoned': halftoned, 'shaded': shaded,
    },
}


def make_images(
    maker: Maker, images: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return images of one kind.

    Args:
        maker: One of ``MAKERS``.
        images: In-distribution images, uint8 (N, h, w, channels).
        labels: int64 (N,); only images of different classes are mixed, where there are several.
        count: Number of images to make.
        rng: Random generator.

    Returns:
        uint8 (count, h, w, channels).
    """
    made = []
    for first in rng.integers(len(images), size=count):
        others = np.flatnonzero(labels != labels[first])
        second = rng.choice(others) if len(others) else first
        made.append(maker(images[first], images[second], rng))
    return np.stack(made)
