"""Read the tags of a TIFF file's first directory without decoding the image."""

from __future__ import annotations

import struct
from dataclasses import dataclass

BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262  # colour space of the samples
ORIENTATION = 274
EXTRA_SAMPLES = 338  # meaning of samples other than colours
SAMPLE_FORMAT = 339

_SHORT = 3  # type of the values of all tags above
_MOST_ENTRIES = 4096  # largest number of entries of a directory
_MOST_VALUES = 16  # largest number of values of a tag: one per sample of a pixel


@dataclass(frozen=True)
class TiffTag:
    """Values of one tag and their location."""

    values: tuple[int, ...]  # unsigned 16-bit numbers
    place: int  # offset of the first value, bytes from the start of the file
    order: str  # byte order, ``<`` or ``>``

    def replaced(self, tiff: bytes, value: int) -> bytes:
        """Return the file with a different first value."""
        changed = struct.pack(f'{self.order}H', value)
        return tiff[: self.place] + changed + tiff[self.place + len(changed) :]


def read_tags(tiff: bytes) -> dict[int, TiffTag]:
    """Return the tags of the first directory whose values are unsigned 16-bit numbers.

    Args:
        tiff: The whole file, classic or BigTIFF, or an EXIF block, which is laid out as one.

    Returns:
        Tag number -> values. Empty if the data is not a TIFF file; damaged entries are left out.
    """
    order = {b'II': '<', b'MM': '>'}.get(tiff[:2])
    if order is None or len(tiff) < 16:
        return {}
    (version,) = struct.unpack_from(f'{order}H', tiff, 2)
    if version not in (42, 43):
        return {}
    big = version == 43
    number = 'Q' if big else 'I'
    head, step, inline = (8, 20, 8) if big else (2, 12, 4)
    (place,) = struct.unpack_from(f'{order}{number}', tiff, 8 if big else 4)
    if place + head > len(tiff):
        return {}
    (count,) = struct.unpack_from(f'{order}{"Q" if big else "H"}', tiff, place)
    place += head
    tags: dict[int, TiffTag] = {}
    for _ in range(min(count, _MOST_ENTRIES)):
        if place + step > len(tiff):
            break
        tag, kind, length = struct.unpack_from(f'{order}HH{number}', tiff, place)
        start = place + step - inline
        place += step
        if kind != _SHORT or not 1 <= length <= _MOST_VALUES or tag in tags:
            continue
        if 2 * length > inline:  # the entry holds where the values are
            (start,) = struct.unpack_from(f'{order}{number}', tiff, start)
        if start + 2 * length <= len(tiff):
            values = struct.unpack_from(f'{order}{length}H', tiff, start)
            tags[tag] = TiffTag(values, start, order)
    return tags
