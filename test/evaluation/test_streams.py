"""Streams through the shipped bundle: what docs/safety.md promises, on a shorter run."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mlxtend')

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'benchmarks'))

from streams import RATE, Core, alarms_of_machine, jitter, summary, triangle_streams  # noqa: E402

from nav_monitor_ros.bundle.loading import load_bundle  # noqa: E402
from nav_monitor_ros.data.bags.bag import open_bag  # noqa: E402
from nav_monitor_ros.data.sources import open_source  # noqa: E402
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules  # noqa: E402
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL  # noqa: E402
from nav_monitor_ros.decision.evidence import EvidenceRules  # noqa: E402
from nav_monitor_ros.decision.score_fusion import FUSED  # noqa: E402
from nav_monitor_ros.evaluation.streams import alarms, delay, frames_of  # noqa: E402
from nav_monitor_ros.runtime.monitor import Monitor  # noqa: E402


@pytest.fixture(scope='module')
def core():
    return Core('digits')


def test_a_quarter_of_an_hour_of_digits_raises_nothing(core):
    digits = open_source('sample:digits')
    p_values, labels = core.look(digits.image(n) for n in range(len(digits)))
    order = np.random.default_rng(7).permutation(np.repeat(np.arange(len(digits)), 6))
    stream = core.frames((p_values[order], labels[order]), DEFAULT_EVIDENCE_LEVEL)
    assert len(stream) / RATE > 15 * 60
    assert sum(frame.flagged for frame in stream) > 100  # single frames are, as budgeted
    assert alarms(stream, EvidenceRules(), RATE) == 0
    assert alarms_of_machine(stream) == 0


def test_triangles_are_noticed_in_time(core):
    fresh, labels, length = triangle_streams(core, count=60)['another triangle each frame']
    frames = core.frames((fresh, labels), DEFAULT_EVIDENCE_LEVEL)
    delays = np.array([
        delay(frames[start:start + length], EvidenceRules(), RATE)
        for start in range(0, len(frames), length)
    ])
    reached = summary(delays)
    assert reached['median'] <= 5 and reached['p95'] <= 12 and reached['missed'] == 0


def test_jittered_digits_are_near_the_still_ones(core):
    """A jitter is a digit yet: else the streams of the benchmark would measure something else."""
    digits = open_source('sample:digits?limit=100')
    frames = [
        frame for n in range(len(digits))
        for frame in jitter(digits.image(n), 10, np.random.default_rng(n))
    ]
    p_values, labels = core.look(frames)
    truth = np.repeat(digits.own_labels, 10)
    assert (labels == truth).mean() > 0.97
    assert np.median(p_values) > 0.2


def test_a_stream_says_the_same_twice_and_one_by_one_as_in_batches(core):
    digits = open_source('sample:digits?limit=40')
    images = [digits.image(n) for n in range(40)]
    together, labels = core.look(images)
    again, _ = core.look(images)
    single = [core.look([image])[0][0] for image in images]
    assert np.array_equal(together, again)
    assert np.array_equal(together, single)
    frames = frames_of(core.judge.calibration, FUSED, together, labels)
    assert [frame.p_value for frame in frames] == together.tolist()

SHARED_BAGS = ROOT.parent / 'shared' / 'data' / 'bags'


@pytest.mark.skipif(not SHARED_BAGS.is_dir(), reason='the KITTI bags are not on this machine')
@pytest.mark.parametrize('name', ['kitti_drive_mcap', 'kitti_drive_sqlite3'])
def test_a_bag_gives_the_same_verdicts_twice(name):
    pytest.importorskip('rosbags')

    def verdicts():
        monitor = Monitor(load_bundle('traffic_signs'), device='cpu')
        machine = AlertMachine(AlertRules(), 0.0)
        machine.activate(True, 0.0)
        told = []
        with open_bag(SHARED_BAGS / name, ['/camera/color/image_raw/compressed']) as bag:
            for image in bag:
                now = image.received_ns / 1e9
                seen = monitor.look(image.decode(), least_contrast=2.0)
                machine.image_arrived(now)
                machine.frame_judged(seen.verdict.evidence, image.stamp_ns, seen.fingerprint, now)
                alert = machine.alert(now)
                told.append((
                    image.stamp_ns, seen.verdict.class_name, seen.verdict.confidence,
                    {n: (s.score, s.p_value) for n, s in seen.verdict.scores.items()},
                    alert.value, alert.reason, machine.evidence,
                ))
        return told

    first = verdicts()
    assert len(first) >= 60
    assert first == verdicts()
    assert any(value for *_, value, _, _ in first)  # roads are no traffic signs
