"""Convert pixels to the network's input, exactly as in training."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import CONVERSIONS
from nav_monitor_ros.perception.exif_orientation import EXIF, IGNORE

LARGEST_INPUT = 1 << 21  # largest number of pixels of a network's input
FITS = ('stretch', 'center_crop', 'letterbox')
COLORS = ('rgb', 'bgr', 'gray')
INTERPOLATIONS = ('antialias', 'bicubic', 'area', 'bilinear', 'nearest')

_ANTIALIASED = {'antialias': 'bilinear', 'bicubic': 'bicubic'}  # by their names in torch
_CV2 = {'area': cv2.INTER_AREA, 'bilinear': cv2.INTER_LINEAR, 'nearest': cv2.INTER_NEAREST}


@dataclass(frozen=True)
class Preprocess:
    """Resize, convert the colours, normalise: ``(pixel * scale - mean) / std``.

    Resizing comes before colour conversion, since most cameras send far more pixels than the
    network uses.
    """

    height: int  # rows of the network's input
    width: int  # columns of the network's input
    fit: str = 'stretch'  # how images of another aspect ratio are fitted, one of FITS
    resize_to: int = 0  # center_crop: length of the shorter side before cropping; 0: no margin
    color: str = 'rgb'  # channel order that the network expects, one of COLORS
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # one per channel
    std: tuple[float, ...] = (0.229, 0.224, 0.225)  # one per channel
    interpolation: str = 'antialias'  # one of INTERPOLATIONS
    # antialias (bilinear) and bicubic: as in Pillow and torchvision; the others: as in OpenCV
    exif: str = IGNORE  # whether to apply the EXIF orientation, one of EXIF

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            NavMonitorError: A field is out of range; the message names it.
        """
        for name, choices in (
            ('fit', FITS), ('color', COLORS), ('interpolation', INTERPOLATIONS), ('exif', EXIF)
        ):
            if getattr(self, name) not in choices:
                raise NavMonitorError(
                    f"preprocessing: {name} is '{getattr(self, name)}'; it must be one of "
                    f'{", ".join(choices)}'
                )
        sides = self.height, self.width
        if not (0 < min(sides) and max(sides) <= 8192 and math.prod(sides) <= LARGEST_INPUT):
            raise NavMonitorError(
                f'preprocessing: {self.height} x {self.width} is not a usable input size'
            )
        largest = max(self.height, self.width)
        if self.resize_to and not (
            self.fit == 'center_crop' and largest <= self.resize_to <= 4 * largest
        ):
            raise NavMonitorError(
                f'preprocessing: resize_to is {self.resize_to}; it is for center_crop and must be '
                'one to four times the input size'
            )
        channels = 1 if self.color == 'gray' else 3
        if len(self.mean) != channels or len(self.std) != channels:
            raise NavMonitorError(
                f'preprocessing: mean and std need {channels} numbers each for {self.color}, not '
                f'{len(self.mean)} and {len(self.std)}'
            )
        numbers = (self.scale, *self.mean, *self.std)
        if not all(math.isfinite(n) for n in numbers) or min(self.scale, *self.std) <= 0:
            raise NavMonitorError('preprocessing: scale and std must be finite and above 0')

    @property
    def channels(self) -> int:
        """Return the number of the network's input channels."""
        return len(self.mean)

    def apply(self, image: np.ndarray, order: str = '') -> np.ndarray:
        """Return the network's input for one image.

        Args:
            image: uint8 (H, W, 3), (H, W, 4) or (H, W).
            order: Channel order of the image: ``rgb``, ``bgr``, ``rgba``, ``bgra`` or ``gray``;
                by default ``rgb``, or ``gray`` without a channel axis.

        Returns:
            float32 (channels, height, width).
        """
        return self.normalised(self.resized(image, order))

    def resized(self, image: np.ndarray, order: str = '') -> np.ndarray:
        """Return the pixels of the network's input, before normalisation.

        Args:
            image: As for ``apply``.
            order: As for ``apply``.

        Returns:
            uint8 (height, width, channels), contiguous, in the network's channel order.
        """
        order = order or ('gray' if image.ndim == 2 else 'rgb')
        pixels = {
            'stretch': self._stretched,
            'center_crop': self._cropped,
            'letterbox': self._letterboxed,
        }[self.fit](image)
        if order != self.color:
            pixels = cv2.cvtColor(pixels, CONVERSIONS[self.color][order])
        pixels = np.ascontiguousarray(pixels)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def normalised(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return ``(pixel * scale - mean) / std``.

        Args:
            pixels: uint8 (height, width, channels).
            out: float32 (channels, height, width) to write to; by default new memory, which costs
                as much as the computation.

        Returns:
            float32 (channels, height, width), ``out`` if it was given.
        """
        factor, offset = self._line
        if out is None:
            out = np.empty((self.channels, self.height, self.width), np.float32)
        np.multiply(pixels.transpose(2, 0, 1), factor, out=out)
        out += offset
        return out

    @cached_property
    def _line(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset of pixel values, float32 (channels, 1, 1)."""
        mean, std = np.array(self.mean), np.array(self.std)
        factor = (self.scale / std).astype(np.float32)
        offset = (-mean / std).astype(np.float32)
        return factor[:, None, None], offset[:, None, None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for YAML."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def from_dict(described: Mapping[str, Any]) -> Preprocess:
        """Return the preprocessing from the result of ``to_dict``.

        Raises:
            NavMonitorError: A field is unknown, missing, of a wrong type or out of range.
        """
        if not isinstance(described, Mapping):
            raise NavMonitorError('preprocessing: not a mapping of field names to values')
        known = {field.name for field in fields(Preprocess)}
        unknown = sorted(set(described) - known)
        if unknown:
            raise NavMonitorError(
                f'preprocessing: unknown field {unknown[0]}; fields are {", ".join(sorted(known))}'
            )
        if not {'height', 'width'} <= set(described):
            raise NavMonitorError('preprocessing: height and width are needed')
        values = {name: _typed(name, value) for name, value in described.items()}
        return Preprocess(**values)

    def _stretched(self, image: np.ndarray) -> np.ndarray:
        return self._scaled(image, self.height, self.width)

    def _cropped(self, image: np.ndarray) -> np.ndarray:
        if not self.resize_to:
            return self._scaled(_central(image, self.height, self.width), self.height, self.width)
        # Parts that are cropped anyway are not scaled first: a strip of 2 x 4000 pixels would grow
        # to hundreds of megabytes. The margin covers the filter's support.
        widest = 4 * max(self.height, self.width)
        narrow = min(self.height, self.width)
        rows, columns = image.shape[:2]
        if columns * narrow > rows * widest:
            image = _central(image, narrow, widest)
        elif rows * narrow > columns * widest:
            image = _central(image, widest, narrow)
        # As torchvision's Resize(shorter side) and CenterCrop, with their rounding.
        rows, columns = image.shape[:2]
        short = self.resize_to
        if rows <= columns:
            size = short, int(short * columns / rows)
        else:
            size = int(short * rows / columns), short
        scaled = self._scaled(image, *size)
        top = round((size[0] - self.height) / 2)
        left = round((size[1] - self.width) / 2)
        return scaled[top : top + self.height, left : left + self.width]

    def _letterboxed(self, image: np.ndarray) -> np.ndarray:
        rows, columns = image.shape[:2]
        ratio = min(self.height / rows, self.width / columns)
        size = max(1, round(rows * ratio)), max(1, round(columns * ratio))
        framed = np.zeros((self.height, self.width, *image.shape[2:]), np.uint8)
        top, left = (self.height - size[0]) // 2, (self.width - size[1]) // 2
        framed[top : top + size[0], left : left + size[1]] = self._scaled(image, *size)
        return framed

    def _scaled(self, image: np.ndarray, rows: int, columns: int) -> np.ndarray:
        if image.shape[:2] == (rows, columns):
            return image
        if self.interpolation in _CV2:
            return cv2.resize(image, (columns, rows), interpolation=_CV2[self.interpolation])
        torch = _torch()
        # OpenCV's bilinear and bicubic filters skip pixels when they shrink; torch's kernels are
        # those that torchvision's transforms use, and agree with Pillow's.
        contiguous = np.ascontiguousarray(image)
        # With strides that torch recognises as channels last: otherwise the result is planar, and
        # converting it costs as much as resizing.
        planes = torch.from_numpy(contiguous.reshape(1, *image.shape[:2], -1)).permute(0, 3, 1, 2)
        scaled = torch.nn.functional.interpolate(
            planes, (rows, columns), mode=_ANTIALIASED[self.interpolation], antialias=True,
            align_corners=False,
        )
        return scaled.permute(0, 2, 3, 1).numpy().reshape(rows, columns, *image.shape[2:])


@lru_cache(maxsize=1)
def _torch() -> Any:
    # Imported here since torch takes seconds to load and other interpolations do not need it.
    import torch

    # torch warns once about a tensor over read-only memory, such as a message's image. The memory
    # is only read here; a copy would cost as much as resizing.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.from_numpy(np.frombuffer(bytes(1), np.uint8))
    return torch


def _central(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the largest central region with the aspect ratio ``width / height``, as a view."""
    rows, columns = image.shape[:2]
    if columns * height >= rows * width:
        kept = max(1, round(rows * width / height))
        left = (columns - kept) // 2
        return image[:, left : left + kept]
    kept = max(1, round(columns * height / width))
    top = (rows - kept) // 2
    return image[top : top + kept]


def _typed(name: str, value: Any) -> Any:
    wanted = {
        'height': int, 'width': int, 'resize_to': int, 'scale': float, 'mean': tuple, 'std': tuple
    }.get(name, str)
    if wanted is float and _is_number(value):
        return float(value)
    if wanted is tuple and isinstance(value, (list, tuple)):
        if all(map(_is_number, value)):
            return tuple(float(v) for v in value)
    elif isinstance(value, wanted) and not isinstance(value, bool):
        return value
    raise NavMonitorError(
        f'preprocessing: {name} is {value!r}, which is not a valid {wanted.__name__}'
    )


def _is_number(value: Any) -> bool:
    """Return whether a value can be a float; integers are unbounded."""
    return (
        isinstance(value, float)
        or isinstance(value, int) and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )
