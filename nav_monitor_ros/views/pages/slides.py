"""Pictures with a slider and a play button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nav_monitor_ros.views.pages.data_uris import png_uri
from nav_monitor_ros.views.pages.rendering import render_fragment


@dataclass(frozen=True)
class Slide:
    """Contents of one position of the slider."""

    label: str
    pictures: tuple[np.ndarray, ...]  # uint8 (h, w, 3) RGB, one per slot


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
        slides: At least one slide; all have as many pictures as there are captions.
        captions: For each slot, a line above it and a smaller one.
        name: Name of the part, unique on the page, letters and digits.
        what: Quantity along the slider, for screen readers.
        columns: Slots side by side if they fit.
        start: Index of the first slide shown, and the only one without JavaScript.
        pause_ms: Time between slides while playing, milliseconds.
        enlarged: Enlarge small pictures to the width of their slot.
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
