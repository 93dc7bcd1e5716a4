"""The limit of the incidents' folder, where the clock was wrong or somebody else wrote there."""

import shutil

import pytest
from test_incidents import OOD, WHEN, moment, rules, wait_for, written

from nav_monitor_ros.runtime import incident_folder
from nav_monitor_ros.runtime.incident_folder import write_incident
from nav_monitor_ros.runtime.incidents import IncidentRecorder

LIMIT = 1.5  # megabytes; the room of two of the incidents below


def fill(folder, year):
    """Write three incidents of days of a year."""
    for day in (1, 2, 3):
        when = WHEN.replace(year=year, day=day)
        (write_incident([moment(day)], OOD, rules(folder), when, {}) / 'more').write_bytes(
            bytes(600_000))
    return written(folder)


def record(folder):
    """Have one more incident written; return how many were, and how many failed."""
    recorder = IncidentRecorder({})
    recorder.alert_rose(OOD)
    recorder.frame(moment(1, flagged=True), rules(folder, limit=LIMIT))
    recorder.close(10)
    wait_for(lambda: recorder.written + recorder.failed)
    return recorder.written, recorder.failed


def test_what_was_just_written_stays_though_the_clock_was_set_back(tmp_path):
    _, second, third = fill(tmp_path, 2040)
    assert record(tmp_path) == (1, 0)
    new, *others = written(tmp_path)
    assert others == [second, third]
    assert not new.name.startswith('2040')


@pytest.mark.parametrize('refused', [1, 3])
def test_an_incident_that_cannot_be_removed_keeps_no_other_one(
    tmp_path, monkeypatch, caplog, refused
):
    """As another user's; it is no failure of the incident that was written."""
    foreign = fill(tmp_path, 2020)[:refused]
    remove = shutil.rmtree

    def rmtree(path, *arguments, **options):
        if path in foreign:
            raise PermissionError(13, 'Permission denied', str(path))
        remove(path, *arguments, **options)

    monkeypatch.setattr(incident_folder.shutil, 'rmtree', rmtree)
    assert record(tmp_path) == (1, 0)
    assert 'no incident written' not in caplog.text
    left = written(tmp_path)
    assert set(foreign) <= set(left)
    assert len(left) == (3 if refused == 1 else 4)
    assert ('beyond incident_limit' in caplog.text) == (refused == 3)
