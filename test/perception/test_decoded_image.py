"""Regions of interest of a decoded image."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.perception.image_encodings import decode


@pytest.mark.parametrize(
    ('encoding', 'pixel_bytes'), [('rgb8', 3), ('mono8', 1), ('mono16', 2), ('uyvy', 2)]
)
def test_crop_selects_columns_x_and_rows_y(encoding: str, pixel_bytes: int) -> None:
    samples = np.random.default_rng(1).integers(0, 256, 6 * 8 * 6, dtype=np.uint8)
    image = decode(encoding, 6, 8, 8 * pixel_bytes, False, samples, max_pixels=99)
    region = image.crop(1, 2, 5, 3)
    assert (region.width, region.height, region.order) == (5, 3, image.order)
    assert region.rgb().tolist() == image.rgb()[2:5, 1:6].tolist()
    assert np.shares_memory(region.pixels, image.pixels)
    assert image.crop(0, 0, 8, 6).pixels.tolist() == image.pixels.tolist()


@pytest.mark.parametrize(
    'region',
    [
        (-1, 0, 2, 2),
        (0, -1, 2, 2),
        (7, 0, 2, 2),
        (0, 5, 2, 2),
        (0, 0, 9, 6),
        (0, 0, 0, 2),
        (0, 0, 2, -1),
    ],
)
def test_crop_outside_the_image_is_refused(region: tuple[int, int, int, int]) -> None:
    image = decode('mono8', 6, 8, 8, False, bytes(48), max_pixels=99)
    x, y, width, height = region
    named = f'x={x} y={y} width={width} height={height} does not lie inside the image of 8 x 6'
    with pytest.raises(ImageError, match=named):
        image.crop(*region)
