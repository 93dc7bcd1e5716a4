"""The page of a simulated drive, and what it says of the drive. Needs MuJoCo."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from browser import Browser

pytest.importorskip('mujoco')
sys.path.insert(0, str(Path(__file__).parents[1] / 'tools' / 'demo'))

from drive_page import VIDEO, headline, write_drive_page  # noqa: E402
from drive_record import DriveRecord, Sight  # noqa: E402

from nav_monitor_ros.sim.encounters import draw_encounter  # noqa: E402

OK, OOD = (False, 'in_distribution'), (True, 'ood')
FRAME_NS = 66_666_667


def record_of(moments, world=None, gap=0.8):
    """Return a drive of one verdict for each (alert, reason)."""
    rng = np.random.default_rng(0)
    path = np.zeros((len(moments), 2)) if world is None else world.path[: len(moments)]
    record = DriveRecord(p_threshold=0.01, gap=gap)
    for number, (alert, reason) in enumerate(moments):
        stamp = number * FRAME_NS
        record.images[stamp] = rng.integers(0, 256, (240, 320, 3)).astype(np.uint8)
        record.sights.append(Sight(
            number / 15, stamp, 'free', 0.001 if alert else 0.5, alert, alert, reason,
            float(path[number, 0]), float(path[number, 1]), 0.0 if alert else 0.5,
            5.0 - 0.03 * number))
    record.overlays[5 * FRAME_NS] = record.images[5 * FRAME_NS]
    return record


def test_the_last_alert_is_the_one_that_ended_the_drive():
    record = record_of([OK, OK, OOD, OOD, OK, OK, OK, OOD, OOD])
    assert record.first_alert is record.sights[7]
    assert record.false_stops == 1
    assert headline(record, 'plant') == (
        'The robot stopped 0.80 m before a plant, which it had never seen')


def test_a_drive_that_ends_without_an_alert_says_so():
    assert record_of([OOD, OK, OK, OK, OK, OK]).first_alert is None
    assert headline(record_of([OK] * 6), 'plant') == 'The robot did not stop for the plant'
    fault = record_of([OK, OK, OK, OK, OK, (True, 'frozen_image')])
    assert headline(fault, 'plant') == 'The robot did not stop for the plant'
    touched = record_of([OK] * 5 + [OOD])
    touched.touched = True
    assert headline(touched, 'plant') == 'The robot drove into the plant'


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    world = draw_encounter('plant', 1).world
    folder = tmp_path_factory.mktemp('drive')
    record = record_of([OK] * 40 + [OOD] * 20, world)
    write_drive_page(folder / 'index.html', record, world, 15.0)
    return folder


def test_the_page_needs_nothing_else(page):
    text = (page / 'index.html').read_text()
    assert 'before a plant, which it had never seen' in text
    assert 'data:video/webm;base64,' in text and 'data:image/' in text
    assert 'http://' not in text and 'https://' not in text
    assert (page / VIDEO).stat().st_size > 1000


@pytest.mark.browser
@pytest.mark.parametrize('width', [1200, 500])
def test_the_page_is_drawn_without_a_complaint_and_plays_the_video(page, tmp_path, width):
    browser = Browser(tmp_path / 'profile', width)
    try:
        browser.open(page / 'index.html')
        assert browser.picture().std() > 10
        assert browser.overflow() <= 0
        loaded = 'return document.querySelector("video").videoWidth'
        end = time.monotonic() + 20
        while not browser.script(loaded) and time.monotonic() < end:
            time.sleep(0.1)
        assert browser.script(loaded) == 400
        assert len(browser.find_all('img')) >= 8
        browser.assert_well()
    finally:
        browser.close()
