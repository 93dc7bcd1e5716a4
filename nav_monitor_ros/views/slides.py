"""Pictures that a slider on a page leads through, with a button that plays them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

import numpy as np

from nav_monitor_ros.files.pictures import encoded_png

_SLIDES = Template("""
<div class="slides" id="$name">
<div class="controls">
<button type="button" aria-pressed="false">Play</button>
<input type="range" min="0" max="$last" value="$start" step="1" aria-label="$what">
<output>$label</output>
</div>
<div class="slots" style="--columns: $columns">
$slots
</div>
</div>
<script>
(() => {
  const slides = $slides;
  const root = document.getElementById('$name');
  const button = root.querySelector('button');
  const slider = root.querySelector('input');
  const label = root.querySelector('output');
  const pictures = root.querySelectorAll('img[data-slot]');
  let timer = 0;
  const show = (place) => {
    slider.value = place;
    label.textContent = slides[place].label;
    pictures.forEach((picture, slot) => { picture.src = slides[place].pictures[slot]; });
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = 'Play';
    button.setAttribute('aria-pressed', 'false');
  };
  const play = () => {
    button.textContent = 'Pause';
    button.setAttribute('aria-pressed', 'true');
    timer = setInterval(() => show((Number(slider.value) + 1) % slides.length), $pause);
  };
  slider.addEventListener('input', () => { stop(); show(Number(slider.value)); });
  button.addEventListener('click', () => (timer ? stop() : play()));
  show(Number(slider.value));
})();
</script>
""")

STYLE = """
.slides .controls { display: flex; gap: 14px; align-items: center; margin-bottom: 14px;
  flex-wrap: wrap; }
.slides button { font: inherit; min-width: 5.5em; padding: 5px 14px; border-radius: 8px;
  border: 1px solid #8886; background: #0072b2; color: #fff; cursor: pointer; }
.slides input { flex: 1 1 240px; accent-color: #0072B2; }
.slides output { min-width: 15em; font-variant-numeric: tabular-nums; }
.slides .slots { display: grid; gap: 18px;
  grid-template-columns: repeat(auto-fit,
    minmax(min(100%, max(180px, 100% / var(--columns) - 18px)), 1fr)); }
.slides figure { margin: 0; min-width: 0; }
.slides img { display: block; max-width: 100%; height: auto; }
.slides img.fine { width: 100%; image-rendering: pixelated; }
.slides figcaption { font-size: 14px; margin-bottom: 6px; overflow-wrap: anywhere; }
.slides figcaption small { display: block; opacity: 0.75; }
"""


@dataclass(frozen=True)
class Slide:
    """What one place of the slider shows."""

    label: str
    pictures: tuple[np.ndarray, ...]  # uint8 (h, w, 3) RGB, one for each slot


def slides_html(
    slides: Sequence[Slide],
    captions: Sequence[tuple[str, str]],
    *,
    name: str,
    what: str,
    columns: int = 1,
    start: int = 0,
    pause_ms: int = 250,
    enlarged: bool = False,
) -> str:
    """Return a slider with pictures below it, as a part of a page that allows its own scripts.

    Args:
        slides: At least one; all have as many pictures as there are captions.
        captions: Above each slot, a line and a smaller one.
        name: Of the part, unique on the page, letters and digits.
        what: The slider leads through, for readers that do not see it.
        columns: Slots side by side where there is room.
        start: The slide that is seen first.
        pause_ms: Between slides while they play, milliseconds.
        enlarged: Show pictures, of few pixels, as wide as their slot.
    """
    kind = ' class="fine"' if enlarged else ''
    slots = '\n'.join(
        f'<figure><figcaption>{escape(line)}<small>{escape(small)}</small></figcaption>'
        f'<img{kind} data-slot="{number}" alt="{escape(line, quote=True)}"></figure>'
        for number, (line, small) in enumerate(captions)
    )
    content = [
        {'label': slide.label, 'pictures': [data_uri(picture) for picture in slide.pictures]}
        for slide in slides
    ]
    return _SLIDES.substitute(
        name=name,
        last=len(slides) - 1,
        start=start,
        what=escape(what, quote=True),
        label=escape(slides[start].label),
        columns=columns,
        slots=slots,
        # A script ends at its closing tag, wherever it stands.
        slides=json.dumps(content).replace('<', '\\u003c'),
        pause=pause_ms,
    )


def data_uri(picture: np.ndarray) -> str:
    """Return a picture, uint8 (h, w, 3) RGB, as an address that holds it."""
    return 'data:image/png;base64,' + base64.b64encode(encoded_png(picture)).decode()
