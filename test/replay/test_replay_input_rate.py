"""A recorded camera that falls from 30 to 3 Hz, replayed with the node's parameters."""

from __future__ import annotations

import itertools

import pytest
import yaml
from recorded import PERIOD, write_images
from replayed import FRONT, drive, table_of

pytest.importorskip('rosbags')

FAST, SLOW, AGAIN = 90, 150, 180  # periods of 30 Hz: 3 s, 5 s and 6 s


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    pictures = drive(count=FAST + SLOW + AGAIN, strange=())
    for number in range(FAST, FAST + SLOW):
        if number % 10:
            pictures[number] = None
    return write_images(tmp_path_factory.mktemp('slow') / 'drive', {FRONT: pictures})


def replayed(judge, bag, tmp_path, **parameters):
    path = tmp_path / 'p.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': {
        'drift_window': 0.0, **parameters}}}))
    rows = table_of(judge, bag, tmp_path / 't.csv', '--params', path)
    begin = int(rows[0]['time_ns'])
    for row in rows:  # an image may be unusual, which is not what this is about
        row['reason'] = row['reason'].replace('suspect', 'in_distribution')
    return [(round((int(row['time_ns']) - begin) / PERIOD), row) for row in rows]


def test_it_raises_the_alert_where_a_rate_is_required(judge, bag, tmp_path):
    rows = replayed(judge, bag, tmp_path, input_rate_error=10.0)
    reasons = [reason for reason, _ in itertools.groupby(row['reason'] for _, row in rows)]
    assert reasons == [
        'warming_up', 'in_distribution', 'low_input_rate', 'warming_up', 'in_distribution']
    low = [(number, row) for number, row in rows if row['reason'] == 'low_input_rate']
    # (30 - 10) / (30 - 3) of 2 s after the fall, and one period of the slow camera at most
    assert FAST + 44 <= low[0][0] <= FAST + 44 + 11
    # 2 s after it suffices again, for which 7 / 27 of 2 s are needed
    assert FAST + SLOW + 60 <= low[-1][0] <= FAST + SLOW + 60 + 16 + 11
    for _, row in low:
        assert (row['alert'], row['state']) == ('true', 'INVALID')
        assert 'fewer than input_rate_error (10 Hz)' in row['detail'] and row['class']


@pytest.mark.parametrize('parameters', [{}, {'input_rate_warn': 10.0}, {'input_rate_error': 2.0}])
def test_it_is_trusted_otherwise(judge, bag, tmp_path, parameters):
    rows = replayed(judge, bag, tmp_path, **parameters)
    assert [reason for reason, _ in itertools.groupby(row['reason'] for _, row in rows)] == [
        'warming_up', 'in_distribution']
