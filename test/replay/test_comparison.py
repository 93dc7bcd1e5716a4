"""`nav_monitor compare`: two runs over one bag, and what a team is told of their differences."""

from __future__ import annotations

import base64
import csv
import math
import re
import shutil
import sqlite3

import cv2
import numpy as np
import pytest
import sqlite_recorder
import tiny
import yaml
from recorded import START, write_images
from replayed import drive, table_of

from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.decision.alert.reason import State
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.replay.comparison import compare_runs, frame_text, lines, stretches
from nav_monitor_ros.replay.verdict_log import Run, RunFrame, read_run

pytest.importorskip('rosbags')

FRONT, REAR = '/front/image', '/rear/image'


def frame(number, **changes):
    values = {
        'time_ns': START + number * 100_000_000, 'alert': False, 'state': State.OK,
        'reason': 'in_distribution', 'class_name': 'stop', 'confidence': 0.9, 'p_value': 0.5,
        'threshold': 0.01, 'flagged': False, 'evidence': 0.0,
    }
    return RunFrame(**{**values, **changes})


def run(name, *changes, topic=FRONT):
    """Return a run with one frame for each entry, {} for a usual one, None for none."""
    return Run(name, {
        (topic, START + number * 100_000_000, 0): frame(number, **change)
        for number, change in enumerate(changes) if change is not None
    })


# What differs.


def test_equal_runs_have_no_difference():
    found = compare_runs(run('a', {}, {}), run('b', {}, {}))
    assert found.common == 2 and found.differences == () and found.agreement == 1.0
    assert lines(found)[-1] == 'no difference'


def test_a_flagged_image_is_described_with_its_kind_of_evidence_if_that_is_known():
    assert 'flagged' not in frame_text(frame(0))
    assert ', flagged (early layers); alert' in frame_text(
        frame(0, flagged=True, evidence_kind='early_layers'))
    assert ', flagged; alert' in frame_text(frame(0, flagged=True))  # of an older run


def test_each_kind_of_difference_is_counted_for_the_run_that_has_it():
    raised = {'alert': True, 'state': State.OOD, 'reason': 'ood'}
    found = compare_runs(
        run('a', {}, raised, {'flagged': True, 'p_value': 0.001}, {}, {}),
        run('b', {}, {}, {}, {'class_name': 'yield'}, raised),
    )
    assert [(d.seconds, d.kinds) for d in found.differences] == [
        (0.1, ('alert', 'reason')), (0.2, ('flagged',)), (0.3, ('class',)),
        (0.4, ('alert', 'reason')),
    ]
    assert (found.only('alert', 'a'), found.only('alert', 'b')) == (1, 1)
    assert (found.only('flagged', 'a'), found.only('flagged', 'b')) == (1, 0)
    assert found.count('class') == 1 and found.agreement == pytest.approx(0.2)
    change, seconds = found.farthest
    assert change == pytest.approx(math.log10(500)) and seconds == pytest.approx(0.2)
    assert 'first difference is at 0.10 s' in lines(found)[-1]


def test_p_values_are_a_difference_only_beyond_the_tolerance():
    runs = run('a', {'p_value': 0.5}), run('b', {'p_value': 0.4})
    assert compare_runs(*runs).differences == ()
    assert compare_runs(*runs, tolerance=0.1).differences == ()
    [difference] = compare_runs(*runs, tolerance=0.09).differences
    assert difference.kinds == ('p_value',)


def test_images_that_one_run_has_not_got_are_differences_of_their_own():
    found = compare_runs(run('a', {}, {}, {}, {}), run('b', None, {}, None))
    assert found.common == 1 and found.agreement == 1.0
    assert [d.kinds for d in found.differences] == [('missing',)] * 3
    assert (found.alone('a'), found.alone('b')) == (3, 0)
    assert 'b has no image with stamp' in lines(found)[-1]


def test_runs_of_one_camera_each_are_compared_whatever_it_is_called():
    assert compare_runs(run('a', {}), run('b', {}, topic='')).common == 1
    assert compare_runs(run('a', {}, topic=''), run('b', {}, topic=REAR)).a.topics == (REAR,)


def test_runs_without_an_image_in_common_are_refused():
    with pytest.raises(NavMonitorError, match='no image in common; were they judged from the same'):
        compare_runs(run('a', {}), run('b', None, {}))


def test_a_stretch_ends_with_its_kind_its_outcome_or_a_gap():
    usual, odd = {}, {'flagged': True}
    found = compare_runs(
        run('a', odd, odd, {**odd, 'class_name': 'yield'}, usual, *[usual] * 12, odd, odd),
        run('b', usual, usual, usual, usual, *[usual] * 12, usual, usual),
    )
    assert [len(stretch) for stretch in stretches(found.differences)] == [2, 1, 2]


# As a command.


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    pictures, others = tiny.images(7, 40)[0], tiny.strange(7, 40)
    return write_images(tmp_path_factory.mktemp('bags') / 'drive', {
        FRONT: [others[n] if 15 <= n < 28 else pictures[n] for n in range(40)]})


@pytest.fixture(scope='module')
def lenient(tiny_classifier, tmp_path_factory):
    """Return a bundle of the same network that flags more."""
    folder = tmp_path_factory.mktemp('bundles') / 'lenient'
    save_bundle(
        tiny.fitted(tiny_classifier, name='lenient', false_alarm_rate=0.3), tiny_classifier,
        folder, card='')
    return folder


@pytest.fixture(scope='module')
def judged(recording, tiny_folder, tmp_path_factory):
    """Return a folder with a run as a table and as a bag."""
    folder = tmp_path_factory.mktemp('judged')
    assert main(['replay', str(recording), '--bundle', str(tiny_folder), '--trust', 'tiny',
                 '--csv', str(folder / 'a.csv'), '--output', str(folder / 'a')]) == 0
    return folder


def compare(*arguments):
    return main(['compare', '--trust', 'tiny', *map(str, arguments)])


def refused(capsys, status):
    assert status == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith('nav_monitor compare: ') and '\n' not in said
    return said


def test_a_run_is_the_same_as_table_as_bag_and_judged_again(judged, recording, tiny_folder, capsys):
    for other in (judged / 'a', judged / 'a' / 'a.mcap', tiny_folder):
        assert compare(judged / 'a.csv', other, '--bag', recording, '--fail-on-difference',
                       '--tolerance', '1e-4') == 0
        assert '40 images in both runs, 40 of them' in capsys.readouterr().out


def test_two_bundles_are_compared_with_pictures_and_a_table(
    recording, tiny_folder, lenient, tmp_path, capsys
):
    outputs = ('--csv', tmp_path / 'd.csv', '--html', tmp_path / 'd.html')
    assert compare(tiny_folder, lenient, '--bag', recording, *outputs) == 0
    said = capsys.readouterr().out
    assert 'flagged only by this run' in said and 'the first difference is at' in said
    with (tmp_path / 'd.csv').open(newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert rows and all(row['topic'] == FRONT for row in rows)
    alone = [row for row in rows if 'flagged' in row['differs']]
    assert alone and all((row['a_flagged'], row['b_flagged']) == ('false', 'true') for row in alone)
    text = (tmp_path / 'd.html').read_text()
    assert text.count('class="timeline"') == 2
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    encoded = re.findall(r'<img src="data:image/png;base64,([^"]+)"', text)
    assert len(encoded) == text.count('<figure id=') > 0
    # The first picture is that of the first difference.
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(encoded[0]), np.uint8), 1)[..., ::-1]
    number = round((int(rows[0]['stamp_ns']) + 5_000_000 - START) * 30 / 1e9)
    shown = tiny.strange(7, 40)[number] if 15 <= number < 28 else tiny.images(7, 40)[0][number]
    step = picture.shape[0] // 12  # small ones are enlarged, each pixel by itself
    assert step * 12 == picture.shape[0] > 150
    assert np.array_equal(picture[::step, ::step], shown)
    assert compare(tiny_folder, lenient, '--bag', recording, '--fail-on-difference') == 1


def test_runs_of_different_length_are_told_apart_from_other_verdicts(judged, tmp_path, capsys):
    lines_of_a = (judged / 'a.csv').read_text().splitlines()
    (tmp_path / 'b.csv').write_text('\n'.join(lines_of_a[:31]))
    assert compare(judged / 'a.csv', tmp_path / 'b.csv') == 0
    said = capsys.readouterr().out
    assert '30 images in both runs, 30 of them with the same verdict' in said
    assert 'b has no image with stamp' in said
    assert compare(judged / 'a.csv', tmp_path / 'b.csv', '--fail-on-difference') == 1


def test_pictures_come_from_the_bag_that_a_run_says_it_is_of(judged, recording, tmp_path, capsys):
    text = (judged / 'a.csv').read_text()
    (tmp_path / 'b.csv').write_text(text.replace(',left,', ',middle,'))
    page = tmp_path / 'd.html'
    assert compare(judged / 'a', tmp_path / 'b.csv', '--html', page) == 0
    assert '<img src="data:image/png' in page.read_text()
    capsys.readouterr()
    assert compare(judged / 'a.csv', tmp_path / 'b.csv', '--html', page) == 0
    assert 'give the bag with the images: --bag' in capsys.readouterr().out
    assert '<img' not in page.read_text() and '<figure id=' in page.read_text()


def test_a_recording_of_a_running_monitor_is_a_run(judged, tmp_path):
    # Such a bag says nothing of topics, and holds the statuses of silence too.
    bag = shutil.copytree(judged / 'a', tmp_path / 'live')
    metadata = yaml.safe_load((bag / 'metadata.yaml').read_text())
    metadata['rosbag2_bagfile_information']['custom_data'] = None
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    run = read_run(bag)
    assert run.topics == ('',) and len(run.frames) == 40 and run.bag == ''
    assert compare_runs(read_run(judged / 'a.csv'), run, tolerance=1e-4).differences == ()


def in_sqlite(bag, folder):
    """Write the messages of a bag as a recorder that is killed leaves them, in a log alone."""
    from rosbags.rosbag2 import Reader

    live = folder / 'live'
    live.mkdir()
    connection = sqlite3.connect(live / 'live_0.db3', isolation_level=None)
    connection.execute('PRAGMA journal_mode = wal')
    for table in sqlite_recorder.TABLES:
        connection.execute(table)
    with Reader(bag) as reader:
        for one in reader.connections:
            connection.execute(
                'INSERT INTO topics VALUES (?, ?, ?, ?, ?)',
                (one.id, one.topic, one.msgtype, 'cdr', ''))
        connection.execute('PRAGMA wal_checkpoint(RESTART)')
        for one, time_ns, data in reader.messages():
            connection.execute(
                'INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)',
                (one.id, time_ns, bytes(data)))
    shutil.copytree(live, folder / 'killed')
    connection.close()
    return folder / 'killed'


def test_a_recording_whose_recorder_was_killed_is_compared_as_far_as_it_goes(
    judged, tmp_path, capsys
):
    bag = in_sqlite(judged / 'a', tmp_path)
    run = read_run(bag)
    assert len(run.frames) == 40
    assert compare_runs(read_run(judged / 'a.csv'), run, tolerance=1e-4).differences == ()
    assert compare(judged / 'a.csv', bag) == 2
    told = capsys.readouterr()
    assert '40 images in both runs' in told.out and 'no metadata.yaml' in told.err
    log = bag / 'live_0.db3-wal'
    log.write_bytes(log.read_bytes()[:log.stat().st_size * 2 // 3])
    assert compare(judged / 'a.csv', bag) == 2
    told = capsys.readouterr()
    assert 'write-ahead log is unfinished or damaged' in told.err
    assert 0 < len(read_run(bag).frames) < 40


@pytest.mark.parametrize(('text', 'said'), [
    ('', 'no column'), ('a,b\n1,2\n', 'is not a table of a replay'), ('\0', 'is not a table'),
    ('topic,stamp_ns,time_ns,alert,state,reason,class,p_value\n', 'holds no verdict'),
    ('topic,stamp_ns,time_ns,alert,state,reason,class,p_value\nt,x,1,true,OK,ood,a,1\n', 'is no'),
    ('topic,stamp_ns,time_ns,alert,state,reason,class,p_value\nt,1,1,true,BAD,ood,a,1\n', 'is no'),
    ('topic,stamp_ns,time_ns,alert,state,reason,class,p_value\nt,1\n', 'is not a table'),
])
def test_a_table_of_something_else_is_refused(judged, tmp_path, capsys, text, said):
    (tmp_path / 'b.csv').write_text(text)
    assert said in refused(capsys, compare(judged / 'a.csv', tmp_path / 'b.csv'))


def test_what_cannot_be_compared_is_said(judged, recording, tiny_folder, tmp_path, capsys):
    (tmp_path / 'broken.mcap').write_bytes(b'\x89MCAP0\r\nand no more')
    for other, wanted in (
        (tmp_path / 'none.csv', 'does not exist'),
        (tmp_path / 'broken.mcap', 'cannot be read'),
        (recording, 'has no topic ood_status: no monitor ran there'),
        (tiny_folder, 'needs --bag'),
        ('nothing', 'needs --bag'),
    ):
        assert wanted in refused(capsys, compare(judged / 'a.csv', other))
    assert 'cannot write' in refused(capsys, compare(
        judged / 'a.csv', judged / 'a', '--html', tmp_path / 'broken.mcap' / 'd.html'))


def test_an_output_that_is_a_run_or_the_other_output_is_refused(judged, tmp_path, capsys):
    for name in ('r1', 'r2'):
        shutil.copyfile(judged / 'a.csv', tmp_path / f'{name}.csv')
    runs, before = (tmp_path / 'r1.csv', tmp_path / 'r2.csv'), (judged / 'a.csv').read_text()
    assert 'the same file as the run A' in refused(capsys, compare(*runs, '--csv', runs[0]))
    assert 'the same file as the run B' in refused(capsys, compare(*runs, '--html', runs[1]))
    assert 'the same file as --csv' in refused(
        capsys, compare(*runs, '--csv', tmp_path / 'x', '--html', tmp_path / 'x'))
    assert [run.read_text() for run in runs] == [before, before] and len([*tmp_path.iterdir()]) == 2
    assert compare(*runs, '--csv', '/dev/null', '--html', '/dev/null') == 0


@pytest.mark.parametrize(('column', 'value'), [
    ('p_value', '0'), ('p_value', '-1'), ('p_value', 'inf'), ('p_value', '1.5'),
    ('time_ns', '9' * 400), ('stamp_ns', '9' * 20), ('time_ns', '-' + '9' * 20),
    ('p_value', 'nan'),
])
def test_a_value_that_no_replay_writes_is_named_with_its_line(
    judged, tmp_path, capsys, column, value
):
    with (judged / 'a.csv').open(newline='') as stream:
        rows = list(csv.DictReader(stream))
    rows[3][column] = value
    with (tmp_path / 'b.csv').open('w', newline='') as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    said = refused(capsys, compare(
        judged / 'a.csv', tmp_path / 'b.csv', '--html', tmp_path / 'page.html'))
    assert f'{tmp_path / "b.csv"} is not a table of a replay: line 5: {column} is ' in said
    assert not (tmp_path / 'page.html').exists()


def test_both_timelines_show_the_silence_between_images(judge, tiny_folder, tmp_path):
    bag = write_images(tmp_path / 'b', {FRONT: [*drive(strange=()), *[None] * 30, *drive(9)]})
    table_of(judge, bag, tmp_path / 't.csv', '--output', tmp_path / 'o')
    silent = r'stale_image: 1\.8\d s to 2\.33 s'
    for run, other in (('t.csv', 'o'), ('o', 't.csv')):
        page = tmp_path / f'{run}.html'
        assert compare(tmp_path / run, tmp_path / other, '--html', page) == 0
        assert len(re.findall(silent, page.read_text())) == 2
    assert compare(tmp_path / 't.csv', tiny_folder, '--bag', bag, '--html', page) == 0
    assert len(re.findall(silent, page.read_text())) == 2
