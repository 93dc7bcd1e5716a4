"""Image files decoded to the colours that Pillow gives, whatever their samples are, or refused."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest

from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.perception.image_files import decode_picture

Image = pytest.importorskip('PIL.Image')

HEIGHT, WIDTH = 5, 7
RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
RGB = RGBA[:, :, :3].copy()
MAXVALS = (1, 3, 15, 100, 254, 255, 256, 1023, 4095, 65535)
RGB_SPACE, GRAY_SPACE, WHITE_IS_ZERO, LAB_SPACE = 2, 1, 0, 8


def decoded(encoded: bytes) -> np.ndarray:
    return decode_picture(encoded).rgb()


def by_pillow(encoded: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return np.asarray(Image.open(io.BytesIO(encoded)).convert('RGB'))


def written(image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def netpbm(kind: int, samples: np.ndarray, maxval: int, comment: bytes = b'') -> bytes:
    """Return a PGM (2, 5) or PPM (3, 6) file of samples (H, W, channels)."""
    height, width = samples.shape[:2]
    header = b'P%d\n%s%d %d\n%d\n' % (kind, comment, width, height, maxval)
    if kind in (2, 3):
        return header + b' '.join(b'%d' % sample for sample in samples.ravel()) + b'\n'
    return header + samples.astype('>u2' if maxval > 255 else 'u1').tobytes()


def tiff(
    samples: np.ndarray, space: int, *, extra: int | None = None, kind: int | None = None
) -> bytes:
    """Return an uncompressed TIFF of samples (H, W, N), with a meaning of the last one."""
    height, width, count = samples.shape
    bits = 8 * samples.dtype.itemsize
    data = samples.astype(samples.dtype.newbyteorder('<')).tobytes()
    data += bytes(len(data) % 2)
    entries = [
        (256, (width,)), (257, (height,)), (258, (bits,) * count), (259, (1,)), (262, (space,)),
        (273, (8,)), (277, (count,)), (278, (height,)), (279, (len(data),)), (284, (1,)),
    ]
    if extra is not None:
        entries.append((338, (extra,)))
    if kind is not None:
        entries.append((339, (kind,) * count))
    directory = 8 + len(data)
    behind = directory + 2 + 12 * len(entries) + 4
    listed, tail = b'', b''
    for tag, values in entries:
        packed = struct.pack(f'<{len(values)}H', *values)
        if len(packed) > 4:
            packed, tail = struct.pack('<I', behind + len(tail)), tail + packed
        listed += struct.pack('<HHI', tag, 3, len(values)) + packed.ljust(4, b'\0')
    return (
        b'II*\0' + struct.pack('<I', directory) + data
        + struct.pack('<H', len(entries)) + listed + bytes(4) + tail
    )


@pytest.mark.parametrize('maxval', MAXVALS)
@pytest.mark.parametrize('kind', [2, 5, 3, 6])
def test_netpbm_samples_are_scaled_by_their_maxval(kind, maxval):
    samples = RNG.integers(0, maxval + 1, (HEIGHT, WIDTH, 3 if kind in (3, 6) else 1))
    expected = samples >> 8 if maxval == 65535 else np.rint(samples / maxval * 255)
    found = decoded(netpbm(kind, samples, maxval))
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize('maxval', [maxval for maxval in MAXVALS if maxval < 256])
@pytest.mark.parametrize('kind', [2, 5, 3, 6])
def test_netpbm_is_read_as_pillow_reads_it(kind, maxval):
    samples = RNG.integers(0, maxval + 1, (HEIGHT, WIDTH, 3 if kind in (3, 6) else 1))
    encoded = netpbm(kind, samples, maxval, comment=b'# 9 9 of a scanner\n')
    np.testing.assert_array_equal(decoded(encoded), by_pillow(encoded))


def test_samples_above_maxval_are_white():
    assert decoded(netpbm(5, np.full((2, 2, 1), 200), 15)).min() == 255


@pytest.mark.parametrize('content', [
    b'P4\n10 2\n' + bytes([0xA5, 0x40, 0x0F, 0x80]),
    b'P1\n3 2\n1 0 1\n0 1 1\n',
    b'P1\n3 2\n101011',
    b'P2\n2 1\n255\n7 8',
])
def test_bitmaps_and_texts_without_a_last_line_break_are_read_as_pillow_reads_them(content):
    np.testing.assert_array_equal(decoded(content), by_pillow(content))


@pytest.mark.parametrize(('content', 'reason'), [
    (b'P5\n4 4\n255\n' + bytes(15), 'truncated: its samples need 16 bytes, got 15'),
    (b'P6\n4 4\n1023\n' + bytes(95), 'truncated: its samples need 96 bytes, got 95'),
    (b'P4\n9 2\n' + bytes(3), 'truncated: its samples need 4 bytes, got 3'),
    (b'P2\n2 2\n255\n1 2 3\n', 'truncated: 4 samples are needed, got 3'),
    (b'P2\n2 2\n255\n1 2 3 x\n', 'a sample is not a number'),
    (b'P3\n1 1\n255\n1 2 -3\n', 'a sample is not a number'),
    (b'P3\n1 1\n255\n1 2 99999999999999999999999\n', 'a sample is not a number'),
    (b'P5\n4 4\n0\n' + bytes(16), 'maxval 0 is not 1 to 65535'),
    (b'P5\n4 4\n70000\n' + bytes(32), 'maxval 70000 is not 1 to 65535'),
    (b'P5\n4', 'header is truncated'),
    (b'P5\n4 4\n', 'header is truncated'),
    (b'P5\n0 4\n255\n', 'empty or too large'),
    (b'P5\n999999999 999999999\n255\n', 'empty or too large'),
])
def test_netpbm_that_is_damaged_is_refused(content, reason):
    with pytest.raises(ImageError, match=reason):
        decode_picture(content)


@pytest.mark.parametrize('form', ['PNG', 'TIFF'])
@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'L', '1', 'P'])
def test_every_mode_becomes_what_pillow_converts_to_rgb(form, mode):
    image = Image.fromarray(RGBA).convert(mode) if mode != 'LA' else Image.merge(
        'LA', [Image.fromarray(RGBA[:, :, band].copy()) for band in (0, 3)])
    encoded = written(image, form)
    assert Image.open(io.BytesIO(encoded)).mode == mode
    np.testing.assert_array_equal(decoded(encoded), by_pillow(encoded))


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_palettes_of_png_are_resolved_and_their_transparency_is_dropped(bits):
    image = Image.fromarray(RGB).quantize(2 ** min(bits, 5))
    encoded = written(image, 'PNG', bits=bits, transparency=1)
    np.testing.assert_array_equal(decoded(encoded), by_pillow(encoded))


@pytest.mark.parametrize('extra', [0, 1, 2], ids=['unspecified', 'associated', 'unassociated'])
def test_alpha_of_tiff_does_not_darken_its_colors(extra):
    alpha = RGBA[:, :, 3:].astype(int)
    stored = np.dstack([RGB * (alpha / 255), alpha]).astype(np.uint8) if extra == 1 else RGBA
    encoded = tiff(stored, RGB_SPACE, extra=extra)
    np.testing.assert_array_equal(decoded(encoded), by_pillow(encoded))


@pytest.mark.parametrize(('channels', 'extra'), [(3, None), (4, 0), (4, 2)])
def test_16_bit_colors_of_tiff_are_scaled_to_8_bits_whatever_their_alpha(channels, extra):
    deep = RNG.integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    found = decoded(tiff(deep, RGB_SPACE, extra=extra)).astype(int)
    # libtiff rounds to 8 bits.
    assert np.abs(found - deep[:, :, :3] / 257).max() <= 1


def test_of_16_bit_gray_the_upper_8_bits_are_kept():
    deep = RNG.integers(0, 65536, (HEIGHT, WIDTH, 1)).astype(np.uint16)
    gray = np.broadcast_to(deep >> 8, (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(decoded(tiff(deep, GRAY_SPACE)), gray)
    np.testing.assert_array_equal(decoded(written(Image.fromarray(deep[:, :, 0]), 'PNG')), gray)


def test_gray_tiff_whose_zero_is_white_is_inverted():
    found = decoded(tiff(RGB[:, :, :1].copy(), WHITE_IS_ZERO))
    np.testing.assert_array_equal(found, np.broadcast_to(255 - RGB[:, :, :1], RGB.shape))


@pytest.mark.parametrize(('samples', 'space', 'kind', 'reason'), [
    (RGB.astype(np.int16), RGB_SPACE, 2, 'signed integers'),
    (RGB.astype(np.float32), RGB_SPACE, 3, 'floating-point numbers'),
    (RGB.astype(np.uint32), RGB_SPACE, 1, 'samples of 32 bits'),
    (RGB, LAB_SPACE, 1, 'color space 8'),
], ids=['signed', 'float', '32 bits', 'Lab'])
def test_tiff_that_has_no_plain_colors_is_refused_with_the_remedy(samples, space, kind, reason):
    with pytest.raises(ImageError, match=f'{reason}.*save it as RGB or gray with 8 or 16 bits'):
        decode_picture(tiff(samples, space, kind=kind))
