"""Whether images come from one live camera."""

import random

import pytest

from nav_monitor_ros.decision.alert.mixed_publishers import MOST_PUBLISHERS, MixedPublishers


def test_a_publisher_that_comes_back_after_another_makes_two():
    watch = MixedPublishers()
    assert [watch.image_from(name, t / 30) for t, name in enumerate('aabab')] == [
        False, False, False, True, True,
    ]


def test_two_publishers_are_forgotten_a_second_after_one_is_gone():
    watch = MixedPublishers()
    for t, name in enumerate('abab'):
        watch.image_from(name, t / 30)
    assert watch.image_from('b', 0.9)
    assert not watch.image_from('b', 1.2)


def test_a_publisher_that_was_gone_for_long_comes_back_as_one():
    watch = MixedPublishers()
    assert not any(
        watch.image_from(name, t) for t, name in ((0.0, 'a'), (0.1, 'b'), (5.0, 'b'), (5.1, 'a'))
    )


@pytest.mark.parametrize('periods', [(1.0, 1.0), (5.0, 5.0), (0.033, 2.0), (2.0, 0.1), (1.3, 0.7)])
def test_slow_publishers_are_found_and_stay_found(periods):
    rng = random.Random(3)
    images = sorted(
        (period * (number + rng.uniform(-0.1, 0.1)) + start, name)
        for name, period, start in zip('ab', periods, (0.0, 0.31 * max(periods)), strict=True)
        for number in range(round(20 * max(periods) / period))
    )
    watch = MixedPublishers()
    found = [(time, watch.image_from(name, time)) for time, name in images]
    first = next(time for time, mixed in found if mixed)
    assert first <= 4 * max(periods)
    end = max(time for time, name in images if name == 'ab'[periods.index(max(periods))])
    assert all(mixed for time, mixed in found if first <= time <= end)


def test_a_slow_publisher_that_takes_over_from_another_is_one():
    watch = MixedPublishers()
    assert not any(watch.image_from('a', 2.0 * t) for t in range(10))
    assert not any(watch.image_from('b', 21.0 + 2.0 * t) for t in range(10))


def test_a_publisher_that_takes_over_after_two_were_mixed_is_one():
    watch = MixedPublishers()
    for t in range(30):
        watch.image_from('ab'[t % 2], t / 30)
    assert watch.image_from('a', 1.0)
    found = [watch.image_from('a', 1.0 + t / 30) for t in range(40)]
    assert found[0] and not found[-1]
    assert not any(watch.image_from('c', 2.4 + t / 500) for t in range(1000))


def test_publishers_that_are_never_the_same_need_no_memory():
    watch = MixedPublishers()
    for number in range(1000):
        assert not watch.image_from(number, number / 500)
    assert len(watch._seen) <= MOST_PUBLISHERS


@pytest.mark.parametrize('count', [2, 16, 17, 40, 150])
def test_any_number_of_publishers_in_turn_are_mixed(count):
    watch = MixedPublishers()
    found = [watch.image_from(number % count, number / 60) for number in range(3 * count)]
    assert all(found[2 * count:])  # a period of their own is known from the second round on


@pytest.mark.parametrize('stall', [2.0, 8.0, 90.0])
@pytest.mark.parametrize('late', [(), ('a',), ('b', 'a')])  # images that a transport had kept
def test_several_publishers_stay_found_through_a_stall_of_both(stall, late):
    watch = MixedPublishers()
    for second in range(6):
        watch.image_from('a', 1.2 * second)
        watch.image_from('b', 1.2 * second + 0.1)
    now = 6.1 + stall
    found = [watch.image_from(publisher, now + 0.01 * i) for i, publisher in enumerate(late)]
    for second in range(6):
        found.append(watch.image_from('a', now + 0.5 + 1.2 * second))
        found.append(watch.image_from('b', now + 0.6 + 1.2 * second))
    assert all(found)


def test_a_publisher_that_leaves_after_a_stall_is_gone_in_its_own_time():
    watch = MixedPublishers()
    for time in (0.0, 1.2, 2.4, 12.0, 12.1, 13.2):  # a stall of 8 s, then the image it delayed
        watch.image_from('a', time)
        watch.image_from('b', time + 0.05)
    assert watch.image_from('a', 14.4)
    found = [watch.image_from('a', 15.6 + 1.2 * i) for i in range(4)]
    assert found == [True, False, False, False]


def test_one_publisher_of_two_that_stops_for_good_is_gone_without_a_stall():
    watch = MixedPublishers()
    for i in range(90):
        watch.image_from('a', i / 30)
        watch.image_from('b', i / 30 + 0.001)
    found = [watch.image_from('a', 3 + i / 30) for i in range(60)]
    assert all(found[:28]) and not any(found[31:])  # one second


@pytest.mark.parametrize('silence', [3.0, 30.0])
def test_a_new_publisher_after_two_have_stopped_is_one(silence):
    watch = MixedPublishers()
    for i in range(90):
        watch.image_from('ab'[i % 2], i / 30)
    assert not any(watch.image_from('c', 3 + silence + i / 30) for i in range(60))
