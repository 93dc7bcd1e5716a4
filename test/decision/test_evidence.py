"""Evidence over a stream of frames: budgets that hold, delays, and the end of an alert."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.decision.e_values import NO_EVIDENCE, EValues
from nav_monitor_ros.decision.evidence import (
    ECusum,
    EvidenceRules,
    FrameEvidence,
    KOfN,
    make_evidence,
)
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.streams import alarms, delay

RATE = 30.0


def e_values_of(n=4000, effective=None, limit=0.01, level=0.001):
    return EValues([n], [effective or n], np.array([limit]), 0.95, level)


def frames(p_values, e_values, threshold=0.01):
    labels = np.zeros(len(p_values), int)
    return [
        FrameEvidence(float(p), bool(p <= threshold), float(e))
        for p, e in zip(
            p_values, e_values.e_values(np.asarray(p_values), labels), strict=True
        )
    ]


def test_the_time_between_false_alarms_is_at_least_what_was_promised():
    """A budget that can be counted: 200 frames between alarms, on uniform p-values."""
    rules = EvidenceRules(false_alarms_per_hour=3600 * 30 / 200, evidence_rate=30.0)
    assert rules.frames_between_alarms == 200
    rng = np.random.default_rng(1)
    values = e_values_of(1000, level=0.05, limit=0.1)
    stream = frames(rng.integers(1, 1002, 100_000) / 1001, values)
    assert alarms(stream, rules, RATE) <= 100_000 / 200


def test_frames_that_come_faster_count_less():
    unusual = [FrameEvidence(0.001, True, 100.0)] * 400
    rules = EvidenceRules(evidence_rate=15.0)
    assert delay(unusual, rules, 15.0) == math.ceil(math.log(54000) / math.log(100))
    assert delay(unusual, rules, 30.0) == math.ceil(2 * math.log(54000) / math.log(100))
    assert delay(unusual, rules, 150.0) == math.ceil(10 * math.log(54000) / math.log(100))
    assert delay(unusual, rules, 5.0) == delay(unusual, rules, 15.0)  # a frame is at most one


def test_a_smaller_budget_takes_longer():
    unusual = [FrameEvidence(0.001, True, 100.0)] * 100
    delays = [
        delay(unusual, EvidenceRules(false_alarms_per_hour=b), RATE) for b in (100.0, 1.0, 0.001)
    ]
    assert delays == sorted(delays) and delays[0] < delays[-1]


def test_p_values_that_are_only_small_never_add_up():
    """An odd object in view for an hour, above the level: suspect all the time, never an alarm."""
    values = e_values_of(4400)
    stream = frames([0.005] * 30 * 3600, values)
    assert alarms(stream, EvidenceRules(), RATE) == 0
    evidence = make_evidence(EvidenceRules())
    evidence.update(stream[0], math.inf)
    assert evidence.is_suspect and not evidence.is_ood


def test_a_single_unusual_frame_is_suspect_and_forgotten():
    evidence = ECusum(EvidenceRules())
    evidence.update(FrameEvidence(0.0005, True, 300.0), 1 / RATE)
    assert evidence.is_suspect and 0 < evidence.level < 1
    for _ in range(30):
        evidence.update(FrameEvidence(0.5, False, NO_EVIDENCE), 1 / RATE)
    assert evidence.level == 0 and not evidence.is_suspect


@pytest.mark.parametrize('scheme', ['e_cusum', 'k_of_n'])
def test_the_alert_falls_after_clear_frames_in_a_row_and_nothing_is_left(scheme):
    evidence = make_evidence(EvidenceRules(evidence=scheme, exit_count=4))
    unusual, clear = FrameEvidence(0.0005, True, 300.0), FrameEvidence(0.5, False, NO_EVIDENCE)
    for _ in range(900):
        evidence.update(unusual, 1 / RATE)
    assert evidence.is_ood and evidence.level == 1
    for frame in [clear] * 3 + [unusual] + [clear] * 3:
        evidence.update(frame, 1 / RATE)
        assert evidence.is_ood
    evidence.update(clear, 1 / RATE)
    assert not evidence.is_ood and evidence.level == 0 and evidence.is_clear


def test_restarting_keeps_an_alarm_until_clear_frames_end_it():
    evidence = ECusum(EvidenceRules())
    for _ in range(9):
        evidence.update(FrameEvidence(0.0005, True, 300.0), 1 / RATE)
    evidence.restart()
    assert evidence.is_ood and not evidence.is_clear


def test_k_of_n_counts_in_its_window():
    rules = EvidenceRules(evidence='k_of_n', enter_count=3, enter_window=5)
    odd, clear = FrameEvidence(0.005, True, NO_EVIDENCE), FrameEvidence(0.5, False, NO_EVIDENCE)
    assert delay([odd, clear, odd, clear, odd], rules, RATE) == 5
    assert delay([odd, odd, clear, clear, clear, odd], rules, RATE) == math.inf


@pytest.mark.parametrize(
    ('rules', 'words'),
    [
        ({'evidence': 'guess'}, "evidence is 'guess'"),
        ({'enter_count': 4}, 'enter_window'),
        ({'exit_count': 0}, 'exit_count'),
        ({'evidence_rate': 0.0}, 'evidence_rate'),
        ({'false_alarms_per_hour': float('nan')}, 'false_alarms_per_hour'),
        ({'false_alarms_per_hour': 60_000.0}, 'must be below'),
    ],
)
def test_rules_that_contradict_themselves_are_refused(rules, words):
    with pytest.raises(NavMonitorError, match=words):
        EvidenceRules(**rules)


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(['e_cusum', 'k_of_n']),
    stream=st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=60),
)
def test_the_level_stays_in_bounds_and_an_alarm_is_one_reached(scheme, stream):
    evidence = make_evidence(EvidenceRules(evidence=scheme))
    reached = False
    for odd, elapsed in stream:
        clear = FrameEvidence(0.5, False, NO_EVIDENCE)
        evidence.update(FrameEvidence(0.0005, True, 300.0) if odd else clear, elapsed)
        reached |= evidence.level == 1
        assert 0 <= evidence.level <= 1
        assert not evidence.is_ood or reached
        assert not (evidence.is_ood and evidence.is_suspect)


def test_both_schemes_are_to_be_had():
    assert isinstance(make_evidence(EvidenceRules()), ECusum)
    assert isinstance(make_evidence(EvidenceRules(evidence='k_of_n')), KOfN)
