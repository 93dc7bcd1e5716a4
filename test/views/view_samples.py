"""Alerts, verdicts and images for tests of the drawn pictures."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from hypothesis import strategies as st

from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.decision.verdict import Explanation, ScoreValue, Verdict

OK = Alert(False, State.OK, Reason.IN_DISTRIBUTION)
SUSPECT = Alert(False, State.SUSPECT, Reason.SUSPECT, '2 of 3 flagged frames in a row')
OOD = Alert(True, State.OOD, Reason.OOD, 'unlike the training images')
STALE = Alert(True, State.INVALID, Reason.STALE_IMAGE, 'no image for 1.4 s')
BANNER = 64  # rows at 640 columns
LEGEND = 64  # rows at 640 columns
STRANGE_FLOATS = st.floats(width=32)  # including NaN and infinities


def explanation(size: int, *, on: tuple[int, ...] = (), off: tuple[int, ...] = ()) -> Explanation:
    """Return an explanation of alternating bits, some of them unexpectedly on or off."""
    nearest = np.arange(size) % 2 == 0
    pattern = nearest.copy()
    nearest[list(on)], pattern[list(on)] = False, True
    nearest[list(off)], pattern[list(off)] = True, False
    z = 4.0 / (1 + np.arange(size))
    return Explanation(
        len(on) + len(off), pattern, nearest, np.ones(size, bool), np.full(size, 1.5, np.float32), z
    )


def verdict(*, p_value: float = 0.001, size: int = 128, **changes) -> Verdict:
    scores = {'pattern': ScoreValue(3.0, 0.02), 'fused': ScoreValue(9.0, p_value)}
    whole = Verdict(
        3, 'stop', 0.91, ((3, 0.91), (1, 0.05)), scores, 'fused', 0.01,
        explanation(size, on=(3,), off=(8,)),
    )
    return replace(whole, **changes)


def photograph(rows: int = 48, columns: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3)).astype(np.uint8)


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(color, np.uint8)).all(axis=-1).any())


def lightness(table: np.ndarray) -> np.ndarray:
    """Return CIE L* of colours, uint8 (N, 3) RGB."""
    scaled = table[None].astype(np.float32) / 255
    return cv2.cvtColor(scaled, cv2.COLOR_RGB2Lab)[0, :, 0]
