"""Compressed camera messages: JPEG and PNG as drivers and image_transport send them."""

from __future__ import annotations

import array
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import ImageError

MEGAPIXEL = 1_000_000
SCENE = cv2.resize(  # smooth, so that JPEG keeps it; not square, so that a rotation shows
    np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8),
    (40, 24),
    interpolation=cv2.INTER_CUBIC,
)  # RGB


def encode(suffix: str, pixels: np.ndarray) -> bytes:
    """Compress pixels that are in OpenCV's order."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


JPEG = encode('.jpg', SCENE[:, :, ::-1])
PNG = encode('.png', SCENE[:, :, ::-1])


def segment(marker: int, payload: bytes) -> bytes:
    """Return one JPEG segment with its length."""
    return bytes([0xFF, marker]) + struct.pack('>H', len(payload) + 2) + payload


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """Return a JPEG with one segment more after its first marker."""
    return jpeg[:2] + segment(marker, payload) + jpeg[2:]


def chunk(kind: bytes, payload: bytes) -> bytes:
    """Return one PNG chunk."""
    checksum = zlib.crc32(kind + payload)
    return struct.pack('>I', len(payload)) + kind + payload + struct.pack('>I', checksum)


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *more: bytes) -> bytes:
    """Return a PNG of unfiltered rows; ``more`` chunks stand before the pixels."""
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b''.join(b'\0' + row for row in rows))
    chunks = [chunk(b'IHDR', header), *more, chunk(b'IDAT', pixels), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'format', ['png', 'rgb8; png compressed bgr8', 'bgr8; png compressed bgr8']
)
def test_png_gives_back_its_pixels(format: str) -> None:
    assert decode_compressed(format, PNG, max_pixels=MEGAPIXEL).rgb().tolist() == SCENE.tolist()


@pytest.mark.parametrize(
    'format',
    [
        'jpeg',
        'jpg',
        'JPEG',
        'image/jpeg',
        # What drivers really write, and what says nothing or something else.
        'mjpeg',
        'MJPG',
        'MJPEG',
        '',
        'rgb8',
        'png',
        'h264',
        'bgr8; mjpeg compressed bgr8',
        'rgb8; jpeg compressed bgr8',
        'bgra8; jpeg compressed bgr8',
    ],
)
def test_jpeg_gives_back_its_colours(format: str) -> None:
    image = decode_compressed(format, array.array('B', JPEG), max_pixels=MEGAPIXEL)
    assert image.order == 'bgr'
    assert np.abs(image.rgb().astype(int) - SCENE).mean() < 3


@pytest.mark.parametrize(
    'format', ['rgb8; jpeg compressed', 'rgb8; jpeg compressed rgb8', 'bgr8; png compressed ']
)
def test_colours_that_were_swapped_before_compression_are_swapped_back(format: str) -> None:
    encoded = encode('.png' if 'png' in format else '.jpg', SCENE)  # RGB given to a BGR encoder
    image = decode_compressed(format, encoded, max_pixels=MEGAPIXEL)
    assert image.order == 'rgb'
    assert np.abs(image.rgb().astype(int) - SCENE).mean() < 3


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize(
    'format', ['jpeg', 'mono8; png compressed', 'mono8; jpeg compressed mono8']
)
def test_grey_picture_stays_one_channel(suffix: str, format: str) -> None:
    grey = SCENE[:, :, 0]
    image = decode_compressed(format, encode(suffix, grey), max_pixels=MEGAPIXEL)
    assert image.order == 'gray'
    assert image.pixels.shape == grey.shape
    assert np.abs(image.pixels.astype(int) - grey).mean() < 2


def test_16_bit_png_keeps_its_upper_byte() -> None:
    grey = np.array([[0, 255, 256], [0x1234, 0xFF00, 0xFFFF]], np.uint16)
    image = decode_compressed('16UC1; png compressed', encode('.png', grey), max_pixels=MEGAPIXEL)
    assert image.pixels.tolist() == [[0, 0, 1], [0x12, 0xFF, 0xFF]]
    colour = png(1, 2, 16, 2, [bytes([1, 255, 2, 255, 3, 255]), bytes([4, 0, 5, 0, 6, 0])])
    image = decode_compressed('png', colour, max_pixels=MEGAPIXEL)
    assert image.rgb().tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize(
    ('encoded', 'expected'),
    [
        (png(2, 1, 8, 6, [bytes([1, 2, 3, 0, 4, 5, 6, 128])]), [[1, 2, 3], [4, 5, 6]]),
        (png(2, 1, 8, 4, [bytes([10, 0, 200, 128])]), [[10] * 3, [200] * 3]),
        (png(2, 1, 16, 6, [bytes(range(16))]), [[0, 2, 4], [8, 10, 12]]),
        (
            png(2, 1, 8, 3, [bytes([1, 0])], chunk(b'PLTE', bytes([1, 2, 3, 4, 5, 6]))),
            [[4, 5, 6], [1, 2, 3]],
        ),
        (png(4, 1, 1, 0, [bytes([0b10110000])]), [[255] * 3, [0] * 3, [255] * 3, [255] * 3]),
    ],
    ids=['rgba', 'grey with alpha', 'rgba of 16 bits', 'palette', 'one bit'],
)
def test_every_kind_of_png_becomes_rgb_without_alpha(
    encoded: bytes, expected: list[list[int]]
) -> None:
    image = decode_compressed('png', encoded, max_pixels=MEGAPIXEL)
    assert image.rgb().tolist() == [expected]


def test_exif_orientation_does_not_turn_the_image() -> None:
    turned = struct.pack('<2sHIHHHIHHI', b'II', 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    encoded = with_segment(JPEG, 0xE1, b'Exif\0\0' + turned)
    assert cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (40, 24)
    image = decode_compressed('jpeg', encoded, max_pixels=MEGAPIXEL)
    assert (image.height, image.width) == (24, 40)


@pytest.mark.parametrize('source', ['bayer_rggb8', 'bayer_rggb16'])
def test_compressed_mosaic_becomes_colour(source: str) -> None:
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (4, 5))
    image = decode_compressed(
        f'{source}; png compressed ', encode('.png', mosaic), max_pixels=MEGAPIXEL
    )
    assert (image.rgb() == (200, 100, 50)).all()


# --- refusals -------------------------------------------------------------------------------------


def test_a_depth_image_is_no_picture() -> None:
    with pytest.raises(ImageError, match='is a depth image and not supported; jpeg and png are'):
        decode_compressed('16UC1; compressedDepth png', PNG, max_pixels=MEGAPIXEL)


@pytest.mark.parametrize('format', ['', 'webp', 'jpeg', 'h264\n\x1b[31m'])
def test_data_that_is_no_picture_is_refused_with_the_format_that_it_claims(format: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_compressed(format, b'RIFF\x10\0\0\0WEBPVP8 ', max_pixels=MEGAPIXEL)
    assert f'format {format!r}) is neither JPEG nor PNG' in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_frame_of_motion_jpeg_needs_no_tables_of_its_own() -> None:
    """As webcams send them: the standard Huffman tables are left out."""
    whole, kept, place = JPEG, [JPEG[:2]], 2
    while whole[place + 1] != 0xDA:
        length = 2 + struct.unpack_from('>H', whole, place + 2)[0]
        if whole[place + 1] != 0xC4:
            kept.append(whole[place : place + length])
        place += length
    image = decode_compressed('mjpeg', b''.join([*kept, whole[place:]]), max_pixels=MEGAPIXEL)
    assert np.abs(image.rgb().astype(int) - SCENE).mean() < 3


@pytest.mark.parametrize('data', [b'', b'\xff', b'GIF89a' + bytes(99), PNG[1:], JPEG[1:]])
def test_data_of_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match='neither JPEG nor PNG'):
        decode_compressed('jpeg', data, max_pixels=MEGAPIXEL)


def resized_header(encoded: bytes, width: int, height: int) -> bytes:
    """Return a picture whose header claims another size, as a decompression bomb's does."""
    if encoded.startswith(b'\x89PNG'):
        header = chunk(b'IHDR', struct.pack('>II', width, height) + encoded[24:29])
        return encoded[:8] + header + encoded[33:]
    frame = encoded.index(b'\xff\xc0') + 5
    return encoded[:frame] + struct.pack('>HH', height, width) + encoded[frame + 4 :]


@pytest.mark.parametrize('encoded', [JPEG, PNG], ids=['jpeg', 'png'])
def test_size_is_checked_before_pixels_are_decoded(
    encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('the pixels were decoded'))
    bomb = resized_header(encoded, 65500, 65000)
    with pytest.raises(
        ImageError, match='65500 x 65000 pixels is larger than max_pixels = 1000000'
    ):
        decode_compressed('jpeg', bomb, max_pixels=MEGAPIXEL)
    with pytest.raises(ImageError, match='image is empty: 40 x 0'):
        decode_compressed('jpeg', resized_header(encoded, 40, 0), max_pixels=MEGAPIXEL)


@pytest.mark.parametrize('encoded', [JPEG, PNG], ids=['jpeg', 'png'])
def test_max_pixels_is_the_largest_size_that_passes(encoded: bytes) -> None:
    assert decode_compressed('png', encoded, max_pixels=960).width == 40
    with pytest.raises(ImageError, match='40 x 24 pixels is larger than max_pixels = 959'):
        decode_compressed('png', encoded, max_pixels=959)


def test_size_of_a_thumbnail_is_not_taken_for_the_picture() -> None:
    bomb = resized_header(JPEG, 65500, 65000)
    small = encode('.jpg', SCENE[:8, :8])
    assert decode_compressed('jpeg', with_segment(JPEG, 0xE2, bomb), max_pixels=960).width == 40
    with pytest.raises(ImageError, match='65500 x 65000'):
        decode_compressed('jpeg', with_segment(bomb, 0xE2, small), max_pixels=960)


def test_fill_bytes_and_garbage_before_a_marker_are_skipped() -> None:
    encoded = JPEG[:2] + b'\xff\xff' + JPEG[2:]
    assert decode_compressed('jpeg', encoded, max_pixels=960).width == 40


@given(share=st.floats(0, 1, exclude_max=True))
@example(share=1 - 1e-9)
@settings(deadline=None)
@pytest.mark.parametrize('encoded', [JPEG, PNG], ids=['jpeg', 'png'])
def test_truncated_picture_is_refused(encoded: bytes, share: float) -> None:
    with pytest.raises(ImageError):
        decode_compressed('jpeg', encoded[: int(len(encoded) * share)], max_pixels=MEGAPIXEL)


def test_truncated_jpeg_is_refused_even_with_a_complete_thumbnail() -> None:
    encoded = with_segment(JPEG, 0xE2, JPEG)
    with pytest.raises(ImageError, match='truncated: no end marker'):
        decode_compressed('jpeg', encoded[:-2], max_pixels=MEGAPIXEL)


SCANS = segment(0xDA, bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])) * 99


@pytest.mark.parametrize('encoded', [JPEG, PNG], ids=['jpeg', 'png'])
@pytest.mark.parametrize(
    'appended',
    [
        np.random.default_rng(0).integers(0, 256, 4 << 20, np.uint8).tobytes(),
        SCANS + b'\xff\xd9',
        JPEG + JPEG[: len(JPEG) // 2],
        PNG[:-20],
    ],
    ids=['video', 'scans', 'images', 'truncated png'],
)
def test_what_a_phone_appends_to_a_picture_is_not_read(encoded: bytes, appended: bytes) -> None:
    expected = decode_compressed('jpeg', encoded, max_pixels=960).pixels
    image = decode_compressed('jpeg', encoded + appended, max_pixels=960)
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize('progressive', [0, 1])
@pytest.mark.parametrize('interval', [0, 1])
def test_restart_markers_and_several_scans_are_no_end(progressive: int, interval: int) -> None:
    options = [
        cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, interval,
        cv2.IMWRITE_JPEG_QUALITY, 100,
    ]
    noise = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    encoded = cv2.imencode('.jpg', noise, options)[1].tobytes()
    assert b'\xff\x00' in encoded and (b'\xff\xd0' in encoded) == bool(interval)
    assert (encoded.count(b'\xff\xda') > 5) == bool(progressive)
    image = decode_compressed('jpeg', encoded + SCANS, max_pixels=MEGAPIXEL)
    assert np.array_equal(image.pixels, cv2.imdecode(np.frombuffer(encoded, np.uint8), -1))
    with pytest.raises(ImageError, match='truncated: no end marker'):
        decode_compressed('jpeg', encoded[:-2], max_pixels=MEGAPIXEL)


@pytest.mark.parametrize(
    'before',
    [b'', segment(0xFE, b'\xff\xd9'), segment(0xE1, JPEG), b'\xff\x02\x7f\xff', b'\xff'],
    ids=['nothing', 'comment with an end', 'picture', 'reserved marker', 'fill byte'],
)
def test_very_many_scans_cannot_be_hidden(before: bytes) -> None:
    bomb = JPEG[:-2] + before + SCANS + JPEG[-2:]
    with pytest.raises(ImageError, match='has 100 scans, more than the 32 allowed'):
        decode_compressed('jpeg', bomb, max_pixels=MEGAPIXEL)


@pytest.mark.parametrize(
    'after', [JPEG, segment(0xFE, b'\xff\xd9'), segment(0xE1, JPEG)],
    ids=['the next frame', 'comment', 'picture'],
)
def test_the_end_of_something_else_does_not_complete_a_truncated_jpeg(after: bytes) -> None:
    scan = JPEG.index(b'\xff\xda')
    for length in (scan + 20, (scan + len(JPEG)) // 2, len(JPEG) - 2):
        with pytest.raises(ImageError, match='truncated: no end marker'):
            decode_compressed('jpeg', JPEG[:length] + after, max_pixels=MEGAPIXEL)


def test_the_end_of_a_png_inside_another_does_not_complete_it() -> None:
    place = PNG.index(b'IDAT') - 4
    inside = PNG[:place] + chunk(b'prVw', PNG) + PNG[place:]
    assert decode_compressed('png', inside, max_pixels=960).width == 40
    with pytest.raises(ImageError, match='truncated: no end marker'):
        decode_compressed('png', inside[:-12], max_pixels=960)


@pytest.mark.parametrize('length', [len(PNG), 1 << 30, (1 << 32) - 1])
def test_no_room_is_made_for_what_a_png_only_promises(length: int) -> None:
    place = PNG.index(b'IDAT') - 4
    promising = PNG[:place] + length.to_bytes(4, 'big') + PNG[place + 4 :]
    with pytest.raises(ImageError, match=f'a part of {length} bytes at byte {place} of'):
        decode_compressed('png', promising, max_pixels=MEGAPIXEL)


def test_corrupt_png_is_refused() -> None:
    corrupt = bytearray(PNG)
    corrupt[len(PNG) // 2] ^= 0x55
    with pytest.raises(ImageError, match='corrupt'):
        decode_compressed('png', corrupt, max_pixels=MEGAPIXEL)


@given(
    start=st.sampled_from([b'', b'\xff\xd8\xff', JPEG[:200], PNG[:24], JPEG, PNG]),
    tail=st.binary(max_size=200),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), max_size=4),
    end=st.sampled_from([b'', b'\xff\xd9', PNG[-12:]]),
)
@settings(deadline=None, max_examples=300)
def test_any_bytes_give_a_bounded_picture_or_an_image_error(
    start: bytes, tail: bytes, flips: list[tuple[int, int]], end: bytes
) -> None:
    data = bytearray(start + tail + end)
    for position, mask in flips:
        if position < len(data):
            data[position] ^= mask
    try:
        image = decode_compressed('jpeg', data, max_pixels=2000)
    except ImageError as error:
        assert '\n' not in str(error)
        return
    assert image.width * image.height <= 2000
    assert image.rgb().shape == (image.height, image.width, 3)
