"""A decoded image: its pixels, in the channel order in which the camera sent them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from nav_monitor_ros.errors import NavMonitorError

Order = Literal['rgb', 'bgr', 'rgba', 'bgra', 'gray']

# OpenCV's codes: wanted channel order -> channel order of the pixels -> code.
CONVERSIONS = {
    'rgb': {
        'bgr': cv2.COLOR_BGR2RGB,
        'rgba': cv2.COLOR_RGBA2RGB,
        'bgra': cv2.COLOR_BGRA2RGB,
        'gray': cv2.COLOR_GRAY2RGB,
    },
    'bgr': {
        'rgb': cv2.COLOR_RGB2BGR,
        'rgba': cv2.COLOR_RGBA2BGR,
        'bgra': cv2.COLOR_BGRA2BGR,
        'gray': cv2.COLOR_GRAY2BGR,
    },
    'gray': {
        'rgb': cv2.COLOR_RGB2GRAY,
        'bgr': cv2.COLOR_BGR2GRAY,
        'rgba': cv2.COLOR_RGBA2GRAY,
        'bgra': cv2.COLOR_BGRA2GRAY,
    },
}


class ImageError(NavMonitorError):
    """An image cannot be used; the message states the problem."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """Pixels in the channel order in which the camera sent them.

    ``pixels`` may be a read-only view into the message. Resize them first and convert the small
    result: ``DecodedImage(cv2.resize(image.pixels, size), image.order).rgb()``.
    """

    pixels: np.ndarray  # uint8 (H, W, channels), or (H, W) if order is 'gray'
    order: Order

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return self.pixels.shape[1]

    def rgb(self) -> np.ndarray:
        """Return the image in colour, without alpha.

        Returns:
            uint8 (H, W, 3), C-contiguous. It shares memory with ``pixels``, and so may be
            read-only, if they already are contiguous RGB.
        """
        if self.order == 'rgb':
            return np.ascontiguousarray(self.pixels)
        return cv2.cvtColor(self.pixels, CONVERSIONS['rgb'][self.order])

    def gray(self) -> np.ndarray:
        """Return the luma of the image, 0.299 R + 0.587 G + 0.114 B.

        Returns:
            uint8 (H, W), C-contiguous. It shares memory with ``pixels`` if they already are that.
        """
        if self.order == 'gray':
            return np.ascontiguousarray(self.pixels)
        return cv2.cvtColor(self.pixels, CONVERSIONS['gray'][self.order])

    def crop(self, x: int, y: int, width: int, height: int) -> DecodedImage:
        """Return a region of interest as a view.

        Args:
            x: Left column of the region, pixels.
            y: Top row of the region, pixels.
            width: Width of the region, pixels.
            height: Height of the region, pixels.

        Returns:
            The ``height`` x ``width`` pixels of the region, sharing memory with this image.

        Raises:
            ImageError: The region is empty or reaches outside the image.
        """
        fits = 0 <= x <= self.width - width and 0 <= y <= self.height - height
        if width < 1 or height < 1 or not fits:
            raise ImageError(
                f'region of interest x={x} y={y} width={width} height={height} does not lie '
                f'inside the image of {self.width} x {self.height} pixels'
            )
        return DecodedImage(self.pixels[y : y + height, x : x + width], self.order)
