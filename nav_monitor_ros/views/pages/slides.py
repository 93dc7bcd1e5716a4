"""Pictures that a slider on a page leads through, with a button that plays them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nav_monitor_ros.views.pages.data_uris import png_uri
from nav_monitor_ros.views.pages.rendering import render_fragment


@dataclass(frozen=True)
class Slide:
    """What one place of the slider shows."""

    label: str
    pictures: tuple[np.ndarray, ...]  # uint8 (h, w, 3) RGB, one for each slot


def slider(
    slides: Sequence[Slide],
    captions: Sequence[tuple[str, str]],
    *,
    name: str,
    what: str,
    columns: int = 1,
    start: int = 0,
    pause_ms: int = 250,
    enlarged: bool = False,
) -> Markup:
    """Return a slider with pictures below it, for a page with ``slides.css`` and ``slides.js``.

    Args:
        slides: At least one; all have as many pictures as there are captions.
        captions: Above each slot, a line and a smaller one.
        name: Name of the part, unique on the page, letters and digits.
        what: The slider leads through, for readers that do not see it.
        columns: Slots side by side where there is room.
        start: The slide that is seen first, and the only one without JavaScript.
        pause_ms: Between slides while they play, milliseconds.
        enlarged: Show pictures, of few pixels, as wide as their slot.
    """
    return render_fragment(
        'slides.html',
        slides=[
            {'label': slide.label, 'pictures': [png_uri(picture) for picture in slide.pictures]}
            for slide in slides
        ],
        captions=captions, name=name, what=what, columns=columns, start=start, pause_ms=pause_ms,
        enlarged=enlarged,
    )
