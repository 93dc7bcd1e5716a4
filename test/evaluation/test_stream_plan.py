"""Streams of any length: drawn from images, in bounded memory, as the node's evidence has them."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.decision.evidence import SCHEMES, EvidenceRules, FrameEvidence, make_evidence
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.metrics import streams_of
from nav_monitor_ros.evaluation.streams import (
    CHUNK,
    AlarmCount,
    ImageEvidence,
    StreamPlan,
    alarms,
)
from nav_monitor_ros.interrupt import Interrupted

RATE = 30.0
FRAMES = st.sampled_from([
    FrameEvidence(0.5, False, 0.5), FrameEvidence(0.4, False, 1.0), FrameEvidence(0.005, True, 0.5),
    FrameEvidence(0.0005, True, 300.0), FrameEvidence(0.0004, False, 40.0),
])


def images_of(frames) -> ImageEvidence:
    p_values, flagged, e_values = (np.array(column) for column in zip(*frames, strict=True))
    return ImageEvidence(p_values, flagged, e_values)


def frame_by_frame(frames, rules, rate=RATE) -> tuple[int, int]:
    """Return the alarms and the frames with the alert raised, adding every frame."""
    evidence, rises, alerted, elapsed = make_evidence(rules), 0, 0, math.inf
    for frame in frames:
        before = evidence.is_ood
        evidence.update(frame, elapsed)
        elapsed = 1 / rate
        rises += evidence.is_ood and not before
        alerted += evidence.is_ood
    return rises, alerted


# The same alarms as frame by frame.


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(FRAMES, min_size=1, max_size=12),
    draws=st.lists(st.integers(0, 11), max_size=300),
    scheme=st.sampled_from(SCHEMES),
    cut=st.integers(0, 300),
)
def test_skipping_frames_without_evidence_changes_nothing(frames, draws, scheme, cut):
    rules = EvidenceRules(evidence=scheme, enter_count=2, enter_window=4, exit_count=2)
    indices = np.array(draws, np.int64) % len(frames)
    count = AlarmCount(images_of(frames), rules, RATE)
    count.add(indices[:cut])
    count.add(indices[cut:])
    assert (count.alarms, count.alerted) == frame_by_frame(
        [frames[index] for index in indices], rules)
    assert count.frames == len(indices)


def test_frames_without_evidence_are_not_even_looked_at(monkeypatch):
    usual = images_of([FrameEvidence(0.5, False, 0.5)] * 10)
    count = AlarmCount(usual, EvidenceRules(), RATE)
    seen = []
    monkeypatch.setattr(ImageEvidence, 'frame', lambda self, index: (
        seen.append(index), FrameEvidence(0.5, False, 0.5))[1])
    count.add(np.zeros(100_000, np.int64))
    assert count.frames == 100_000 and len(seen) < 20


# What is drawn.


def drawn(plan, images, groups=None):
    return np.concatenate(list(plan.indices(images, groups)))


def test_without_a_length_each_image_is_played_once_in_order():
    assert drawn(StreamPlan(), 150_000).tolist() == list(range(150_000))
    assert StreamPlan().frames(7) == 7


@pytest.mark.parametrize('hours', [0.01, 1.5])
def test_a_stream_is_as_long_as_asked_and_the_same_for_the_same_seed(hours):
    plan = StreamPlan(rate=30.0, hours=hours, seed=3)
    stream = drawn(plan, 11)
    assert len(stream) == plan.frames(11) == round(hours * 108_000)
    np.testing.assert_array_equal(stream, drawn(plan, 11))
    assert (stream != drawn(StreamPlan(rate=30.0, hours=hours, seed=4), 11)).any()


def test_every_image_is_drawn_equally_often():
    stream = drawn(StreamPlan(rate=30.0, hours=2.0), 20)
    counts = np.bincount(stream, minlength=20)
    expected = len(stream) / 20
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)
    # Neighbours are independent.
    assert abs(np.corrcoef(stream[:-1], stream[1:])[0, 1]) < 0.02


def test_images_of_a_group_follow_each_other_in_their_order():
    groups = np.array([5, 2, 5, 2, 9, 5])  # images 0 2 5 | 1 3 | 4
    stream = drawn(StreamPlan(rate=30.0, hours=1.0), 6, groups).tolist()
    runs = {5: [0, 2, 5], 2: [1, 3], 9: [4]}
    counts = dict.fromkeys(runs, 0)
    place = 0
    while place < len(stream) - 3:
        group = int(groups[stream[place]])
        run = runs[group]
        assert stream[place : place + len(run)] == run
        counts[group] += 1
        place += len(run)
    mean = sum(counts.values()) / 3
    assert all(abs(count - mean) < 5 * math.sqrt(mean) for count in counts.values())


def test_a_long_stream_is_never_in_memory():
    plan = StreamPlan(rate=30.0, hours=30.0)  # 3.2 million frames, 26 MB of indices
    frames = [FrameEvidence(0.5, False, 0.5)] * 99 + [FrameEvidence(0.005, True, 0.5)]
    count = AlarmCount(images_of(frames), EvidenceRules(), plan.rate)
    tracemalloc.start()
    for part in plan.indices(100):
        count.add(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count.frames == 3_240_000 and count.alarms == 0
    assert peak < 4_000_000


def test_the_rate_of_a_drawn_stream_is_that_of_its_images():
    """Three frames of evidence in a row raise the alert: a rate that can be computed."""
    share = 0.02
    odd, usual = FrameEvidence(0.001, True, 2.0), FrameEvidence(0.5, False, 0.5)
    rules = EvidenceRules(evidence='k_of_n', enter_count=3, enter_window=3, exit_count=1)
    plan = StreamPlan(rate=30.0, hours=60.0)
    count = AlarmCount(images_of([odd] + [usual] * 49), rules, plan.rate)
    for part in plan.indices(50):
        count.add(part)
    expected = count.frames * share**3 * (1 - share)  # first of a run of three, after a usual one
    assert abs(count.alarms - expected) < 5 * math.sqrt(expected)


def test_one_false_alarm_per_hour_can_be_told_from_three():
    """The upper bound of 100 hours without an alarm is 0.03 per hour (Garwood: 3.0 events)."""
    usual = images_of([FrameEvidence(0.5, False, 0.5)] * 50)
    streams = streams_of(
        lambda score, source: usual, ['fused'], 'usual', [], StreamPlan(rate=30.0, hours=100.0))
    assert streams['fused'].hours == pytest.approx(100.0)
    assert streams['fused'].at_most_per_hour == pytest.approx(0.029957, rel=1e-3)


# Progress, interrupts and refusals.


def test_every_part_of_a_stream_reports_progress_and_can_be_interrupted():
    usual = images_of([FrameEvidence(0.5, False, 0.5)] * 50)
    plan, seen = StreamPlan(rate=30.0, hours=2.0), []

    def progress(what, done, total):
        seen.append((what, done, total))
        if done >= 2 * CHUNK:
            raise Interrupted

    with pytest.raises(Interrupted):
        streams_of(
            lambda score, source: usual, ['fused', 'msp'], 'usual', [], plan, progress=progress)
    assert {total for *_, total in seen} == {216_000}
    assert [done for _, done, _ in seen] == [0, 0, CHUNK, CHUNK, 2 * CHUNK]


def test_out_of_distribution_streams_can_be_interrupted_too():
    usual = images_of([FrameEvidence(0.5, False, 0.5)] * 50)
    seen = []
    streams_of(
        lambda score, source: usual, ['fused'], 'usual', ['a', 'b'], StreamPlan(),
        progress=lambda *stage: seen.append(stage))
    ood = [stage for stage in seen if stage[0] == 'out-of-distribution streams']
    assert len(ood) == 2 * 50 and ood[0][1:] == (0, 2) and ood[-1][1:] == (1, 2)


@pytest.mark.parametrize(('values', 'message'), [
    ({'rate': 0.0}, '--rate 0: must be above 0'),
    ({'rate': -1.0}, '--rate -1: must be above 0'),
    ({'hours': 0.0}, '--hours 0: the stream must have from 1'),
    ({'hours': 1e-9}, '--hours 1e-09: the stream must have from 1'),
    ({'hours': 1e12}, r'--hours 1e\+12: the stream must have from 1'),
    ({'ood_seconds': 0.01}, '--ood-seconds 0.01: must be from one frame, 0.0333333 s'),
])
def test_impossible_streams_are_refused(values, message):
    with pytest.raises(NavMonitorError, match=message):
        StreamPlan(**values)


def test_alarms_counts_any_iterable():
    rules = EvidenceRules(evidence='k_of_n', enter_count=2, enter_window=2)
    odd, usual = FrameEvidence(0.001, True, 2.0), FrameEvidence(0.5, False, 0.5)
    frames = [usual, odd, odd, *[usual] * 6, odd, odd]
    assert alarms(iter(frames), rules, RATE) == 2
    assert alarms([], rules, RATE) == 0
