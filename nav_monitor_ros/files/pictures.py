"""Pictures, animations and pages as files, complete or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import write_file

_GIF_COLORS = 64
_SAMPLED = 8  # pictures that an animation's palette is made from


def require_suffix(paths: Sequence[Path], suffixes: Sequence[str]) -> None:
    """Check the suffixes of output files, before long work begins.

    Raises:
        NavMonitorError: One has another ending.
    """
    for path in paths:
        if path.suffix.lower() not in suffixes:
            kinds = ' or '.join(suffixes)
            raise NavMonitorError(f'--output {path}: this view is written as {kinds}')


def encoded_png(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 (h, w, 3) RGB, as a PNG file."""
    # OpenCV's default is fast, but the files are three times as large.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    encoded = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1]
    return encoded.tobytes()


def write_png(path: Path, picture: np.ndarray, colors: int = 0) -> None:
    """Write a picture.

    Args:
        path: The file.
        picture: uint8 (h, w, 3) RGB.
        colors: Of a palette, 2 to 256, which makes the file smaller and colours a little wrong;
            0 writes all colours.

    Raises:
        NavMonitorError: The file cannot be written.
    """
    if not colors:
        write_file(path, encoded_png(picture))
        return
    if not 2 <= colors <= 256:
        raise NavMonitorError(f'--colors {colors}: a palette has 2 to 256')
    image = _pillow()
    content = io.BytesIO()
    reduced = image.fromarray(picture).quantize(colors, dither=image.Dither.NONE)
    reduced.save(content, 'PNG', optimize=True)
    write_file(path, content.getvalue())


def write_gif(path: Path, pictures: Sequence[np.ndarray], pause_ms: int) -> None:
    """Write a repeating animation; the last picture is shown four times as long.

    Args:
        path: The file.
        pictures: uint8 (h, w, 3) RGB, of one size.
        pause_ms: Between pictures, milliseconds.

    Raises:
        NavMonitorError: The file cannot be written.
    """
    image = _pillow()
    # A common palette, so that unchanged pixels take no space.
    sampled = np.concatenate(pictures[:: -(-len(pictures) // _SAMPLED)])
    palette = image.fromarray(sampled).quantize(_GIF_COLORS, dither=image.Dither.NONE)
    frames = [
        image.fromarray(picture).quantize(palette=palette, dither=image.Dither.NONE)
        for picture in pictures
    ]
    pauses = [pause_ms] * (len(frames) - 1) + [4 * pause_ms]
    content = io.BytesIO()
    frames[0].save(
        content, 'GIF', save_all=True, append_images=frames[1:], duration=pauses, loop=0
    )
    write_file(path, content.getvalue())


def write_page(path: Path, page: str) -> None:
    """Write an HTML page.

    Raises:
        NavMonitorError: The file cannot be written.
    """
    # Names of files may contain bytes that are not valid UTF-8.
    write_file(path, page.encode('utf-8', errors='backslashreplace'))


def _pillow():
    try:
        from PIL import Image
    except ImportError:
        raise NavMonitorError(
            "animations and palettes need Pillow: pip install 'nav_monitor_ros[gradients]'"
        ) from None
    return Image
