"""What the alert says of silent, late, frozen, failing and mixed input."""


import pytest
from alert_stream import PERIOD, Stream, frame

from nav_monitor_ros.decision.alert.reason import Reason, State


def test_silence_is_stale_after_the_timeout_and_not_before(trusted):
    assert trusted.look(0.49).value is False
    assert trusted.look(0.02).reason is Reason.STALE_IMAGE
    assert trusted.look().state is State.INVALID


def test_a_returning_camera_has_to_prove_itself_again(trusted):
    trusted.look(2.0)
    assert trusted.play([False] * 5) == [Reason.WARMING_UP] * 4 + [Reason.IN_DISTRIBUTION]


def test_a_gap_below_the_timeout_does_not_matter(trusted):
    trusted.now += 0.4
    assert trusted.play([False]) == [Reason.IN_DISTRIBUTION]


def test_a_gap_that_nobody_looked_at_counts(trusted):
    trusted.now += 2.0  # the process was stopped, and goes on with the image that waits for it
    assert trusted.play([False] * 5) == [Reason.WARMING_UP] * 4 + [Reason.IN_DISTRIBUTION]


def test_a_verdict_that_comes_too_late_and_unwatched_counts(trusted):
    trusted.machine.image_arrived(trusted.now)
    trusted.now += 2.0
    trusted.machine.frame_judged(frame(False), int(trusted.now * 1e9), 10**6, trusted.now)
    trusted.machine.image_arrived(trusted.now)
    assert trusted.look().reason is Reason.WARMING_UP


def test_a_slow_first_verdict_is_no_timeout_counted_from_activation():
    stream = Stream(inference_timeout=1.0)
    stream.look(30.0)
    stream.machine.image_arrived(stream.now)
    assert stream.look(0.1).reason is Reason.WARMING_UP


def test_images_without_a_verdict_are_stale_and_then_an_inference_timeout(trusted):
    said = []
    for _ in range(33):
        trusted.machine.image_arrived(trusted.now)
        said.append(trusted.look(PERIOD).reason)
    assert said[:14] == [Reason.IN_DISTRIBUTION] * 14  # 0.47 s
    assert said[15:29] == [Reason.STALE_IMAGE] * 14  # of 0.5 s and more
    assert said[-1] is Reason.INFERENCE_TIMEOUT


def test_false_rests_on_a_judged_image_that_is_fresh_itself():
    # The camera sends at 30 Hz all the while; each verdict takes 0.95 s.
    stream = Stream(inference_timeout=2.0)
    said = []
    arrived = stream.now
    for number in range(1, 900):
        stream.now += PERIOD
        stream.machine.image_arrived(stream.now)
        if number % 28 == 0:
            stream.machine.frame_judged(
                frame(False), int(arrived * 1e9), number, stream.now, capture_time=arrived
            )
            arrived = stream.now
        said.append(stream.look().value)
    assert all(said)


@pytest.mark.parametrize(('age', 'value'), [(0.3, False), (0.6, True)])
def test_an_image_is_as_old_as_its_stamp_says(age, value):
    stream = Stream()
    for number in range(30):
        stream.now += PERIOD
        stream.machine.image_arrived(stream.now)
        stream.machine.frame_judged(
            frame(False), int(stream.now * 1e9), number, stream.now, capture_time=stream.now - age
        )
    alert = stream.look()
    assert alert.value is value
    assert alert.reason is (Reason.STALE_IMAGE if value else Reason.IN_DISTRIBUTION)


def test_an_image_from_before_a_pause_of_the_caller_is_as_old_as_the_pause(trusted):
    trusted.machine.image_arrived(trusted.now + 0.1, trusted.now + 3.0)
    assert trusted.look(3.0).reason is Reason.INFERENCE_TIMEOUT
    trusted.machine.frame_judged(
        frame(False), int(trusted.now * 1e9), 1000, trusted.now, capture_time=trusted.now - 2.9
    )
    alert = trusted.look()
    assert alert.reason is Reason.STALE_IMAGE
    assert 'no image for 2.9 s' in alert.detail


@pytest.mark.parametrize('reason', [Reason.BAD_IMAGE, Reason.STALE_IMAGE, Reason.INFERENCE_ERROR])
def test_a_fault_from_before_a_silence_is_not_named_after_it(trusted, reason):
    trusted.machine.image_arrived(trusted.now)
    trusted.machine.frame_failed(reason, 'the old fault')
    assert trusted.look().detail == 'the old fault'
    assert trusted.look(2.0).reason is Reason.STALE_IMAGE
    trusted.machine.image_arrived(trusted.now)
    assert 'the old fault' not in trusted.look(0.01).detail


def test_a_missing_image_is_explained_by_what_is_known_of_the_input(trusted):
    trusted.machine.input_fault = 'images are lost; publish reliably'
    assert trusted.look(2.0).detail == 'no image for 2.0 s; images are lost; publish reliably'
    waiting = Stream()
    waiting.machine.input_fault = 'nobody publishes /image'
    assert waiting.look(1.0).detail.endswith('since activation; nobody publishes /image')


def test_a_hang_is_reported_as_such_when_the_camera_dies_too(trusted):
    trusted.machine.image_arrived(trusted.now)
    assert trusted.look(5.0).reason is Reason.INFERENCE_TIMEOUT


@pytest.mark.parametrize('reason', [Reason.BAD_IMAGE, Reason.INFERENCE_ERROR])
def test_a_failed_frame_alerts_at_once_and_until_frames_are_judged_again(trusted, reason):
    trusted.machine.image_arrived(trusted.now)
    trusted.machine.frame_failed(reason, 'what is wrong')
    alert = trusted.look()
    assert (alert.value, alert.reason, alert.detail) == (True, reason, 'what is wrong')
    assert trusted.play([False] * 5)[-2:] == [Reason.WARMING_UP, Reason.IN_DISTRIBUTION]


def test_a_dead_camera_outweighs_its_last_bad_image(trusted):
    trusted.machine.image_arrived(trusted.now)
    trusted.machine.frame_failed(Reason.BAD_IMAGE, 'truncated')
    assert trusted.look(0.6).reason is Reason.STALE_IMAGE


def test_identical_images_are_frozen_after_the_timeout():
    stream = Stream(frozen_timeout=1.0)
    stream.play([False] * 5)
    reasons = stream.play([False] * 35, pixels=7)
    first = reasons.index(Reason.FROZEN_IMAGE)
    assert first in (30, 31)
    assert set(reasons[first:]) == {Reason.FROZEN_IMAGE}
    assert stream.play([False] * 5)[-1] is Reason.IN_DISTRIBUTION


def test_a_frozen_timeout_of_zero_allows_still_images():
    stream = Stream(frozen_timeout=0.0)
    assert set(stream.play([False] * 300, pixels=7)[5:]) == {Reason.IN_DISTRIBUTION}


def test_a_clock_that_jumps_back_restarts_the_frozen_window():
    stream = Stream(frozen_timeout=1.0)
    stream.play([False] * 25, pixels=7)
    stream.machine.image_arrived(stream.now)
    stream.machine.frame_judged(frame(False), 1, 7, stream.now)
    assert Reason.FROZEN_IMAGE not in stream.play([False] * 25, pixels=7)


def test_interleaved_stamps_of_two_cameras_are_never_trusted(trusted):
    for number in range(40):
        trusted.now += PERIOD
        trusted.machine.image_arrived(trusted.now)
        stamp = int(trusted.now * 1e9) if number % 2 else 1
        trusted.machine.frame_judged(frame(number % 2 == 1), stamp, number, trusted.now)
        assert number == 0 or trusted.look().value is True


def test_a_stamp_that_jumps_back_makes_the_stream_prove_itself_again(trusted):
    trusted.play([True, True])
    trusted.now -= 20.0  # the bag begins again; so does the machine's clock under use_sim_time
    assert trusted.play([True, True]) == [Reason.WARMING_UP] * 2  # those before do not count
    assert trusted.play([False] * 5)[-1] is Reason.IN_DISTRIBUTION


def test_stamps_that_a_driver_mixed_up_change_nothing(trusted):
    for step in (-0.02, 0.05, -0.02, 0.05):
        trusted.now += PERIOD
        trusted.machine.image_arrived(trusted.now)
        trusted.machine.frame_judged(
            frame(False), int((trusted.now + step) * 1e9), trusted.frame, trusted.now
        )
        trusted.frame += 1
        assert trusted.look().reason is Reason.IN_DISTRIBUTION


@pytest.mark.parametrize('step_ns', [0, 1, 1_000_000, 3_600 * 10**9])
def test_odd_stamps_hide_no_strange_stream(step_ns):
    stream = Stream(evidence='e_cusum')
    stream.play([False] * 5)
    for number in range(12):
        stream.now += PERIOD
        stream.machine.image_arrived(stream.now)
        stream.machine.frame_judged(frame(True), int(stream.now * 1e9) if number == 0 else
                              10**15 + number * step_ns, 1000 + number, stream.now)
    assert stream.look().reason is Reason.OOD


def test_images_of_two_publishers_in_turn_alert_until_one_is_gone(trusted):
    for number in range(6):
        trusted.play([False], publisher='ab'[number % 2])
    assert trusted.look().reason is Reason.BAD_IMAGE
    assert 'two publishers' in trusted.look().detail
    reasons = trusted.play([False] * 60, publisher='a')
    assert reasons[-1] is Reason.IN_DISTRIBUTION
    assert reasons[0] is Reason.BAD_IMAGE


def test_a_camera_that_takes_the_place_of_another_is_one_camera(trusted):
    for name in 'aaaaabbbbbb':
        assert trusted.play([False], publisher=name) == [Reason.IN_DISTRIBUTION]


@pytest.mark.parametrize('count', [2, 3, 8])
def test_stuck_images_that_alternate_are_frozen(count):
    stream = Stream(frozen_timeout=1.0)
    reasons = []
    for number in range(60):
        reasons += stream.play([False], pixels=number % count)
    first = reasons.index(Reason.FROZEN_IMAGE)
    assert 1.0 <= (first - count + 1) * PERIOD < 1.1
    assert set(reasons[first:]) == {Reason.FROZEN_IMAGE}
    assert f'the same {count} images in turn' in stream.look().detail
    assert stream.play([False] * 5)[-1] is Reason.IN_DISTRIBUTION


def test_a_new_image_among_old_ones_is_a_sign_of_life():
    stream = Stream(frozen_timeout=1.0)
    for number in range(120):
        stream.play([False], pixels=1000 + number if number % 20 == 0 else number % 2)
        assert number < 5 or stream.look().reason is Reason.IN_DISTRIBUTION
