"""Base class of fuzzing targets, and mutations of inputs."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from nav_monitor_ros.errors import NavMonitorError

LARGEST_CASE = 6 << 20  # approximate bytes; larger inputs are not mutated further
NUMBERS = (0, 1, 2, 3, 7, 63, 64, 127, 128, 255, 256, 4095, 65535, 65536, 1 << 24, (1 << 31) - 1,
           1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


class Finding(Exception):
    """The target misbehaved."""


class TooSlowError(BaseException):
    """The input took too long; a BaseException, so that the target does not catch it."""


class Target(ABC):
    """Code that reads untrusted data, and a generator of such data."""

    most_memory: ClassVar[int]  # largest memory use for one input, bytes
    errors: ClassVar[tuple[type[Exception], ...]] = (NavMonitorError,)

    def __init__(self, folder: Path) -> None:
        """Prepare valid inputs.

        Args:
            folder: Folder for files; the only one in which the target may open files.
        """
        self.folder = folder

    @abstractmethod
    def fresh(self, chance: random.Random) -> Any:
        """Return a valid input."""

    @abstractmethod
    def spoiled(self, case: Any, chance: random.Random) -> Any:
        """Return a mutated copy of an input."""

    @abstractmethod
    def feed(self, case: Any) -> object:
        """Use an input and check the result; return a value that identifies the outcome."""


def spoil_bytes(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Flip, insert, drop, repeat or truncate bytes, or continue with those of another input."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randint(0, len(changed))
        length = chance.choice((1, 2, 4, 8, 32, 500))
        way = chance.randrange(7)
        if way <= 1 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif way == 2:
            changed[place : place + length] = chance.randbytes(length)
        elif way == 3:
            width, order = chance.choice((1, 2, 4, 8)), chance.choice(('little', 'big'))
            number = chance.choice(NUMBERS) % (1 << 8 * width)
            changed[place : place + width] = number.to_bytes(width, order)
        elif way == 4:
            del changed[place : place + length]
        elif way == 5:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 20))
        elif chance.random() < 0.3:
            changed[place:] = other[chance.randint(0, len(other)) :]
    if chance.random() < 0.1:
        del changed[chance.randint(0, len(changed)) :]
    return bytes(changed)


def outcome_of(error: Exception) -> str:
    """Return an error's text without the parts that depend on the input."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|/\S*|\d+(\.\d+)?(e[+-]?\d+)?|\[.*\]", '#', str(error))
    return f'{type(error).__name__}: {text[:80]}'
