"""Measure the size of a class-tuning page and its reaction time in headless Chromium.

The page has twenty checkpoints of 2,000 components whose responses resemble those of a network in
training: each component develops a preference for one class. Needs Debian's chromium and
chromium-driver (`make test` installs them).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from nav_monitor_ros.cli.console import ProgressBars
from nav_monitor_ros.tuning.recording_files import RecordingOf, TuningRecording
from nav_monitor_ros.tuning.statistics import empty_checkpoint
from nav_monitor_ros.tuning.tuning_page import tuning_page

sys.path.insert(0, str(Path(__file__).parents[1] / 'test'))

from browser import Browser  # noqa: E402

CLASSES, IMAGES = 10, 600
LAYERS = (('early', 400), ('middle', 600), ('late', 990), ('output', 10))  # 2,000 components


def recording(folder: Path, checkpoints: int) -> TuningRecording:
    """Write a recording of synthetic responses."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, IMAGES)
    layers = [(name, np.arange(count)) for name, count in LAYERS]
    made = TuningRecording.create(folder, RecordingOf(
        'made-up', tuple(map(str, range(CLASSES))),
        tuple((name, count, tuple(range(count))) for name, count in LAYERS), 'max', 'made-up',
    ))
    prefers = {name: rng.integers(0, CLASSES, count) for name, count in LAYERS}
    pictures = rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    with ProgressBars() as progress:
        for place in range(checkpoints):
            learnt = place / checkpoints
            seen = empty_checkpoint(f'epoch {place}', layers, CLASSES)
            answers = {
                name: np.maximum(
                    rng.normal(0, 1, (IMAGES, count))
                    + 4 * learnt * (labels[:, None] == prefers[name]), 0,
                ).astype(np.float32)
                for name, count in LAYERS
            }
            said = np.where(rng.random(IMAGES) < learnt, labels, rng.integers(0, CLASSES, IMAGES))
            seen.add(answers, np.stack([labels, said]), np.arange(IMAGES))
            made.add(seen, dict(enumerate(pictures)) if place == 0 else {})
            progress('recording', place + 1, checkpoints)
    return made


def main() -> None:
    """Create the page, use it and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoints', type=int, default=20)
    parser.add_argument('--json', type=Path, metavar='FILE')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = recording(Path(scratch) / 'tuning', options.checkpoints)
        with ProgressBars() as progress:
            page, _ = tuning_page(made, permutations=10, progress=progress)
        path = Path(scratch) / 'tuning.html'
        path.write_text(page, encoding='utf-8')
        browser = Browser(Path(scratch) / 'profile')
        try:
            browser.open(path)
            browser.wait('return window.tuning && window.tuning.ready', 'the page')
            # From the event to the end of the frame in which its effect is painted.
            reacted = [browser.driver.execute_async_script("""
                const [place, done] = arguments;
                const slider = document.querySelector('#time');
                const begun = performance.now();
                slider.value = place;
                tuning.selected = place * 7;
                slider.dispatchEvent(new Event('input'));
                requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
            """, place % options.checkpoints) for place in range(60)]
            browser.assert_well()
        finally:
            browser.close()
    result = {
        'checkpoints': options.checkpoints, 'components': sum(count for _, count in LAYERS),
        'megabytes': round(len(page.encode()) / 1e6, 2),
        'reaction_ms': {
            'median': round(statistics.median(reacted), 1), 'max': round(max(reacted), 1),
        },
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
