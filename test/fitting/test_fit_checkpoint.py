"""A fit that was interrupted goes on, and ends with the same bundle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors import safe_open

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.data.batches import BATCH
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting import fit as fitting
from nav_monitor_ros.fitting import fit_checkpoint, image_checks, training_pass
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_checkpoint import FILE, FitCheckpoint
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.partial_fit import PartialFit
from nav_monitor_ros.fitting.training_pass import RANGE_SAMPLE

ROOT = Path(__file__).parents[2]
DATA = 640  # images
PROBED = np.linspace(0, DATA - 1, fitting.PROBES).astype(int)  # by which data is known again
SMALL = FitOptions(false_alarm_rate=0.1)

# Fits in a process of its own; where it is told to, an image never comes.
FIT = f"""
import dataclasses, sys, threading
from pathlib import Path
import tiny, torch
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.fitting import fit as fitting, training_pass
from nav_monitor_ros.fitting.fit_checkpoint import FitCheckpoint
from nav_monitor_ros.fitting.fit_options import FitOptions
folder, stops_at = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
training_pass.SAMPLE = 128
data = tiny.source(1, {DATA})
read = data.read
def slow(place):
    if place == stops_at:
        threading.Event().wait()
    return read(place)
classifier = tiny.classifier()
bundle = fitting.fit(
    classifier, tiny.SPEC, dataclasses.replace(data, read=slow), tiny.source(2, 80),
    FitOptions(false_alarm_rate=0.1), workers=2,
    checkpoint=FitCheckpoint(folder / 'kept', 0),
)
save_bundle(bundle, classifier, folder / 'bundle', card='')
"""


def start(folder, stops_at):
    paths = [str(ROOT), str(ROOT / 'test'), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    environment = {
        **os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'OMP_NUM_THREADS': '1'
    }
    return subprocess.Popen([sys.executable, '-c', FIT, str(folder), str(stops_at)],
                            env=environment)


def images_kept(folder):
    if not (folder / 'kept' / FILE).exists():
        return 0
    with safe_open(folder / 'kept' / FILE, 'numpy') as stored:
        return int(stored.metadata()['images'])


def tensors(folder):
    bundle = load_bundle(folder / 'bundle')
    return {
        f'{name}/{key}': array
        for name, score in bundle.scores.items() for key, array in score.tensors().items()
    } | bundle.calibration.tensors()


def test_a_killed_fit_goes_on_and_ends_with_the_same_bundle_bit_for_bit(tmp_path, monkeypatch):
    whole = tmp_path / 'whole'
    assert start(whole, -1).wait(120) == 0
    monkeypatch.setattr(training_pass, 'SAMPLE', 128)
    _, others = training_pass.sample_and_rest(DATA, 0)
    for batch in (2, 5):  # killed twice, each time with an image of this batch still to come
        place = np.setdiff1d(others[batch * BATCH : (batch + 1) * BATCH], PROBED)[7]
        process = start(tmp_path, place)
        try:
            deadline = time.monotonic() + 120
            while images_kept(tmp_path) < 128 + batch * BATCH:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        assert images_kept(tmp_path) == 128 + batch * BATCH
        assert not (tmp_path / 'bundle').exists()
    assert start(tmp_path, -1).wait(120) == 0
    ours, theirs = tensors(tmp_path), tensors(whole)
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        assert ours[key].tobytes() == array.tobytes(), key
    assert load_bundle(tmp_path / 'bundle').provenance == load_bundle(whole / 'bundle').provenance


def fit_tiny(folder, data=None, calibration=None, options=SMALL, classifier=None):
    return fit(
        classifier or tiny.classifier(), tiny.SPEC, data or tiny.source(1, 256),
        calibration or tiny.source(2, 80), options, checkpoint=FitCheckpoint(folder, 0),
    )


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Return the folder of a checkpoint of a fit that is complete, but for its calibration."""
    monkeypatch.setattr(training_pass, 'SAMPLE', 64)
    fit_tiny(tmp_path / 'kept')
    return tmp_path / 'kept'


def other_network():
    network = tiny.classifier()
    network.network.fc2.bias.data[0] += 0.1
    return network


@pytest.mark.parametrize(
    ('what', 'changed'),
    [
        ('data', {'data': tiny.source(3, 256)}),
        ('data', {'data': tiny.source(1, 255)}),
        ('calibration', {'calibration': tiny.source(4, 80)}),
        ('options', {'options': FitOptions(false_alarm_rate=0.12)}),
        ('network', {'classifier': other_network}),
    ],
)
def test_the_checkpoint_of_another_fit_is_refused_with_one_line(kept, what, changed):
    changed = {key: value() if callable(value) else value for key, value in changed.items()}
    with pytest.raises(NavMonitorError, match=f'of another fit: its {what} differ; remove') as said:
        fit_tiny(kept, **changed)
    assert '\n' not in str(said.value) and str(kept / FILE) in str(said.value)


@pytest.mark.parametrize('damage', [
    lambda content: content[: len(content) // 2],
    lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    lambda content: b'',
])
def test_a_damaged_checkpoint_is_refused_with_one_line(kept, damage):
    file = kept / FILE
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(NavMonitorError, match=r'(unreadable|damaged).*; remove it') as said:
        fit_tiny(kept)
    assert '\n' not in str(said.value)


def test_what_was_done_is_not_done_again(kept):
    assert images_kept(kept.parent) == 256
    read = []
    data = tiny.source(1, 256)
    watched = type(data)(
        data.name, lambda place: read.append(place) or data.read(place), data.places,
        data.own_labels,
    )
    checkpoint = FitCheckpoint(kept, 0)
    fit(tiny.classifier(), tiny.SPEC, watched, tiny.source(2, 80), SMALL, checkpoint=checkpoint)
    assert checkpoint.resumed_at == 256
    assert len(read) <= fitting.PROBES + RANGE_SAMPLE + 2 * image_checks.SAMPLE
    checkpoint.discard()
    assert not kept.exists()


def test_a_checkpoint_that_cannot_be_written_ends_the_fit_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(training_pass, 'SAMPLE', 64)
    (tmp_path / 'kept').write_text('a file')
    with pytest.raises(NavMonitorError, match='cannot write checkpoint'):
        fit_tiny(tmp_path / 'kept')


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path):
    checkpoint = FitCheckpoint(tmp_path / 'kept')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_checkpoint, '_FORMAT', '1')
        checkpoint.save(PartialFit({}), {})
    with pytest.raises(NavMonitorError, match='was written by another version .* remove it'):
        checkpoint.load(PartialFit({}))
