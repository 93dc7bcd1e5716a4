"""Messages that arrive later than usual: resent ones, and clocks that differ, drift or are set."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')

from nav_monitor_ros.ros import transport_delay  # noqa: E402
from nav_monitor_ros.ros.transport_delay import MOST_PUBLISHERS, TransportDelay  # noqa: E402

SECOND = 10**9


class Link:
    """Messages of publishers whose clocks are ahead of the subscriber's by some seconds."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.delay = TransportDelay()
        monkeypatch.setattr(transport_delay.time, 'monotonic', lambda: self.now)

    def message(self, delay=0.001, ahead=0.0, publisher=b'a'):
        """Return the excess of a message that was under way for ``delay`` seconds."""
        sent = 1000.0 + self.now - delay + ahead
        info = {
            'source_timestamp': round(sent * SECOND),
            'received_timestamp': round((1000.0 + self.now) * SECOND),
        }
        if publisher is not None:
            info['publisher_gid'] = {'data': publisher.ljust(24, b'\0')}
        return self.delay.excess(info)

    def regular(self, seconds, rate=10.0, **more):
        """Return the excess of each message of a regular publisher."""
        found = []
        for _ in range(round(seconds * rate)):
            self.now += 1 / rate
            found.append(self.message(**more))
        return found


@pytest.fixture
def link(monkeypatch):
    return Link(monkeypatch)


@pytest.mark.parametrize('ahead', [0.0, 3600.0, -7.0])
def test_a_resent_message_is_late_by_its_age_whatever_the_clocks_say(link, ahead):
    assert max(link.regular(5, ahead=ahead)) < 1e-6
    link.now += 60.0  # an outage
    assert link.message(delay=60.0, ahead=ahead) == pytest.approx(60.0, abs=0.01)
    assert max(link.regular(1, ahead=ahead)) < 1e-6


def test_a_burst_of_resent_messages_is_late_from_the_first_to_the_last_old_one(link):
    link.regular(20, rate=20)
    link.now += 30.0
    ages = [30.0 - number / 20 for number in range(600)]
    for age in ages:
        link.now += 1e-4
        assert link.message(delay=age) == pytest.approx(age, abs=0.1)


def test_clocks_that_drift_apart_make_nothing_late(link):
    drift, worst = 0.0, 0.0
    for _ in range(20_000):  # 200 ppm for 33 minutes: 0.4 s
        link.now += 0.1
        drift += 0.1 * 200e-6
        worst = max(worst, link.message(ahead=-drift))
    assert worst < 0.01


@pytest.mark.parametrize('step', [-5.0, 5.0])
def test_after_a_step_of_a_clock_messages_are_ordinary_again_in_time(link, step):
    link.regular(20)
    found = link.regular(12, ahead=step)
    if step < 0:  # they seem to have been under way for longer
        assert found[0] == pytest.approx(5.0, abs=0.01)
        assert found[80] == pytest.approx(5.0, abs=0.01)
    else:
        assert max(found) < 1e-6
    assert found[-1] < 1e-6


def test_each_publisher_has_its_own_usual_delay(link):
    link.regular(2, publisher=b'a')
    assert link.message(ahead=-9.0, publisher=b'b') == 0.0
    assert link.message(delay=0.301, publisher=b'a') == pytest.approx(0.3, abs=1e-6)
    # Where the middleware does not say who published, all are one.
    assert link.message(publisher=None) == 0.0
    assert link.message(ahead=-9.0, publisher=None) == pytest.approx(9.0, abs=1e-6)


def test_times_that_are_not_reported_make_nothing_late_and_publishers_are_not_kept_for_ever(link):
    nothing = {'source_timestamp': 0, 'received_timestamp': 0}
    assert link.delay.excess(nothing) == 0.0
    for number in range(3 * MOST_PUBLISHERS):
        link.message(publisher=bytes([number + 1]))
    assert len(link.delay._usual) == MOST_PUBLISHERS
