"""What is kept of a raised alert: bounded in memory and on disk, and never in the way."""

import array
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.decision.verdict import Explanation, ScoreValue, Verdict
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime import incident_frames, incidents
from nav_monitor_ros.runtime.incident_folder import (
    check_folder,
    remove_oldest,
    remove_unfinished,
    write_incident,
)
from nav_monitor_ros.runtime.incident_frames import (
    IncidentRing,
    IncidentRules,
    RecordedFrame,
    held_bytes,
)
from nav_monitor_ros.runtime.incident_sheet import _captions, _heading, draw_sheet
from nav_monitor_ros.runtime.incidents import IncidentRecorder
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.views.text import drawn_class, text_width

OOD = Alert(True, State.OOD, Reason.OOD, 'unlike the training images')
STALE = Alert(True, State.INVALID, Reason.STALE_IMAGE, 'no image for 0.6 s')
WHEN = datetime(2026, 11, 23, 12, 0, 0, 123_000, tzinfo=timezone.utc)


def moment(number, *, flagged=False, side=32):
    pixels = np.full((side, side, 3), number % 256, np.uint8)
    pixels[number % side] = 255
    p = 0.0002 if flagged else 0.6
    verdict = Verdict(
        3, 'three', 0.9, ((3, 0.9),), {'energy': ScoreValue(-7.0, p)}, 'energy', 0.01,
        member_kinds={'energy': EvidenceKind.LOGITS},
    )
    alert = OOD if flagged else Alert(False, State.OK, Reason.IN_DISTRIBUTION)
    image = DecodedImage(pixels, 'rgb')
    return RecordedFrame(number / 30, 10**18 + number, 'camera', image, verdict, alert)


def rules(folder, **changes):
    return IncidentRules(**{'folder': str(folder), 'rate': 30.0, 'interval': 0.0, **changes})


def written(folder):
    return sorted(p for p in Path(folder).iterdir() if p.name[0] != '.')


# What is kept in memory.


def test_the_ring_holds_the_last_seconds_at_its_rate():
    ring = IncidentRing()
    for number in range(300):  # ten seconds at 30 Hz
        ring.add(moment(number), IncidentRules(seconds=5.0, rate=5.0))
    kept = [m.arrived for m in ring.take()]
    assert 24 <= len(kept) <= 28
    assert kept[0] >= kept[-1] - 5.0 and kept[-1] >= 9.7
    assert ring.take() == []


@pytest.mark.parametrize(('share', 'count'), [(1.0, 10), (0.5, 5)])
def test_the_ring_is_bounded_in_bytes(monkeypatch, share, count):
    monkeypatch.setattr(incident_frames, 'MOST_BYTES', 10 * 32 * 32 * 3)
    ring = IncidentRing()
    for number in range(100):
        ring.add(moment(number), IncidentRules(seconds=60.0, rate=60.0, share=share))
    kept = ring.take()
    assert [m.stamp_ns - 10**18 for m in kept] == list(range(100 - count, 100))


def test_an_important_frame_is_kept_whatever_the_rate():
    ring = IncidentRing()
    ring.add(moment(0), IncidentRules(rate=0.1))
    ring.add(moment(1), IncidentRules(rate=0.1))
    ring.add(moment(2), IncidentRules(rate=0.1), important=True)
    assert [m.stamp_ns - 10**18 for m in ring.take()] == [0, 2]


# What is written.


def test_an_incident_tells_everything_of_its_frames(tmp_path):
    moments = [moment(n, flagged=n >= 3) for n in range(5)]
    folder = write_incident(moments, OOD, rules(tmp_path), WHEN, {'name': 'digits'})
    assert folder == tmp_path / '20261123T120000_123Z_ood'
    told = json.loads((folder / 'verdicts.json').read_text())
    assert told['reason'] == 'ood' and told['bundle'] == {'name': 'digits'}
    assert [f['flagged'] for f in told['frames']] == [False] * 3 + [True] * 2
    assert told['frames'][4]['stamp_ns'] == 10**18 + 4
    assert told['frames'][4]['scores']['energy'] == {'score': -7.0, 'p_value': 0.0002}
    assert told['frames'][4]['evidence_kind'] == 'logits'
    assert told['frames'][4]['flagged_kinds'] == ['logits']
    assert told['frames'][0]['evidence_kind'] == '' and told['frames'][0]['flagged_kinds'] == []
    for frame, m in zip(told['frames'], moments, strict=True):
        picture = cv2.imread(str(folder / frame['picture']))
        assert np.array_equal(picture[..., ::-1], m.image.pixels)  # lossless
    sheet = cv2.imread(str(folder / 'sheet.png'))
    assert sheet.shape[1] > 5 * 160 and sheet.std() > 10
    assert written(tmp_path) == [folder]


def test_large_images_are_jpegs_and_gray_ones_are_taken(tmp_path):
    large = RecordedFrame(
        0.0, 1, '', DecodedImage(np.zeros((1001, 1000), np.uint8), 'gray'), moment(1).verdict, OOD
    )
    folder = write_incident([large], OOD, rules(tmp_path), WHEN, {})
    assert [p.suffix for p in sorted(folder.glob('000_*'))] == ['.jpg']


def test_incidents_of_one_millisecond_do_not_replace_each_other(tmp_path):
    for _ in range(3):
        write_incident([moment(1)], OOD, rules(tmp_path), WHEN, {})
    assert [p.name for p in written(tmp_path)] == [
        '20261123T120000_123Z_ood', '20261123T120000_123Z_ood_1', '20261123T120000_123Z_ood_2',
    ]


def test_an_incident_larger_than_the_limit_keeps_its_newest_frames(tmp_path):
    rng = np.random.default_rng(0)
    moments = [
        RecordedFrame(
            n / 30, n, '', DecodedImage(rng.integers(0, 256, (400, 400, 3), np.uint8), 'rgb'),
            moment(n).verdict, OOD,
        )
        for n in range(6)
    ]
    folder = write_incident(moments, OOD, rules(tmp_path, limit=1.0), WHEN, {})
    told = json.loads((folder / 'verdicts.json').read_text())
    assert [f['stamp_ns'] for f in told['frames']] == [4, 5]
    assert told['frames_left_out'] == 4


# The folder.


def test_the_oldest_incidents_go_first_and_nothing_else_does(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine' * 10**6)
    stranger = tmp_path / '20200101T000000_000Z_ood'  # named like one, but not one
    stranger.mkdir()
    (stranger / 'photo.png').write_bytes(bytes(5_000_000))
    outside = tmp_path.parent / 'outside'
    outside.mkdir()
    (outside / 'verdicts.json').write_text('{}')
    (tmp_path / '20190101T000000_000Z_ood').symlink_to(outside)
    for day in range(1, 5):
        folder = write_incident(
            [moment(day)], OOD, rules(tmp_path), WHEN.replace(day=day), {}
        )
        (folder / 'more').write_bytes(bytes(600_000))
    remove_oldest(tmp_path, 1.5)
    assert [p.name for p in written(tmp_path)] == [
        '20190101T000000_000Z_ood', '20200101T000000_000Z_ood',
        '20261103T120000_123Z_ood', '20261104T120000_123Z_ood', 'notes.txt',
    ]
    assert (outside / 'verdicts.json').exists()


def test_the_newest_incident_stays_however_large(tmp_path):
    folder = write_incident([moment(1)], OOD, rules(tmp_path), WHEN, {})
    remove_oldest(tmp_path, 1e-9)
    assert written(tmp_path) == [folder]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(NavMonitorError, match=r'incident_folder .*file cannot be written to'):
        check_folder(str(tmp_path / 'file'))
    with pytest.raises(NavMonitorError, match='cannot be written to'):
        check_folder(str(tmp_path / 'no' / 'such'))
    check_folder(str(tmp_path / 'new'))
    assert list((tmp_path / 'new').iterdir()) == []


WRITER = """
import sys, time
from pathlib import Path
from test_incidents import OOD, WHEN, moment, rules
from nav_monitor_ros.runtime import incident_folder

def draw_sheet(moments, raised, alert):
    print('writing', flush=True)
    time.sleep(60)

incident_folder.draw_sheet = draw_sheet
incident_folder.write_incident([moment(1)] * 3, OOD, rules(sys.argv[1]), WHEN, {})
"""


@pytest.fixture
def writer(tmp_path):
    """Start a process that is in the midst of writing an incident."""
    process = subprocess.Popen(
        [sys.executable, '-c', WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH': f'{Path(__file__).parent}:{Path(__file__).parents[2]}'},
    )
    with process:
        assert process.stdout.readline() == 'writing\n'
        yield process
        process.kill()


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.startswith('.')]


def test_an_incident_that_was_not_completed_is_removed_at_the_next_start(tmp_path, writer):
    check_folder(str(tmp_path))  # another monitor with the same folder
    assert len(hidden(tmp_path)) == 1
    writer.kill()
    writer.wait()
    assert written(tmp_path) == [] and len(hidden(tmp_path)) == 1
    check_folder(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_incidents_of_every_camera_are_looked_through(tmp_path):
    names = ('.20261123T120000_123Z_ood.ab1_2xyz', '.incident.abcdefgh')
    for camera in ('front', 'rear'):
        for name in names:
            (tmp_path / camera / name / 'inside').mkdir(parents=True)
    (tmp_path / '.git').mkdir()
    (tmp_path / names[0]).symlink_to(tmp_path / '.git')
    check_folder(str(tmp_path), ['front', 'new'])
    assert list((tmp_path / 'front').iterdir()) == []
    assert len(hidden(tmp_path / 'rear')) == 2  # nobody's, as far as this node knows
    assert len(hidden(tmp_path)) == 2


def test_what_is_being_written_counts_as_used(tmp_path, writer):
    for day in (1, 2, 3):
        folder = write_incident([moment(day)], OOD, rules(tmp_path), WHEN.replace(day=day), {})
        (folder / 'more').write_bytes(bytes(600_000))
    remove_oldest(tmp_path, 1.9)
    assert len(written(tmp_path)) == 3
    (half_written,) = hidden(tmp_path)
    (half_written / 'more').write_bytes(bytes(600_000))
    remove_oldest(tmp_path, 1.9)
    assert [p.name[:8] for p in written(tmp_path)] == ['20261102', '20261103']
    writer.kill()
    writer.wait()
    remove_unfinished(tmp_path)
    assert hidden(tmp_path) == []


# The recorder.


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError('waited ten seconds')


def test_the_frame_that_raised_the_alert_is_the_last_one(tmp_path):
    recorder = IncidentRecorder({})
    for number in range(10):
        recorder.frame(moment(number), rules(tmp_path))
    recorder.alert_rose(OOD)
    recorder.flush(rules(tmp_path), 1.0)  # the heartbeat comes before the frame
    recorder.frame(moment(10, flagged=True), rules(tmp_path))
    recorder.close(10)
    (folder,) = written(tmp_path)
    told = json.loads((folder / 'verdicts.json').read_text())
    assert told['frames'][-1]['stamp_ns'] == 10**18 + 10 and len(told['frames']) == 11
    assert recorder.written == 1


def test_a_silent_camera_is_an_incident_of_the_frames_before(tmp_path):
    recorder = IncidentRecorder({})
    recorder.frame(moment(1), rules(tmp_path))
    recorder.alert_rose(STALE)
    recorder.flush(rules(tmp_path), 1.0)
    recorder.close(10)
    assert [p.name.rpartition('Z_')[2] for p in written(tmp_path)] == ['stale_image']


def test_incidents_keep_their_interval(tmp_path):
    recorder = IncidentRecorder({})
    for number in range(0, 90, 10):
        recorder.alert_rose(OOD)
        recorder.frame(moment(number, flagged=True), rules(tmp_path, interval=2.0))
        wait_for(lambda: recorder.written == len(written(tmp_path)))
    recorder.close(10)
    assert recorder.written == 2  # at 0 s and at 2 s of 2.7 s
    assert recorder.left_out == 7


def test_a_fault_does_not_hide_what_follows_within_its_interval(tmp_path):
    recorder = IncidentRecorder({})
    for number, alert in ((0, STALE), (10, OOD), (20, STALE), (30, OOD)):
        recorder.alert_rose(alert)
        recorder.frame(moment(number, flagged=True), rules(tmp_path, interval=10.0))
        wait_for(lambda: recorder.written == len(written(tmp_path)))
    recorder.close(10)
    assert {p.name.rpartition('Z_')[2] for p in written(tmp_path)} == {'stale_image', 'ood'}
    assert recorder.left_out == 2


def test_nothing_is_kept_without_a_folder(tmp_path):
    recorder = IncidentRecorder({})
    recorder.alert_rose(OOD)
    recorder.frame(moment(1), IncidentRules())
    recorder.frame(moment(2), rules(tmp_path))
    recorder.close(1)
    assert written(tmp_path) == [] and recorder.written == 0


@pytest.mark.parametrize('trouble', ['gone', 'full'])
def test_a_disk_that_fails_is_counted_logged_once_and_gets_over(
    tmp_path, monkeypatch, caplog, trouble
):
    folder = tmp_path / 'incidents'
    folder.mkdir()
    recorder = IncidentRecorder({})
    if trouble == 'gone':
        folder.rmdir()
        folder.symlink_to(tmp_path / 'nowhere' / 'at' / 'all')
    else:
        # Every write says what a full disk says.
        full = os.open('/dev/full', os.O_WRONLY)

        def write_bytes(self, data):
            return os.write(full, data)

        monkeypatch.setattr(Path, 'write_bytes', write_bytes)
    for number in range(3):
        recorder.alert_rose(OOD)
        recorder.frame(moment(number, flagged=True), rules(folder))
        wait_for(lambda number=number: recorder.failed == number + 1)
    assert len([r for r in caplog.records if 'no incident written' in r.message]) == 1
    monkeypatch.undo()
    if trouble == 'gone':
        folder.unlink()
        folder.mkdir()
    recorder.alert_rose(OOD)
    recorder.frame(moment(9, flagged=True), rules(folder))
    wait_for(lambda: recorder.written == 1)
    assert [p.name for p in folder.iterdir() if p.name.startswith('.')] == []  # no leftovers


def test_a_slow_disk_holds_nobody_up(tmp_path, monkeypatch):
    gate = threading.Event()
    original = incidents.write_incident

    def slow(*arguments):
        gate.wait(10)
        return original(*arguments)

    monkeypatch.setattr(incidents, 'write_incident', slow)
    recorder = IncidentRecorder({})
    for number in range(20):
        recorder.alert_rose(OOD)
        recorder.frame(moment(number, flagged=True), rules(tmp_path))
    assert recorder.left_out >= 17  # one in hand, one waiting
    gate.set()
    recorder.close(10)
    assert recorder.written + recorder.left_out == 20


# What a view keeps from being given back counts, or is copied.


@pytest.mark.parametrize('whole', [
    lambda: np.zeros((480, 640, 3), np.uint8),
    lambda: np.frombuffer(bytes(480 * 640 * 3), np.uint8).reshape(480, 640, 3),
    lambda: np.frombuffer(array.array('B', bytes(480 * 640 * 3)), np.uint8).reshape(480, 640, 3),
    lambda: np.frombuffer(memoryview(bytes(480 * 640 * 3))[:], np.uint8).reshape(480, 640, 3),
], ids=['array', 'bytes', 'message', 'memoryview'])
def test_a_region_does_not_keep_its_whole_image(whole):
    image = whole()
    assert held_bytes(image[:32, :32]) == 480 * 640 * 3
    ring, one = IncidentRing(), moment(1)
    region = DecodedImage(image, 'rgb').crop(10, 20, 32, 32)
    ring.add(replace(one, image=region), IncidentRules())
    assert ring.nbytes == 32 * 32 * 3
    (kept,) = ring.take()
    assert held_bytes(kept.image.pixels) == 32 * 32 * 3
    assert np.array_equal(kept.image.pixels, region.pixels)


def test_a_whole_image_is_not_copied():
    ring, one = IncidentRing(), moment(1)
    ring.add(one, IncidentRules())
    assert ring.take()[0].image.pixels is one.image.pixels


def test_what_explains_a_verdict_counts(monkeypatch):
    def explained(number):
        features = np.zeros((8, 25_000), np.float32)[0]  # of a buffer of 800 kB
        bits = np.zeros(25_000, bool)
        told = Explanation(0, bits, bits, bits, features, np.zeros(25_000))
        one = moment(number)
        return replace(one, verdict=replace(one.verdict, explanation=told))

    ring = IncidentRing()
    ring.add(explained(0), IncidentRules())
    assert ring.nbytes == 32 * 32 * 3 + 2 * 25_000 + 800_000 + 200_000
    monkeypatch.setattr(incident_frames, 'MOST_BYTES', 3 * ring.nbytes)
    for number in range(1, 30):
        ring.add(explained(number), IncidentRules(seconds=60.0, rate=60.0))
    assert len(ring.take()) == 3


def test_every_caption_of_the_sheet_says_its_p_value():
    for number, flagged in ((0, False), (1, True)):
        for p_value in (1.0, 0.6, 0.00021, 1.2e-13):
            one = moment(number, flagged=flagged)
            verdict = replace(
                one.verdict, scores={'energy': ScoreValue(-7.0, p_value)},
                class_name='a very long class name that goes on and on without any end')
            lines = _captions(replace(one, verdict=verdict), -1234.56)
            assert f'p {p_value:.2g}' in lines[0]
            assert len(lines) == 4 + verdict.is_ood
            assert ('unusual: logits' in lines) == verdict.is_ood
            assert all(text_width(line, 9) <= 160 for line in lines)
    for kind in EvidenceKind:
        assert text_width(f'unusual: {kind.label}', 9) <= 160
    assert drawn_class('straße', 3) == 'straße' and drawn_class('数字', 3) == 'class 3'


@pytest.mark.parametrize('count', [1, 7])
def test_the_sheet_begins_with_the_time_of_the_incident(count):
    stamp_ns = 1_500_000_000_250_000_000
    frames = [replace(moment(number), stamp_ns=stamp_ns) for number in range(count)]
    date, stamp = _heading(frames[-1], WHEN, STALE)
    assert date.endswith(f'{WHEN:%Y-%m-%d %H:%M:%S} UTC: stale_image')
    assert date.startswith('alert raised')
    assert '1500000000.250 s' in stamp
    sheet = draw_sheet(frames, WHEN, OOD)
    later = draw_sheet(frames, WHEN.replace(year=WHEN.year + 1), OOD)
    differing = np.flatnonzero((sheet != later).any(axis=(1, 2)))
    assert differing.size and differing.max() < 8 + 4 * 18  # nothing but the heading
