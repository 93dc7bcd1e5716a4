"""Raw camera messages: exact pixels for every encoding, and a reason for every refusal."""

from __future__ import annotations

import array
import sys
import tracemalloc
import types

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.image_encodings import ENCODINGS, decode

MEGAPIXEL = 1_000_000
RED, GREEN, BLUE, GREY = (200, 10, 20), (30, 210, 40), (50, 60, 220), (70, 70, 70)

# Bytes of a row for each pixel, written down independently of the module under test.
PIXEL_BYTES = {
    **dict.fromkeys(['rgb8', 'bgr8', '8UC3'], 3),
    **dict.fromkeys(['rgba8', 'bgra8', '8UC4'], 4),
    **dict.fromkeys(['rgb16', 'bgr16'], 6),
    **dict.fromkeys(['rgba16', 'bgra16'], 8),
    **dict.fromkeys(['mono8', '8UC1', 'nv12', 'nv21'], 1),
    **dict.fromkeys(['mono16', '16UC1'], 2),
    **dict.fromkeys(['uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2'], 2),
    **{f'bayer_{pattern}8': 1 for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{f'bayer_{pattern}16': 2 for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
}


def rows_of(encoding: str, height: int) -> int:
    """Return how many rows of ``step`` bytes an image has."""
    return height * 3 // 2 if encoding in ('nv12', 'nv21') else height


def decode_unpadded(encoding: str, samples: np.ndarray, height: int, width: int) -> DecodedImage:
    """Decode samples that stand without padding in the byte order of the array's type."""
    big = samples.dtype.byteorder == '>'
    step = PIXEL_BYTES[encoding] * width
    return decode(encoding, height, width, step, big, samples.tobytes(), max_pixels=MEGAPIXEL)


def test_every_encoding_of_the_contract_is_served_without_cv_bridge() -> None:
    contract = (
        'rgb8 bgr8 rgba8 bgra8 mono8 mono16 8UC1 8UC3 16UC1 bayer_rggb8 bayer_bggr8 bayer_gbrg8 '
        'bayer_grbg8 uyvy yuv422 yuyv yuv422_yuy2 nv12 nv21'
    )
    assert set(contract.split()) <= set(ENCODINGS)
    assert set(ENCODINGS) == set(PIXEL_BYTES)


# --- exact pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('encoding', 'channels'),
    [
        ('rgb8', [0, 1, 2]),
        ('bgr8', [2, 1, 0]),
        ('8UC3', [2, 1, 0]),
        ('rgba8', [0, 1, 2, 3]),
        ('bgra8', [2, 1, 0, 3]),
        ('8UC4', [2, 1, 0, 3]),
    ],
)
def test_packed_colours_become_rgb_without_alpha(encoding: str, channels: list[int]) -> None:
    rgba = np.array([[(*RED, 0), (*GREEN, 128)], [(*BLUE, 255), (*GREY, 1)]], np.uint8)
    image = decode_unpadded(encoding, rgba[:, :, channels], 2, 2)
    assert image.rgb().tolist() == [[list(RED), list(GREEN)], [list(BLUE), list(GREY)]]
    assert image.rgb().dtype == np.uint8
    assert image.rgb().flags.c_contiguous


@pytest.mark.parametrize('byte_order', ['<', '>'])
@pytest.mark.parametrize(
    ('encoding', 'channels'),
    [
        ('rgb16', [0, 1, 2]),
        ('bgr16', [2, 1, 0]),
        ('rgba16', [0, 1, 2, 3]),
        ('bgra16', [2, 1, 0, 3]),
    ],
)
def test_16_bit_colours_keep_their_upper_byte(
    encoding: str, channels: list[int], byte_order: str
) -> None:
    rgba = np.array([[(0x12FF, 0x3400, 0x56AB, 0xFFFF)], [(0, 0xFFFF, 0x80, 0)]], byte_order + 'u2')
    image = decode_unpadded(encoding, rgba[:, :, channels], 2, 1)
    assert image.rgb().tolist() == [[[0x12, 0x34, 0x56]], [[0, 0xFF, 0]]]


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey_stays_one_channel_until_colour_is_asked_for(encoding: str) -> None:
    image = decode_unpadded(encoding, np.array([[0, 1, 127], [128, 254, 255]], np.uint8), 2, 3)
    assert image.order == 'gray'
    assert image.pixels.tolist() == [[0, 1, 127], [128, 254, 255]]
    assert image.gray().tolist() == image.pixels.tolist()
    assert image.rgb().tolist() == [[[v] * 3 for v in row] for row in image.pixels.tolist()]


@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
@pytest.mark.parametrize('byte_order', ['<', '>'])
def test_16_bit_grey_is_shifted_right_by_8_in_either_byte_order(
    encoding: str, byte_order: str
) -> None:
    samples = np.array([[0, 255, 256], [0x1234, 0xFF00, 0xFFFF]], byte_order + 'u2')
    image = decode_unpadded(encoding, samples, 2, 3)
    assert image.pixels.tolist() == [[0, 0, 1], [0x12, 0xFF, 0xFF]]


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', ['8', '16'])
def test_mosaic_of_one_colour_becomes_that_colour(pattern: str, bits: str) -> None:
    tile = [{'r': 200, 'g': 100, 'b': 50}[colour] for colour in pattern]
    mosaic = np.tile(np.array(tile, np.uint8).reshape(2, 2), (3, 4))[:5, :7]  # odd sizes are legal
    samples = mosaic if bits == '8' else mosaic.astype('<u2') * 256 + 99
    image = decode_unpadded(f'bayer_{pattern}{bits}', samples, 5, 7)
    assert image.order == 'rgb'
    assert (image.pixels == (200, 100, 50)).all()


# Limited-range BT.601, as cameras send it and as OpenCV and cv_bridge read it.
YUV_BLACK, YUV_WHITE, YUV_RED, YUV_BLUE = (
    (16, 128, 128),
    (235, 128, 128),
    (81, 90, 240),
    (41, 240, 110),
)
YUV_TO_RGB = {
    YUV_BLACK: (0, 0, 0),
    YUV_WHITE: (255, 255, 255),
    YUV_RED: (254, 0, 0),
    YUV_BLUE: (0, 0, 255),
}


@pytest.mark.parametrize(
    ('encoding', 'positions'),
    [
        ('uyvy', 'uyvy'),
        ('yuv422', 'uyvy'),
        ('yuyv', 'yuyv'),
        ('yuv422_yuy2', 'yuyv'),
    ],
)
def test_422_pairs_become_rgb(encoding: str, positions: str) -> None:
    pairs = [[YUV_RED, YUV_BLUE], [YUV_BLACK, YUV_WHITE]]
    samples = np.array(
        [[[pair['yuv'.index(p)] for p in positions] for pair in row] for row in pairs], np.uint8
    )
    image = decode_unpadded(encoding, samples, 2, 4)
    expected = [[YUV_TO_RGB[pair] for pair in row for _ in range(2)] for row in pairs]
    assert image.order == 'rgb'
    np.testing.assert_allclose(image.pixels.astype(int), expected, atol=1)


@pytest.mark.parametrize(('encoding', 'first', 'second'), [('nv12', 1, 2), ('nv21', 2, 1)])
def test_420_planes_become_rgb(encoding: str, first: int, second: int) -> None:
    blocks = [YUV_RED, YUV_BLUE, YUV_WHITE]  # each 2 x 2 pixels, side by side
    luma = [sample for block in blocks for sample in (block[0], block[0])]
    chroma = [sample for block in blocks for sample in (block[first], block[second])]
    image = decode_unpadded(encoding, np.array([luma, luma, chroma], np.uint8), 2, 6)
    expected = [[YUV_TO_RGB[block] for block in blocks for _ in range(2)]] * 2
    assert image.order == 'rgb'
    np.testing.assert_allclose(image.pixels.astype(int), expected, atol=1)


def test_gray_is_luma_whatever_the_channel_order() -> None:
    rgb = np.array([[RED, GREEN, BLUE, GREY]], np.uint8)
    luma = np.round(rgb @ np.array([0.299, 0.587, 0.114]))
    for encoding, samples in (('rgb8', rgb), ('bgr8', rgb[:, :, ::-1])):
        grey = decode_unpadded(encoding, samples, 1, 4).gray()
        assert grey.shape == (1, 4)
        np.testing.assert_allclose(grey, luma, atol=1)


@pytest.mark.parametrize('interpolation', [cv2.INTER_LINEAR, cv2.INTER_AREA])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16'])
def test_colours_may_be_converted_after_resizing(encoding: str, interpolation: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, 48 * 64 * 8, dtype=np.uint8)
    image = decode(
        encoding, 48, 64, 64 * PIXEL_BYTES[encoding], False, samples, max_pixels=MEGAPIXEL
    )
    small = cv2.resize(image.pixels, (20, 16), interpolation=interpolation)
    expected = cv2.resize(image.rgb(), (20, 16), interpolation=interpolation)
    assert DecodedImage(small, image.order).rgb().tolist() == expected.tolist()


# --- steps, buffers and copies --------------------------------------------------------------------


@st.composite
def headers(draw: st.DrawFn) -> tuple[str, int, int, int, bool]:
    """Draw encoding, height, width, padding and byte order of a legal image."""
    encoding = draw(st.sampled_from(ENCODINGS))
    height, width = draw(st.integers(2, 9)) * 2, draw(st.integers(2, 9)) * 2
    if PIXEL_BYTES[encoding] in (3, 4) or 'mono' in encoding:
        height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return encoding, height, width, draw(st.integers(0, 17)), draw(st.booleans())


@given(header=headers(), seed=st.integers(0, 999))
@settings(deadline=None)
def test_padded_rows_give_the_same_pixels_as_unpadded_ones(
    header: tuple[str, int, int, int, bool], seed: int
) -> None:
    encoding, height, width, padding, big = header
    rows, row_bytes = rows_of(encoding, height), PIXEL_BYTES[encoding] * width
    samples = np.random.default_rng(seed).integers(0, 256, (rows, row_bytes), dtype=np.uint8)
    padded = np.pad(samples, ((0, 0), (0, padding)), constant_values=seed % 256)
    step = row_bytes + padding

    plain = decode(encoding, height, width, row_bytes, big, samples.tobytes(), max_pixels=MEGAPIXEL)
    for data in (padded.tobytes(), padded.tobytes()[: rows * step - padding]):
        image = decode(encoding, height, width, step, big, data, max_pixels=MEGAPIXEL)
        assert image.order == plain.order
        assert (image.height, image.width) == (height, width)
        assert image.pixels.tolist() == plain.pixels.tolist()
        assert image.rgb().tolist() == plain.rgb().tolist()
        assert image.gray().tolist() == plain.gray().tolist()
        assert image.rgb().shape == (height, width, 3)


@given(header=headers(), missing=st.floats(0, 1, exclude_min=True))
@settings(deadline=None)
def test_data_shorter_than_the_header_says_is_refused(
    header: tuple[str, int, int, int, bool], missing: float
) -> None:
    encoding, height, width, padding, big = header
    rows, row_bytes = rows_of(encoding, height), PIXEL_BYTES[encoding] * width
    needed = (rows - 1) * (row_bytes + padding) + row_bytes
    data = bytes(min(int(needed * (1 - missing)), needed - 1))
    with pytest.raises(ImageError, match=f'truncated.*need {needed} bytes, got {len(data)}$'):
        decode(encoding, height, width, row_bytes + padding, big, data, max_pixels=MEGAPIXEL)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'bgra8', 'mono8', 'mono16', 'rgb16'])
def test_pixels_are_a_read_only_view_into_the_message(encoding: str, padding: int) -> None:
    step = 6 * PIXEL_BYTES[encoding] + padding
    data = array.array('B', bytes(range(4 * step)))  # what rclpy hands over
    image = decode(encoding, 4, 6, step, False, data, max_pixels=MEGAPIXEL)
    assert np.shares_memory(image.pixels, np.frombuffer(data, np.uint8))
    assert not image.pixels.flags.writeable


@pytest.mark.parametrize(
    'as_buffer',
    [
        bytes,
        bytearray,
        memoryview,
        lambda raw: array.array('B', raw),
        lambda raw: np.frombuffer(raw, np.uint8).reshape(2, 9),
        lambda raw: array.array('H', raw),
    ],
)
def test_any_contiguous_buffer_is_read(as_buffer: types.FunctionType) -> None:
    image = decode('rgb8', 2, 3, 9, False, as_buffer(bytes(range(18))), max_pixels=MEGAPIXEL)
    assert image.rgb().reshape(-1).tolist() == list(range(18))


@pytest.mark.parametrize('data', [[0] * 18, 'x' * 18, None, 5])
def test_what_is_no_buffer_is_refused(data: object) -> None:
    with pytest.raises(ImageError, match='must be a buffer of bytes'):
        decode('rgb8', 2, 3, 9, False, data, max_pixels=MEGAPIXEL)


def test_scattered_buffer_is_refused() -> None:
    with pytest.raises(ImageError, match='contiguous'):
        decode('rgb8', 2, 3, 9, False, np.zeros(36, np.uint8)[::2], max_pixels=MEGAPIXEL)


def test_bytes_after_the_last_row_are_ignored() -> None:
    image = decode('mono8', 2, 2, 2, False, bytes(range(9)), max_pixels=MEGAPIXEL)
    assert image.pixels.tolist() == [[0, 1], [2, 3]]


# --- refusals -------------------------------------------------------------------------------------


def test_refusals_are_errors_for_the_user() -> None:
    assert issubclass(ImageError, NavMonitorError)


def test_truncation_is_reported_with_its_numbers() -> None:
    with pytest.raises(ImageError) as refusal:
        decode('rgb8', 480, 640, 1920, False, bytes(100), max_pixels=MEGAPIXEL)
    assert str(refusal.value) == (
        'image data is truncated: 480 rows of step 1920 need 921600 bytes, got 100'
    )


@pytest.mark.parametrize(('height', 'width'), [(0, 640), (480, 0), (0, 0)])
@pytest.mark.parametrize('encoding', ['rgb8', 'nv12', '32FC1'])
def test_empty_image_is_refused(encoding: str, height: int, width: int) -> None:
    with pytest.raises(ImageError, match=f'image is empty: {width} x {height} pixels'):
        decode(encoding, height, width, 1920, False, b'', max_pixels=MEGAPIXEL)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_step_below_a_row_is_refused(encoding: str) -> None:
    row_bytes = 8 * PIXEL_BYTES[encoding]
    with pytest.raises(ImageError, match=f'step {row_bytes - 1} is too small.*{row_bytes} bytes'):
        decode(encoding, 8, 8, row_bytes - 1, False, bytes(9999), max_pixels=MEGAPIXEL)


def test_max_pixels_is_the_largest_size_that_passes() -> None:
    data = bytes(3 * 4)
    assert decode('mono8', 3, 4, 4, False, data, max_pixels=12).width == 4
    with pytest.raises(ImageError, match='4 x 3 pixels is larger than max_pixels = 11'):
        decode('mono8', 3, 4, 4, False, data, max_pixels=11)


@pytest.mark.parametrize('encoding', [*ENCODINGS, '32FC1'])
def test_absurd_size_is_refused_before_anything_is_allocated(encoding: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match='max_pixels'):
            decode(encoding, 2**32 - 2, 2**32 - 2, 2**32 - 1, False, b'', max_pixels=MEGAPIXEL)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('encoding', ['uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2', 'nv12', 'nv21'])
def test_odd_width_is_refused_where_pixels_come_in_pairs(encoding: str) -> None:
    with pytest.raises(ImageError, match=f'{encoding} image needs an even width.*got 5 x 4'):
        decode(encoding, 4, 5, 99, False, bytes(999), max_pixels=MEGAPIXEL)


def test_odd_height_is_refused_where_rows_come_in_pairs() -> None:
    with pytest.raises(ImageError, match='nv12 image needs an even width and height, got 4 x 5'):
        decode('nv12', 5, 4, 4, False, bytes(999), max_pixels=MEGAPIXEL)
    assert decode('uyvy', 5, 4, 8, False, bytes(999), max_pixels=MEGAPIXEL).height == 5


@pytest.mark.parametrize(('height', 'width'), [(2, 8), (8, 2), (1, 1)])
def test_mosaic_too_small_to_interpolate_is_refused(height: int, width: int) -> None:
    with pytest.raises(ImageError, match='at least 3 x 3'):
        decode('bayer_rggb8', height, width, width, False, bytes(99), max_pixels=MEGAPIXEL)


@given(
    encoding=st.one_of(st.sampled_from(ENCODINGS), st.text(max_size=12)),
    height=st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
    width=st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
    step=st.one_of(st.integers(0, 99), st.integers(0, 2**32 - 1)),
    big=st.booleans(),
    data=st.binary(max_size=2000),
)
@settings(deadline=None, max_examples=400)
def test_any_header_gives_bounded_pixels_or_an_image_error(
    encoding: str, height: int, width: int, step: int, big: bool, data: bytes
) -> None:
    max_pixels = 100
    try:
        image = decode(encoding, height, width, step, big, data, max_pixels=max_pixels)
        rgb = image.rgb()
    except ImageError as error:
        assert '\n' not in str(error)
        return
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert rgb.nbytes <= 3 * max_pixels


# --- encodings left to cv_bridge ------------------------------------------------------------------


class CvBridgeOfOneEncoding:
    """Stands where cv_bridge is imported from: knows 'gray_alpha', two samples a pixel."""

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """Return type and count of the samples, or fail as cv_bridge does."""
        return {'gray_alpha': ('uint8', 2), 'wrong_answer': ('uint8', 1)}[encoding]

    def imgmsg_to_cv2(self, message: object, desired_encoding: str) -> np.ndarray:
        """Convert a message, taking padding for pixels as old cv_bridge releases do."""
        assert desired_encoding == 'rgb8'
        if message.encoding == 'wrong_answer':
            return np.zeros((1, 1), np.float32)
        shape = (message.height, message.width, 2)
        assert message.step == message.width * 2
        assert len(message.data) == message.step * message.height
        return np.repeat(np.ndarray(shape, np.uint8, message.data)[:, :, :1], 3, axis=2)


@pytest.fixture
def cv_bridge_of_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a cv_bridge in place that knows one encoding more."""
    module = types.ModuleType('cv_bridge')
    module.CvBridge = CvBridgeOfOneEncoding
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)


@pytest.mark.usefixtures('cv_bridge_of_one_encoding')
def test_other_encodings_are_left_to_cv_bridge_without_their_padding() -> None:
    rows = [[1, 0, 2, 0, 3, 0, 99, 99], [4, 0, 5, 0, 6, 0]]
    data = bytes(rows[0] + rows[1])
    image = decode('gray_alpha', 2, 3, 8, False, data, max_pixels=MEGAPIXEL)
    assert image.rgb()[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ImageError, match='truncated'):
        decode('gray_alpha', 2, 3, 8, False, data[:-1], max_pixels=MEGAPIXEL)


@pytest.mark.usefixtures('cv_bridge_of_one_encoding')
def test_what_cv_bridge_answers_is_checked() -> None:
    with pytest.raises(ImageError, match=r'cv_bridge made float32 \(1, 1\)'):
        decode('wrong_answer', 2, 3, 3, False, bytes(6), max_pixels=MEGAPIXEL)


@pytest.mark.usefixtures('cv_bridge_of_one_encoding')
def test_encoding_that_cv_bridge_does_not_know_is_named() -> None:
    with pytest.raises(ImageError, match=r"'rgb9\\n' is not supported.*KeyError.*rgb8, bgr8"):
        decode('rgb9\n', 2, 3, 9, False, bytes(18), max_pixels=MEGAPIXEL)


def test_missing_cv_bridge_is_named_with_the_supported_encodings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    with pytest.raises(ImageError) as refusal:
        decode('32FC1', 2, 3, 12, False, bytes(24), max_pixels=MEGAPIXEL)
    assert "'32FC1' is not supported" in str(refusal.value)
    assert 'cv_bridge' in str(refusal.value)
    assert all(encoding in str(refusal.value) for encoding in ENCODINGS)


def test_supported_encodings_do_not_touch_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    for encoding in ENCODINGS:
        step = 4 * PIXEL_BYTES[encoding]
        assert decode(encoding, 4, 4, step, False, bytes(6 * step), max_pixels=16).height == 4
