"""Measure false alarms per hour and frames until the alert on correlated streams.

    python benchmarks/streams.py --data DIR [--hours 3]

DIR contains gtsrb.npz and images/tiny_imagenet/, as listed in docs/evaluation.md. All other streams
are made of the 5000 digits that were held out from fitting, and of drawn triangles. Writes
docs/measured/streams.json, from which tools/write_docs.py generates the tables in docs/safety.md.

A digit "jitters" like a printed one in front of a hand-held camera: its position, angle, size and
brightness vary slightly, each as a first-order autoregression with a memory of half a second to a
second, with new pixel noise in each frame. Signs are whole held-out tracks; between two frames of
the data set, two linear blends represent the missing frames.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import track

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.drift import Drift
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.evaluation.streams import alarms, delay, frames_of

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / 'docs' / 'measured' / 'streams.json'
RATE = 30  # frames per second
BATCH = 512
DEFAULT = AlertRules()
DEFAULT_LEVEL = DEFAULT_EVIDENCE_LEVEL
# Compared settings: evidence_rate, evidence_level (None: the bundle's frame threshold).
E_CUSUMS: list[tuple[float, float | str | None]] = [
    *itertools.product((30.0, 15.0, 5.0, 1.0), (None, 0.003, 0.001)), (15.0, 'power'),
]
COUNTS = ((3, 3), (4, 5), (8, 10))
KAPPA = 0.1  # parameter of the usual e-value, kappa p^(kappa - 1)


def wander(count: int, spread: float, frames: float, rng: np.random.Generator) -> np.ndarray:
    """Return a first-order autoregression, float64 (count,), with the given spread and memory."""
    from scipy.signal import lfilter

    keep = math.exp(-1 / frames)
    shocks = rng.normal(size=count) * spread * math.sqrt(1 - keep * keep)
    shocks[0] = rng.normal() * spread
    return lfilter([1.0], [1.0, -keep], shocks)


def jitter(image: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield ``count`` frames, uint8 (H, W), of one object in front of a hand-held camera."""
    height, width = image.shape
    x, y = (wander(count, 0.25, 15, rng) for _ in range(2))
    turn = wander(count, 1.0, 30, rng)
    size = 1 + wander(count, 0.01, 30, rng)
    light = 1 + wander(count, 0.025, 30, rng)
    for n in range(count):
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn[n], size[n])
        matrix[:, 2] += x[n], y[n]
        moved = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        noisy = moved * light[n] + rng.normal(size=image.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8)


class Core:
    """Shipped bundle that judges many frames at a time."""

    def __init__(self, name: str) -> None:
        bundle = load_bundle(name)
        self.judge = bundle.judge()
        self._preprocess = bundle.preprocess
        self._classifier = load_network(bundle, device='cpu', threads=1, scores=self.judge.scores)

    def look(self, images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the p-values, float64 (N,), and the predicted classes, int64 (N,)."""
        p_values, labels = [], []
        images = iter(images)
        while batch := list(itertools.islice(images, BATCH)):
            order = 'gray' if batch[0].ndim == 2 else 'rgb'
            ready = [
                self._preprocess.normalised(
                    self._preprocess.resized(i[..., None] if i.ndim == 2 else i, order)
                )
                for i in batch
            ]
            seen = self._classifier(np.stack(ready))
            p_values.append(self.judge.p_values(seen)[FUSED])
            labels.append(seen.predicted)
        return np.concatenate(p_values), np.concatenate(labels)

    def frames(
        self, stream: tuple[np.ndarray, np.ndarray], level: float | str | None
    ) -> list[FrameEvidence]:
        """Return the evidence of a stream's frames.

        Args:
            stream: P-values and classes.
            level: Level of strange frames; None for the bundle's own threshold, ``power`` for the
                usual e-value of each p-value, which has no level.
        """
        if level == 'power':
            return [FrameEvidence(p, False, KAPPA * p ** (KAPPA - 1)) for p in stream[0].tolist()]
        return frames_of(self.judge.calibration, FUSED, *stream, level=float(level or 0.5))


def alarms_of_machine(frames: list[FrameEvidence]) -> int:
    """Return how often the complete state machine raises the alert for frames at 30 Hz."""
    machine = AlertMachine(DEFAULT, 0.0)
    machine.activate(True, 0.0)
    now, rises, before = 0.0, 0, True
    for number, frame in enumerate(frames):
        now += 1 / RATE
        machine.image_arrived(now)
        machine.frame_judged(frame, int(now * 1e9), number, now)
        alert = machine.alert(now)
        rises += alert.value and not before
        assert not alert.value or alert.reason in (Reason.OOD, Reason.WARMING_UP)
        before = alert.value
    return rises


def digits_streams(core: Core, hours: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return in-distribution streams of digits, each with the given duration."""
    digits = open_source('sample:digits')
    rng = np.random.default_rng(0)
    frames = round(hours * 3600 * RATE)
    still = core.look(digits.image(n) for n in range(len(digits)))
    rounds = [rng.permutation(len(digits)) for _ in range(math.ceil(frames / len(digits)))]
    order = np.concatenate(rounds)[:frames]
    streams = {'another digit each frame': (still[0][order], still[1][order])}
    for seconds in (1, 10, 60):
        count = min(len(digits), round(hours * 3600 / seconds))
        chosen = np.random.default_rng(seconds).permutation(len(digits))[:count]
        name = f'another digit each {seconds} s'
        streams[name] = core.look(
            frame
            for place in track(chosen, description=name)
            for frame in jitter(
                digits.image(int(place)), seconds * RATE, np.random.default_rng([1, int(place)])
            )
        )
    return streams


def triangle_streams(core: Core, count: int = 300) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Return ``count`` consecutive streams of triangles, with the number of frames of each."""
    triangles = open_source('sample:triangles?count=2000')
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(len(triangles))[:90] for _ in range(count)])
    fresh = core.look(triangles.image(n) for n in range(len(triangles)))
    held = core.look(
        frame for place in range(count)
        for frame in jitter(triangles.image(place), 90, np.random.default_rng([2, place]))
    )
    return {
        'another triangle each frame': (fresh[0][order], fresh[1][order], 90),
        'one triangle': (*held, 90),
    }


def tracks(data: Path) -> list[list[np.ndarray]]:
    """Return the held-out tracks of signs as videos."""
    stored = np.load(data / 'gtsrb.npz')
    rows = stored['is_val'].astype(bool)
    images, frame = stored['x'][rows], stored['frame'][rows]
    key = stored['y'][rows].astype(np.int64) * 10**6 + stored['track'][rows]
    videos = []
    for name in np.unique(key):
        places = np.flatnonzero(key == name)
        kept = images[places[np.argsort(frame[places])]].astype(np.float32)
        blends = [
            (1 - part) * a + part * b
            for a, b in itertools.pairwise(kept) for part in (0, 1 / 3, 2 / 3)
        ]
        videos.append([f.astype(np.uint8) for f in (*blends, kept[-1])])
    return videos


def brightness(core: Core) -> dict[str, dict[str, float | None]]:
    """Measure the effect of dimmed light.

    Returns:
        For each percentage of the light: the share of 200 digits that raise the alert within a
        second, and the seconds until the calibration is reported as stale, with another digit each
        second.
    """
    digits = open_source('sample:digits')
    chosen = np.random.default_rng(4).permutation(len(digits))[:200]
    measured = {}
    for percent in (100, 90, 80, 70, 60, 50, 40, 30, 20, 10):
        stream = core.frames(
            core.look(
                (frame * (percent / 100)).astype(np.uint8)
                for place in chosen
                for frame in jitter(
                    digits.image(int(place)), RATE, np.random.default_rng([3, place])
                )
            ),
            DEFAULT_LEVEL,
        )
        delays = [
            delay(stream[start:start + RATE], DEFAULT, RATE)
            for start in range(0, len(stream), RATE)
        ]
        drift, stale = Drift(DEFAULT.drift_window), None
        for second, frame in enumerate(stream[::RATE], 1):
            drift.update(frame.p_value, 1.0)
            stale = second if drift.finding and stale is None else stale
        measured[str(percent)] = {'alerts': float(np.isfinite(delays).mean()), 'stale_s': stale}
    return measured


def compare(
    core: Core,
    normal: dict[str, tuple[np.ndarray, np.ndarray]],
    strange: dict[str, tuple[np.ndarray, np.ndarray, int]],
) -> list[dict]:
    """Return false alarms and delays of each way to combine frames."""
    rows = []
    schemes = [
        *(({'evidence': 'e_cusum', 'evidence_rate': rate}, level) for rate, level in E_CUSUMS),
        *(
            ({'evidence': 'k_of_n', 'enter_count': k, 'enter_window': n}, None)
            for k, n in COUNTS
        ),
    ]
    for settings, level in track(schemes, description='evidence'):
        rules = EvidenceRules(**settings)
        row: dict = {**settings, 'level': level, 'false_alarms_per_hour': {}, 'delays': {}}
        for name, stream in normal.items():
            count = alarms(core.frames(stream, level), rules, RATE)
            row['false_alarms_per_hour'][name] = count * 3600 * RATE / len(stream[0])
        for name, (*stream, length) in strange.items():
            frames = core.frames((stream[0], stream[1]), level)
            reached = np.array([
                delay(frames[start:start + length], rules, RATE)
                for start in range(0, len(frames), length)
            ])
            row['delays'][name] = summary(reached)
        rows.append(row)
    return rows


def summary(delays: np.ndarray) -> dict[str, float | None]:
    """Return the median, the 95th percentile (None if infinite) and the share never reached."""
    p95 = float(np.quantile(delays, 0.95, method='higher'))
    median = float(np.quantile(delays, 0.5, method='higher'))
    return {
        'median': median if math.isfinite(median) else None,
        'p95': p95 if math.isfinite(p95) else None,
        'missed': float(np.isinf(delays).mean()),
    }


def main() -> None:
    """Play all streams and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--hours', type=float, default=3.0, help='hours per stream of digits')
    parser.add_argument(
        '--brightness', action='store_true', help='repeat only the measurement of dimmed light'
    )
    options = parser.parse_args()
    if options.brightness:
        result = json.loads(OUTPUT.read_text(encoding='utf-8'))
        write({**result, 'brightness': brightness(Core('digits'))})
        return
    started = time.monotonic()
    digits, signs = Core('digits'), Core('traffic_signs')
    normal, strange = digits_streams(digits, options.hours), triangle_streams(digits)
    machine = {
        name: alarms_of_machine(digits.frames(stream, DEFAULT_LEVEL))
        for name, stream in normal.items()
    }
    videos = tracks(options.data)
    roads = signs.look(frame for video in videos for frame in video)
    tiny = open_source(str(options.data / 'images' / 'tiny_imagenet'))
    photos = signs.look(tiny.image(n) for n in range(len(tiny)))
    order = np.concatenate([
        np.random.default_rng(n).permutation(len(tiny))[:90] for n in range(300)
    ])
    result = {
        'hours': {name: len(stream[0]) / RATE / 3600 for name, stream in normal.items()},
        'digits': compare(digits, normal, strange),
        'false_alarms_of_the_state_machine': machine,
        'tracks': len(videos),
        'track_seconds': len(videos[0]) / RATE,
        'signs': compare(
            signs, {'tracks': roads},
            {'another photograph each frame': (photos[0][order], photos[1][order], 90)},
        ),
        'brightness': brightness(digits),
        'versions': {'torch': torch.__version__, 'numpy': np.__version__},
        'machine': platform.machine(),
        'minutes': (time.monotonic() - started) / 60,
    }
    write(result)


def write(result: dict) -> None:
    """Write the results."""
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
