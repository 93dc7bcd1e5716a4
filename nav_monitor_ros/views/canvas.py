"""A part of a picture, addressed in design pixels, independent of the picture's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.views.colors import Color, paint
from nav_monitor_ros.views.text import put_text, text_width, wrapped


@dataclass(frozen=True)
class Canvas:
    """Drawing area; all lengths are in design pixels of ``unit`` real pixels each."""

    pixels: np.ndarray  # uint8 (H, W, 3), modified in place
    unit: float = 1.0

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return int(self.pixels.shape[1] / self.unit)

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return int(self.pixels.shape[0] / self.unit)

    def real(self, length: float) -> int:
        """Return a length in real pixels, at least 0."""
        return max(0, round(length * self.unit))

    def area(self, left: float, top: float, right: float, bottom: float) -> Canvas:
        """Return a part of this canvas, clipped to it."""
        rows = slice(self.real(top), self.real(bottom))
        return Canvas(self.pixels[rows, self.real(left) : self.real(right)], self.unit)

    def fill(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Paint a rectangle."""
        paint(self.area(left, top, right, bottom).pixels, color)

    def stamp(self, picture: np.ndarray, left: float, top: float) -> None:
        """Paste a picture, uint8 (h, w, 3) of real pixels, with its corner here; clip it."""
        place = self.pixels[self.real(top) :, self.real(left) :]
        place = place[: picture.shape[0], : picture.shape[1]]
        place[:] = picture[: place.shape[0], : place.shape[1]]

    def frame(
        self, left: float, top: float, right: float, bottom: float, stroke: float, color: Color
    ) -> None:
        """Paint the border of a rectangle, inside it."""
        self.fill(left, top, right, top + stroke, color)
        self.fill(left, bottom - stroke, right, bottom, color)
        self.fill(left, top, left + stroke, bottom, color)
        self.fill(right - stroke, top, right, bottom, color)

    def text_width(self, text: str, height: int, *, bold: bool = False) -> float:
        """Return the width of a line whose capitals are ``height`` tall."""
        return text_width(text, self.real(height), bold=bold) / self.unit

    def height_that_fits(
        self, text: str, room: float, height: int, least: int, *, bold: bool = False
    ) -> int:
        """Return the largest height of capitals with which a line fits, at least ``least``."""
        while height > least and self.text_width(text, height, bold=bold) > room:
            height -= 1
        return height

    def text(
        self,
        text: str,
        left: float,
        baseline: float,
        height: int,
        color: Color,
        *,
        bold: bool = False,
        room: float | None = None,
    ) -> float:
        """Write a line starting at ``left`` and return its right end; see ``put_text``."""
        space = self.width - left if room is None else room
        end = put_text(
            self.pixels,
            text,
            self.real(left),
            self.real(baseline),
            self.real(height),
            color,
            bold=bold,
            room=self.real(space),
        )
        return end / self.unit

    def text_ending_at(
        self, text: str, right: float, baseline: float, height: int, color: Color,
        *, bold: bool = False,
    ) -> float:
        """Write a line that ends at ``right`` and return its left end."""
        left = max(0.0, right - self.text_width(text, height, bold=bold))
        self.text(text, left, baseline, height, color, bold=bold, room=right - left + 1)
        return left

    def paragraph(
        self, text: str, left: float, baseline: float, height: int, color: Color, *, lines: int
    ) -> float:
        """Write several lines as wide as the canvas and return the next one's baseline."""
        room = self.real(self.width - left)
        for line in wrapped(text, room, self.real(height), lines):
            self.text(line, left, baseline, height, color)
            baseline += 1.8 * height
        return baseline
