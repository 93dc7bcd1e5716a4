"""The alert's state machine: reasons and recoveries, on a clock of the test's own."""

import random

import numpy as np
import pytest
from alert_stream import Stream, frame

from nav_monitor_ros.decision.alert.reason import Reason, State
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.decision.evidence import FrameEvidence
from nav_monitor_ros.errors import NavMonitorError


def test_it_starts_true_and_inactive():
    machine = AlertMachine(AlertRules(), 0.0)
    assert machine.alert(0.0).value is True
    assert machine.alert(0.0).reason is Reason.INACTIVE


def test_it_waits_for_the_first_image():
    assert Stream().look(0.1).reason is Reason.NO_IMAGE


def test_it_is_true_until_enough_clear_frames_came_in_a_row():
    stream = Stream(exit_count=5)
    assert stream.play([False] * 4) == [Reason.WARMING_UP] * 4
    assert stream.play([True]) == [Reason.WARMING_UP]
    assert stream.play([False] * 5) == [Reason.WARMING_UP] * 4 + [Reason.IN_DISTRIBUTION]
    assert stream.look().state is State.OK


def test_flagged_frames_are_suspect_before_they_are_out_of_distribution(trusted):
    assert trusted.play([True, True]) == [Reason.SUSPECT] * 2
    assert trusted.look().value is False
    assert trusted.look().state is State.SUSPECT
    assert trusted.play([True]) == [Reason.OOD]
    assert trusted.look().value is True


def test_a_single_flagged_frame_raises_nothing(trusted):
    assert trusted.play([True, False, False, False, True, True, False, False, False]) == [
        *[Reason.SUSPECT] * 3, Reason.IN_DISTRIBUTION, *[Reason.SUSPECT] * 4,
        Reason.IN_DISTRIBUTION,
    ]


def test_enter_count_one_alerts_with_the_first_flagged_frame():
    stream = Stream(enter_count=1, enter_window=1)
    stream.play([False] * 5)
    assert stream.play([True]) == [Reason.OOD]


def test_it_leaves_after_clear_frames_in_a_row_only(trusted):
    trusted.play([True] * 3)
    assert trusted.play([False] * 4 + [True]) == [Reason.OOD] * 5
    assert trusted.play([False] * 5) == [Reason.OOD] * 4 + [Reason.IN_DISTRIBUTION]


def test_out_of_distribution_is_said_while_still_warming_up():
    assert Stream().play([True] * 3) == [Reason.WARMING_UP] * 2 + [Reason.OOD]


def test_the_alert_holds_until_the_moment_that_is_told():
    stream = Stream(frozen_timeout=0.3, image_timeout=0.5, inference_timeout=0.2)
    rng = random.Random(1)
    for _ in range(400):
        stream.now += rng.uniform(0.0, 0.1)
        stream.machine.image_arrived(stream.now)
        if rng.random() < 0.7:
            pixels = rng.randrange(3) if rng.random() < 0.9 else rng.randrange(10**6)
            stream.machine.frame_judged(
                frame(False), int(stream.now * 1e9), pixels, stream.now,
                capture_time=stream.now - rng.uniform(0.0, 0.4),
            )
        said = stream.look()
        until = stream.machine.holds_until
        if until > stream.now:
            later = stream.machine.alert(rng.uniform(stream.now, until - 1e-9))
            assert (later.value, later.reason) == (said.value, said.reason)


def test_a_world_that_has_moved_makes_the_calibration_stale_and_no_alert():
    stream = Stream(drift_window=120.0, image_timeout=2.0)
    rng = np.random.default_rng(4)
    for step in range(300):  # a look a second
        stream.now += 1.0
        stream.machine.image_arrived(stream.now)
        p = float(rng.uniform(0.02, 0.4))
        stream.machine.frame_judged(
            FrameEvidence(p, False, 0.5), int(stream.now * 1e9), step, stream.now
        )
        assert step < 5 or stream.look().value is False
    assert 'at or below 0.' in stream.machine.calibration_stale


def test_another_model_begins_with_a_calibration_that_is_not_stale():
    stream = Stream(drift_window=120.0, image_timeout=2.0)
    rng = np.random.default_rng(4)
    for step in range(300):  # a look a second
        stream.now += 1.0
        stream.machine.image_arrived(stream.now)
        stream.machine.frame_judged(
            FrameEvidence(float(rng.uniform(0.02, 0.4)), False, 0.5), int(stream.now * 1e9), step,
            stream.now,
        )
    assert stream.machine.calibration_stale
    stream.machine.model_loaded()
    assert not stream.machine.calibration_stale


def test_a_latched_alert_waits_for_its_reset():
    stream = Stream(latch=True)
    stream.play([False] * 5 + [True] * 3)
    assert stream.play([False] * 20)[-1] is Reason.LATCHED
    stream.machine.reset()
    assert stream.look().reason is Reason.IN_DISTRIBUTION


def test_a_reset_does_not_silence_what_still_is_out_of_distribution():
    stream = Stream(latch=True)
    stream.play([False] * 5 + [True] * 3)
    stream.machine.reset()
    assert stream.look().reason is Reason.OOD


def test_faults_do_not_latch():
    stream = Stream(latch=True)
    stream.play([False] * 5)
    stream.look(2.0)
    assert stream.play([False] * 5)[-1] is Reason.IN_DISTRIBUTION


def test_disabled_means_true_and_enabling_starts_anew(trusted):
    trusted.machine.enable(False, trusted.now)
    assert trusted.look().reason is Reason.DISABLED
    trusted.machine.enable(True, trusted.now)
    assert trusted.look(0.1).reason is Reason.NO_IMAGE
    assert trusted.play([False] * 5)[-1] is Reason.IN_DISTRIBUTION


def test_deactivated_means_true(trusted):
    trusted.machine.activate(False, trusted.now)
    assert trusted.look().reason is Reason.INACTIVE
    assert trusted.look().value is True


def test_a_model_that_does_not_load_outweighs_everything(trusted):
    trusted.machine.model_failed('bundle is gone')
    assert trusted.look(10.0).reason is Reason.MODEL_ERROR
    assert trusted.look().detail == 'bundle is gone'


def test_since_is_the_time_of_the_last_change(trusted):
    raised = trusted.play([True] * 3) and trusted.now
    trusted.play([True] * 10)
    assert trusted.look().since == raised


def test_rules_change_while_running(trusted):
    trusted.machine.change_rules(enter_count=1)
    assert trusted.play([True]) == [Reason.OOD]


def test_a_bad_rule_changes_nothing(trusted):
    with pytest.raises(NavMonitorError, match='enter_count'):
        trusted.machine.change_rules(image_timeout=9.0, enter_count=0)
    assert trusted.look(0.6).reason is Reason.STALE_IMAGE


@pytest.mark.parametrize(
    'rules', [{'image_timeout': 0}, {'inference_timeout': -1}, {'frozen_timeout': -0.1},
              {'exit_count': 0}]
)
def test_impossible_rules_are_refused(rules):
    with pytest.raises(NavMonitorError):
        AlertRules(**rules)


def test_false_is_said_for_two_reasons_only():
    """Whatever happens in whatever order, only these two reasons mean that perception is fine."""
    import random

    random.seed(3)
    stream = Stream(latch=False)
    machine = stream.machine
    actions = [
        lambda: stream.play([False] * random.randint(1, 8)),
        lambda: stream.play([True] * random.randint(1, 4)),
        lambda: stream.look(random.choice([0.1, 0.6, 2.0])),
        lambda: machine.frame_failed(Reason.BAD_IMAGE, 'x'),
        lambda: machine.enable(random.random() < 0.7, stream.now),
        lambda: machine.activate(random.random() < 0.7, stream.now),
        lambda: machine.image_arrived(stream.now),
    ]
    seen = set()
    for _ in range(3000):
        random.choice(actions)()
        alert = stream.look()
        seen.add(alert.reason)
        assert alert.value == (alert.reason not in (Reason.IN_DISTRIBUTION, Reason.SUSPECT))
    assert len(seen) >= 9


def restarted(**rules):
    """Return a stream to a process that may have been restarted."""
    stream = Stream(**rules)
    stream.machine = AlertMachine(stream.machine.rules, stream.now, may_be_restart=True)
    stream.machine.activate(True, stream.now)
    return stream


def test_a_restart_does_not_release_a_latched_alert():
    stream = restarted(latch=True)
    assert stream.look().reason is Reason.NO_IMAGE
    assert set(stream.play([False] * 30)) == {Reason.LATCHED}
    assert 'restart' in stream.look().detail and '~/reset_alert' in stream.look().detail
    stream.look(2.0)  # a fault does not release it either
    assert stream.play([False] * 30)[-1] is Reason.LATCHED
    stream.machine.reset()
    assert stream.look().reason is Reason.IN_DISTRIBUTION
    stream.play([True] * 5)
    assert stream.play([False] * 30)[-1] is Reason.LATCHED
    assert 'restart' not in stream.look().detail


def test_without_the_latch_a_restart_waits_for_clear_frames_only():
    stream = restarted(latch=False)
    assert stream.play([False] * 30)[-1] is Reason.IN_DISTRIBUTION
    stream = restarted(latch=True)
    stream.play([False] * 30)
    stream.machine.change_rules(latch=False)
    assert stream.look().reason is Reason.IN_DISTRIBUTION
