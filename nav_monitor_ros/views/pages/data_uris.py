"""Images as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from nav_monitor_ros.files.pictures import encoded_png

_SIDE = 420  # pixels, longer side of a photograph
_LEAST_SIDE = 192  # pixels, approximate side of an enlarged image
_PIXELS_SEEN = 96  # pixels, longer side of images shown pixel by pixel


def data_uri(kind: str, content: bytes) -> str:
    """Return a file's content as a data URI, given its MIME type."""
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'


def png_uri(picture: np.ndarray) -> str:
    """Return the data URI of a picture, uint8 (H, W, 3) RGB, without loss."""
    return data_uri('image/png', encoded_png(picture))


def photo_uri(picture: np.ndarray) -> str:
    """Return the data URI of a small copy of a photograph, uint8 (H, W, 3) RGB."""
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    if max(picture.shape[:2]) <= _PIXELS_SEEN:
        # Each pixel is a square with its own colour, which JPEG would average over four.
        times = max(1, _LEAST_SIDE // max(picture.shape[:2]))
        return png_uri(picture.repeat(times, axis=0).repeat(times, axis=1))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    return data_uri('image/jpeg', encoded.tobytes())
