"""Packed bit patterns: packing, Hamming distance by XOR and popcount."""

from __future__ import annotations

import logging

import numpy as np

WORD = 64  # bits in one packed word

_POPCOUNT_16 = (
    None
    if hasattr(np, 'bitwise_count')
    else np.array([bin(value).count('1') for value in range(1 << 16)], np.uint8)
)


if _POPCOUNT_16 is not None:
    logging.getLogger(__name__).info('numpy 1 has no popcount; a table counts the bits')


def pack(bits: np.ndarray) -> np.ndarray:
    """Pack boolean rows into words.

    Args:
        bits: bool (..., D).

    Returns:
        uint64 (..., ceil(D / 64)), little-endian; the bits beyond D are 0.
    """
    octets = np.packbits(bits, axis=-1, bitorder='little')
    words = -(-bits.shape[-1] // WORD)
    padded = np.zeros((*bits.shape[:-1], words * 8), np.uint8)
    padded[..., : octets.shape[-1]] = octets
    return padded.view('<u8').astype(np.uint64, copy=False)


def unpack(words: np.ndarray, width: int) -> np.ndarray:
    """Return the first ``width`` bits of packed words, bool (..., width)."""
    octets = np.ascontiguousarray(words).astype('<u8', copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=width, bitorder='little').astype(bool)


def popcount(words: np.ndarray) -> np.ndarray:
    """Return the number of set bits along the last axis, int64 (...)."""
    if _POPCOUNT_16 is None:
        return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
    return _POPCOUNT_16[np.ascontiguousarray(words).view(np.uint16)].sum(axis=-1, dtype=np.int64)


def distances(columns: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the Hamming distances of one pattern to many, uint16 (P,).

    Args:
        columns: uint64 (W, P), the patterns word by word: summing over words in contiguous memory
            is several times faster than over the rows of (P, W).
        query: uint64 (W,).
    """
    total = np.zeros(columns.shape[1], np.uint16)
    for column, word in zip(columns, query, strict=True):  # one word of all patterns fits the cache
        differing = column ^ word
        if _POPCOUNT_16 is None:
            total += np.bitwise_count(differing)
        else:
            total += _POPCOUNT_16[differing.view(np.uint16)].reshape(-1, 4).sum(axis=1)
    return total


def distinct(words: np.ndarray) -> np.ndarray:
    """Return the distinct rows of uint64 (N, W), sorted."""
    return np.unique(words, axis=0) if len(words) else words


def hashes(words: np.ndarray) -> np.ndarray:
    """Return a well-mixed hash of each row, uint64 (N,), by SplitMix64's finalizer (Vigna)."""
    mixed = np.zeros(len(words), np.uint64)
    for column in words.T:
        mixed = mixed ^ column
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
