"""The rate of arriving images: how it is measured, and what the alert makes of it."""

import itertools
import random

import pytest
from alert_stream import frame

from nav_monitor_ros.decision.alert.combined_alert import combine
from nav_monitor_ros.decision.alert.input_rate import LEAST_PERIODS, WINDOW, InputRate
from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.decision.alert.state_machine import AlertMachine, AlertRules
from nav_monitor_ros.errors import NavMonitorError

LONGEST = 0.5  # longest time between two images that is no pause, seconds


class Meter:
    """Input rate that receives images at given rates."""

    def __init__(self, warn=0.0, error=10.0, longest=LONGEST):
        self.rate = InputRate()
        self.now = 50.0
        self._rules = {'warn': warn, 'error': error}
        self._longest = longest

    def play(self, hertz, seconds, jitter=0.0, seed=0):
        """Play images; return (seconds since the begin, rate, whether it is a fault) for each."""
        rng, begin, seen = random.Random(seed), self.now, []
        while self.now - begin < seconds:
            self.now += 1 / hertz
            arrived = self.now + rng.uniform(0.0, jitter)
            self.rate.image_arrived(arrived, self._longest, **self._rules)
            seen.append((self.now - begin, self.rate.rate, bool(self.rate.fault)))
        return seen


@pytest.mark.parametrize('hertz', [2.5, 3.0, 10.0, 29.97, 100.0, 1000.0])
def test_a_steady_rate_is_measured_exactly(hertz):
    rates = [rate for _, rate, _ in Meter(longest=60.0).play(hertz, 10.0) if rate is not None]
    assert rates == pytest.approx([hertz] * len(rates), rel=1e-9)


def test_nothing_is_known_before_enough_images_came():
    seen = Meter(error=100.0).play(30.0, 4.0)
    first = next(after for after, rate, _ in seen if rate is not None)
    assert WINDOW <= first <= WINDOW + 2 / 30 + 1e-6
    # A slow camera needs more time for as many periods.
    seen = Meter(error=100.0, longest=60.0).play(1.0, 20.0)
    assert next(after for after, rate, _ in seen if rate is not None) == LEAST_PERIODS + 1
    for after, rate, fault in seen:
        assert fault == (rate is not None), after


@pytest.mark.parametrize(('before', 'after', 'least'), [
    (30.0, 3.0, 10.0), (30.0, 20.0, 25.0), (60.0, 5.0, 20.0), (10.0, 2.5, 5.0),
])
def test_a_fall_is_found_within_the_documented_time_and_not_before(before, after, least):
    meter = Meter(error=least)
    assert not any(fault for *_, fault in meter.play(before, 10.0))
    seen = meter.play(after, 10.0)
    found = next(at for at, _, fault in seen if fault)
    expected = WINDOW * (before - least) / (before - after)
    assert expected - 1 / before < found < expected + 1 / after + 1 / before
    assert all(fault for at, _, fault in seen if at >= found)


def test_a_rate_has_to_suffice_for_a_whole_window_before_it_is_good_again():
    meter = Meter(error=10.0)
    meter.play(30.0, 5.0)
    meter.play(3.0, 5.0)
    seen = meter.play(30.0, 10.0)
    enough = next(at for at, rate, _ in seen if rate >= 10.0)
    good = next(at for at, _, fault in seen if not fault)
    assert 0 < enough < WINDOW and good == pytest.approx(enough + WINDOW, abs=2 / 30)


def test_a_rate_at_the_threshold_does_not_flap():
    meter, changes = Meter(error=10.0), 0
    for number in range(30):  # seconds at 9.8 Hz and at 10.2 Hz in turn
        seen = [fault for *_, fault in meter.play(9.8 if number % 2 else 10.2, 1.0)]
        changes += sum(one != other for one, other in itertools.pairwise(seen))
    assert changes <= 1 and meter.rate.fault


def test_jitter_and_single_lost_images_are_no_fault():
    for seed in range(20):
        meter = Meter(error=25.0)
        assert not any(fault for *_, fault in meter.play(30.0, 20.0, jitter=0.03, seed=seed))
        meter.now += 0.1  # three lost images
        assert not any(fault for *_, fault in meter.play(30.0, 5.0, jitter=0.03, seed=seed))


def test_a_pause_is_no_low_rate_and_does_not_make_a_low_rate_good():
    meter = Meter(error=10.0)
    meter.play(30.0, 5.0)
    meter.now += 60.0  # a paused bag, for example
    seen = meter.play(30.0, 5.0)
    assert seen[0][1] is None and not any(fault for *_, fault in seen)
    meter.play(3.0, 5.0)
    assert meter.rate.fault
    meter.now += 60.0
    seen = meter.play(3.0, 5.0)
    assert all(fault for *_, fault in seen)
    meter.now += 60.0
    seen = meter.play(30.0, 5.0)
    assert seen[0][2] and not seen[-1][2]


def test_arrivals_out_of_order_and_floods_are_survived():
    rate = InputRate()
    for number in range(20_000):
        rate.image_arrived(10.0 - number % 2, LONGEST, warn=1.0, error=1.0)
    assert rate.rate is None and not rate.fault
    for number in range(20_000):
        rate.image_arrived(10.0 + number * 1e-5, LONGEST, warn=1.0, error=1.0)
    assert rate.rate == pytest.approx(1e5)


def test_both_thresholds_stand_alone_and_tell_their_parameter():
    meter = Meter(warn=20.0, error=10.0)
    meter.play(15.0, 5.0)
    assert meter.rate.warning == '15.0 images per second, fewer than input_rate_warn (20 Hz)'
    assert not meter.rate.fault
    meter.play(5.0, 5.0)
    assert meter.rate.warning and 'input_rate_error (10 Hz)' in meter.rate.fault
    meter = Meter(warn=0.0, error=0.0)
    meter.play(1.0, 20.0)
    assert not meter.rate.warning and not meter.rate.fault


# ------------------------------------------------------------------ the alert


class Camera:
    """State machine that receives in-distribution frames at given rates."""

    def __init__(self, **rules):
        self.now, self.number = 100.0, 0
        self.machine = AlertMachine(AlertRules(evidence='k_of_n', **rules), self.now)
        self.machine.activate(True, self.now)

    def play(self, hertz, seconds):
        """Return the reason after each frame."""
        said = []
        for _ in range(round(hertz * seconds)):
            self.now += 1 / hertz
            self.number += 1
            self.machine.image_arrived(self.now)
            self.machine.frame_judged(frame(False), int(self.now * 1e9), self.number, self.now)
            said.append(self.machine.alert(self.now).reason)
        return said


def test_a_camera_that_falls_from_30_to_3_hz_stays_trusted_unless_an_error_rate_is_set():
    camera = Camera(input_rate_warn=10.0)
    camera.play(30.0, 3.0)
    assert {*camera.play(3.0, 10.0)} == {Reason.IN_DISTRIBUTION}
    assert 'input_rate_warn' in camera.machine.input_rate_warning
    assert camera.machine.input_rate == pytest.approx(3.0)


def test_a_low_rate_raises_the_alert_with_its_reason_until_it_has_sufficed():
    camera = Camera(input_rate_error=10.0)
    assert camera.play(30.0, 3.0)[-1] is Reason.IN_DISTRIBUTION
    said = camera.play(3.0, 5.0)
    first = said.index(Reason.LOW_INPUT_RATE)
    assert first / 3.0 <= 1.9 and {*said[first:]} == {Reason.LOW_INPUT_RATE}
    alert = camera.machine.alert(camera.now)
    assert alert.value is True and alert.state is State.INVALID
    assert 'fewer than input_rate_error (10 Hz)' in alert.detail
    said = camera.play(30.0, 5.0)
    assert [reason for reason, _ in itertools.groupby(said)] == [
        Reason.LOW_INPUT_RATE, Reason.WARMING_UP, Reason.IN_DISTRIBUTION]
    assert said.count(Reason.WARMING_UP) == 4  # exit_count frames, as after every fault


def test_a_camera_that_is_slow_from_the_start_is_found():
    said = Camera(input_rate_error=10.0).play(3.0, 6.0)
    assert said[-1] is Reason.LOW_INPUT_RATE
    assert said.index(Reason.LOW_INPUT_RATE) / 3.0 <= WINDOW + 2 / 3.0


def test_the_threshold_may_be_set_and_removed_while_the_camera_is_slow():
    camera = Camera()
    camera.play(3.0, 5.0)
    camera.machine.change_rules(input_rate_error=10.0)
    assert camera.play(3.0, 1.0)[-1] is Reason.LOW_INPUT_RATE
    camera.machine.change_rules(input_rate_error=0.0)
    assert camera.machine.alert(camera.now).reason is Reason.WARMING_UP
    assert camera.play(3.0, 2.0)[-1] is Reason.IN_DISTRIBUTION


def test_a_new_activation_measures_anew():
    camera = Camera(input_rate_error=10.0)
    camera.play(3.0, 5.0)
    camera.machine.activate(False, camera.now)
    camera.machine.activate(True, camera.now)
    assert Reason.LOW_INPUT_RATE not in camera.play(30.0, 5.0)


def test_silence_of_a_slow_camera_is_stale_and_silence_alone_is_no_low_rate():
    camera = Camera(input_rate_error=10.0)
    camera.play(30.0, 5.0)
    assert camera.machine.alert(camera.now + 0.6).reason is Reason.STALE_IMAGE
    camera.now += 30.0
    assert Reason.LOW_INPUT_RATE not in camera.play(30.0, 5.0)


def test_rates_below_0_are_refused():
    with pytest.raises(NavMonitorError, match='input_rate_warn and input_rate_error'):
        AlertRules(input_rate_error=-1.0)


def test_a_low_rate_is_less_severe_than_silence_and_more_than_warming_up():
    def alert(reason):
        return Alert(reason.raises_alert, reason.state, reason)

    for other, most in ((Reason.STALE_IMAGE, Reason.STALE_IMAGE),
                        (Reason.WARMING_UP, Reason.LOW_INPUT_RATE),
                        (Reason.IN_DISTRIBUTION, Reason.LOW_INPUT_RATE)):
        combined = combine({'a': alert(Reason.LOW_INPUT_RATE), 'b': alert(other)})
        assert combined.value is True and combined.reason is most
