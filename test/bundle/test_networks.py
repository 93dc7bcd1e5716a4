"""A bundle's network in service."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor


def test_a_monitor_starts_without_the_compiler_of_torch():
    """It takes as long to import as the rest of torch, and nothing here compiles."""
    code = (
        'import sys; from nav_monitor_ros.bundle.loading import load_bundle; '
        'from nav_monitor_ros.runtime.monitor import Monitor; '
        "Monitor(load_bundle('digits'), backend='torch'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], timeout=300, check=False).returncode == 0


def test_what_a_monitor_saw_stays_as_it_was_when_it_looks_again():
    monitor = Monitor(load_bundle('digits'), backend='torch')
    first, second = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    seen = monitor.look(DecodedImage(first, 'rgb'))
    features = seen.activations.features.copy()
    other = monitor.look(DecodedImage(second, 'rgb'))
    again = monitor.look(DecodedImage(first, 'rgb'))
    assert np.array_equal(seen.activations.features, features)
    assert again.verdict.scores == seen.verdict.scores != other.verdict.scores
    assert again.fingerprint == seen.fingerprint != other.fingerprint
    assert min(seen.forward_seconds, again.forward_seconds) > 0
