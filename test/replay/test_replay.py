"""`nav_monitor replay`: what it writes of a bag, whatever the bag is like, and how it fails."""

from __future__ import annotations

import base64
import csv
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import recorded
import tiny
import yaml
from recorded import PACKED, RAW, START, file_of, write_bag, write_images

from nav_monitor_ros.cli import replay
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.replay import outputs

pytest.importorskip('rosbags')
pytest.importorskip('backports.zstd')
pytest.importorskip('lz4.frame')
from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.interfaces import QosDurability, QosReliability  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

KINDS = [
    ('mcap', ''), ('mcap', 'storage'), ('mcap', 'message'), ('mcap', 'file'),
    ('sqlite3', ''), ('sqlite3', 'message'), ('sqlite3', 'file'),
]
FRONT, REAR = '/front/image', '/rear/image'
KITTI = Path(__file__).parents[3] / 'shared' / 'data' / 'bags'


def drive(seed=7, count=40, strange=range(15, 28)):
    """Return pictures of a drive that leaves the known world for a while."""
    pictures, others = tiny.images(seed, count)[0], tiny.strange(seed, count)
    return [others[n] if n in strange else pictures[n] for n in range(count)]


@pytest.fixture(scope='module')
def judge(tiny_folder):
    """Return a function that replays a bag by the tiny monitor and returns the exit status."""

    def run(bag, *more):
        return main(['replay', str(bag), '--bundle', str(tiny_folder), '--trust', 'tiny',
                     '--device', 'cpu', *map(str, more)])

    return run


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Return a bag of one camera that no test may change."""
    return write_images(tmp_path_factory.mktemp('bags') / 'drive', {FRONT: drive()})


@pytest.fixture(scope='module')
def judged(judge, recording, tmp_path_factory):
    """Return the folder with everything that a replay writes."""
    folder = tmp_path_factory.mktemp('judged')
    assert judge(recording, '--output', folder / 'bag', '--csv', folder / 'table.csv',
                 '--html', folder / 'page.html', '--overlay') == 0
    return folder


def rows_of(path):
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream))


def messages_of(bag):
    """Return the messages of a bag as rosbags reads it: topic -> [(time, message)...]."""
    found = {}
    with AnyReader([bag]) as reader:
        for connection, time_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((time_ns, message))
    return found


def table_of(judge, bag, path, *more):
    assert judge(bag, '--csv', path, *more) == 0
    return rows_of(path)


def refused(capsys, status):
    """Assert that a command ended as on bad input; return its one line."""
    assert status == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith('nav_monitor replay: ') and '\n' not in said
    return said


# What is written.


def test_the_bag_has_the_nodes_topics_at_the_images_stamps(judged, recording):
    messages = messages_of(judged / 'bag')
    assert set(messages) == {'/ood_alert', *(f'/nav_monitor/{name}' for name in (
        'ood_status', 'prediction', 'ood_score', 'label_info', 'overlay/compressed'))}
    images = [(START + round(n * 1e9 / 30), n) for n in range(40)]
    for topic in ('ood_status', 'prediction', 'overlay/compressed'):
        kept = messages[f'/nav_monitor/{topic}']
        assert [time for time, _ in kept] == [time for time, _ in images]
        for time, message in kept:
            stamp = message.header.stamp
            assert stamp.sec * 10**9 + stamp.nanosec == time - 5_000_000
            assert message.header.frame_id == 'front'
    assert [time for time, _ in messages['/ood_alert']] == [time for time, _ in images]
    [(_, labels)] = messages['/nav_monitor/label_info']
    assert [label.class_name for label in labels.class_map] == list(tiny.CLASSES)


def test_bag_and_table_say_the_same(judged):
    messages, rows = messages_of(judged / 'bag'), rows_of(judged / 'table.csv')
    assert len(rows) == 40 and {row['topic'] for row in rows} == {FRONT}
    statuses = [message.status[0] for _, message in messages['/nav_monitor/ood_status']]
    for number, (row, status) in enumerate(zip(rows, statuses, strict=True)):
        said = {pair.key: pair.value for pair in status.values}
        assert row['reason'] == status.message and row['state'] == said['state']
        assert row['alert'] == said['alert']
        assert (row['alert'] == 'true') == messages['/ood_alert'][number][1].data
        assert row['class'] == said['class'] and row['class_index'] == said['class_index']
        assert row['flagged'] == said['frame_is_ood'] and row['fired_score'] == said['fired_score']
        for column, key in (('p_value', 'p_value'), ('evidence', 'evidence'),
                            ('confidence', 'confidence'), ('score/fused', 'score/fused')):
            assert f'{float(row[column]):.6g}' == said[key]
        score = messages['/nav_monitor/ood_score'][number][1].data
        assert score == pytest.approx(-np.log10(float(row['p_value'])), rel=1e-6)
        best = messages['/nav_monitor/prediction'][number][1].results[0]
        assert best.class_id == row['class_index'] and best.score == float(row['confidence'])


def test_strange_pictures_raise_the_alert_and_familiar_ones_lower_it(judged):
    alerts = [row['alert'] == 'true' for row in rows_of(judged / 'table.csv')]
    assert alerts[0] and not any(alerts[5:15]) and all(alerts[22:28]) and not any(alerts[34:])


def test_the_overlay_is_a_picture_and_written_only_on_request(judge, judged, recording, tmp_path):
    _, message = messages_of(judged / 'bag')['/nav_monitor/overlay/compressed'][20]
    picture = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
    assert 'jpeg' in message.format and picture.shape[1] > 100 and picture.std() > 10
    assert judge(recording, '--output', tmp_path / 'b') == 0
    assert '/nav_monitor/overlay/compressed' not in messages_of(tmp_path / 'b')


def test_the_bag_keeps_to_the_conventions_of_rosbag2_and_foxglove(judged, recording):
    information = yaml.safe_load((judged / 'bag' / 'metadata.yaml').read_text())[
        'rosbag2_bagfile_information']
    assert information['version'] == 8 and information['storage_identifier'] == 'mcap'
    assert information['relative_file_paths'] == ['bag.mcap']
    about = information['custom_data']
    assert about == {'topics': FRONT, 'bag': str(recording), 'bundle': 'tiny'}
    for topic in information['topics_with_message_count']:  # Humble reads a text here
        assert isinstance(topic['topic_metadata']['offered_qos_profiles'], str)
    records = recorded.mcap_records((judged / 'bag' / 'bag.mcap').read_bytes())
    header = next(record for kind, record in records if kind == 1)
    assert header[9:17] == recorded.mcap_text('ros2')
    with AnyReader([judged / 'bag']) as reader:
        for connection in reader.connections:
            assert connection.msgdef.format.name == 'MSG'
            latched = connection.topic.rpartition('/')[2] in (
                'ood_alert', 'ood_status', 'label_info')
            [quality] = connection.ext.offered_qos_profiles
            assert quality.reliability is QosReliability.RELIABLE
            assert quality.depth == (1 if latched else 10)
            assert quality.durability is (
                QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE)
    # The same messages under the newest distribution's definitions.
    store = get_typestore(Stores.LATEST)
    with AnyReader([judged / 'bag']) as reader:
        hashes = {c.msgtype: c.digest for c in reader.connections}
    for name in ('std_msgs/msg/Bool', 'diagnostic_msgs/msg/DiagnosticArray'):
        assert hashes[name] == store.hash_rihs01(name)


def test_the_page_shows_the_timeline_and_a_picture_of_each_alert(judged):
    text = (judged / 'page.html').read_text()
    assert text.count('class="timeline"') == 1 and text.count('<figure id=') == 1
    assert '<b>' in text and 'ood' in text and '40 images of drive' in text
    encoded = re.search(r'<img src="data:image/png;base64,([^"]+)"', text).group(1)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    # The picture that raised the alert, one of those with a bar that lies.
    # Small ones are enlarged, each pixel by itself.
    assert picture.shape[0] % 12 == 0 and picture.shape[0] > 150
    picture = picture[:: picture.shape[0] // 12, :: picture.shape[0] // 12]
    assert picture[4:8].mean() > picture[8:].mean() + 50
    assert not re.search(r'(src|href)="(?!data:|#)', text)


# Whatever the bag is like.


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('packed', [False, True])
def test_pictures_are_judged_alike_raw_and_compressed_in_either_storage(
    judge, judged, tmp_path, kind, packed
):
    bag = write_images(tmp_path / 'b', {FRONT: drive()}, storage=kind, packed=packed)
    assert table_of(judge, bag, tmp_path / 't.csv') == rows_of(judged / 'table.csv')


@pytest.fixture(scope='module')
def plain(judge, tmp_path_factory):
    folder = tmp_path_factory.mktemp('plain')
    return table_of(judge, write_bag(folder / 'b', 'mcap'), folder / 't.csv', '--topic', RAW)


@pytest.mark.parametrize(('kind', 'compression'), KINDS)
def test_compression_and_storage_change_nothing(judge, plain, tmp_path, kind, compression):
    bag = write_bag(tmp_path / 'b', kind, compression=compression)
    assert table_of(judge, bag, tmp_path / 't.csv', '--topic', RAW) == plain
    assert table_of(judge, file_of(bag), tmp_path / 'u.csv', '--topic', RAW) == plain


def test_each_of_several_topics_is_judged_as_if_it_were_alone(judge, tmp_path):
    pictures = {FRONT: drive(7), REAR: drive(8, 30, strange=range(5, 20))}
    bag = write_images(tmp_path / 'b', pictures)
    both = table_of(judge, bag, tmp_path / 't.csv', '--topic', FRONT, '--topic', REAR.strip('/'),
                    '--output', tmp_path / 'o')
    for topic in pictures:
        alone = table_of(judge, bag, tmp_path / f'{topic.split("/")[1]}.csv', '--topic', topic)
        # A camera that ends before the other falls silent, alone it does not.
        of_both = [row for row in both if row['topic'] == topic and row['stamp_ns']]
        assert of_both == alone
    silent = [row for row in both if not row['stamp_ns']]
    assert [(row['topic'], row['reason']) for row in silent] == []
    messages = messages_of(tmp_path / 'o')
    for topic, count in ((FRONT, 40), (REAR, 30)):
        assert len(messages[f'{topic}/ood_alert']) == count
        assert len(messages[f'{topic}/nav_monitor/prediction']) == count


def test_silence_of_the_camera_raises_the_alert_when_the_node_would_have(judge, tmp_path):
    pictures = [*drive(strange=()), *[None] * 30, *drive(9, strange=())]
    bag = write_images(tmp_path / 'b', {FRONT: pictures})
    rows = table_of(judge, bag, tmp_path / 't.csv', '--output', tmp_path / 'o')
    assert len(rows) == 81
    silent = rows[40]
    assert (silent['stamp_ns'], silent['reason'], silent['alert']) == ('', 'stale_image', 'true')
    last = int(rows[39]['time_ns'])
    # The stamp of the last image is 5 ms before its arrival.
    assert 0.494 < (int(silent['time_ns']) - last) / 1e9 < 0.51
    assert [row['reason'] for row in rows[41:45]] == ['warming_up'] * 4
    assert rows[45]['reason'] == 'in_distribution'
    assert len(messages_of(tmp_path / 'o')['/nav_monitor/prediction']) == 80


def test_an_image_that_cannot_be_judged_has_its_reason(judge, tmp_path):
    pictures = drive(strange=())
    pictures[20] = np.full((12, 12, 3), 90, np.uint8)
    rows = table_of(judge, write_images(tmp_path / 'b', {FRONT: pictures}, stale=30),
                    tmp_path / 't.csv', '--output', tmp_path / 'o')
    assert rows[20]['reason'] == 'bad_image' and 'blank' in rows[20]['detail']
    assert rows[20]['class'] == '' and rows[20]['alert'] == 'true'
    assert rows[30]['reason'] == 'stale_image' and 'stamp' in rows[30]['detail']
    assert len(messages_of(tmp_path / 'o')['/nav_monitor/ood_score']) == 38


def test_the_nodes_parameters_are_taken_from_its_file(judge, recording, tmp_path):
    parameters = tmp_path / 'p.yaml'
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': {
        'score': 'pattern', 'extra_scores': ['energy'], 'exit_count': 12, 'wheel_radius': 0.1}}}))
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', parameters)
    assert {name for name in rows[0] if name.startswith('score/')} == {
        'score/pattern', 'score/energy'}
    assert [row['p_value'] == row['p_value/pattern'] for row in rows] == [True] * 40
    assert [row['reason'] for row in rows[:11]] == ['warming_up'] * 11
    assert rows[11]['reason'] == 'in_distribution'


def write_parameters(tmp_path, text):
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    return path


def decided(rows):
    """Return the score that decided, and the first row that was trusted."""
    names = [name for name in rows[0] if name.startswith('score/')]
    return names, [row['reason'] for row in rows].index('in_distribution')


def test_other_nodes_parameters_do_not_count(judge, recording, tmp_path):
    """A file for several nodes, of which another one has a region and a device of its own."""
    path = write_parameters(tmp_path, """
nav_monitor:
  ros__parameters: {score: pattern, exit_count: 12}
segmenter:
  ros__parameters: {roi: [0, 0, 3, 3], device: cuda:7, score: nonsense, exit_count: 2}
""")
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path)
    assert decided(rows) == (['score/pattern'], 11)


@pytest.mark.parametrize('name', ['/robot/nav_monitor', 'robot/nav_monitor', '/robot/**', '/**'])
def test_a_namespaced_nodes_parameters_count(judge, recording, tmp_path, name):
    path = write_parameters(tmp_path, f"""
{name}:
  ros__parameters: {{score: pattern, exit_count: 12}}
/robot/camera:
  ros__parameters: {{exit_count: 2}}
""")
    node = ['--node', '/robot/nav_monitor'] if name == '/robot/**' else []
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path, *node)
    assert decided(rows) == (['score/pattern'], 11)


def test_nested_namespaces_and_later_blocks_count(judge, recording, tmp_path):
    path = write_parameters(tmp_path, """
/**:
  ros__parameters: {score: pattern, exit_count: 3}
robot:
  nav_monitor:
    ros__parameters: {exit_count: 12}
""")
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path)
    assert decided(rows) == (['score/pattern'], 11)
    root = ['--params', path, '--node', 'nav_monitor']
    other = table_of(judge, recording, tmp_path / 'o.csv', *root)
    assert decided(other) == (['score/pattern'], 2)


def test_numbers_and_empty_lists_are_those_of_the_node(judge, recording, tmp_path, capsys):
    path = write_parameters(tmp_path, """
nav_monitor:
  ros__parameters:
    evidence_level: 1e-1
    image_timeout: 5e-1
    exit_count: 0x0C
    extra_scores: []
    trusted_packages: []
    roi: []
    latch: n
""")
    rows = table_of(judge, recording, tmp_path / 't.csv', '--params', path)
    assert decided(rows)[1] == 11
    assert 'warning' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('/a/nav_monitor:\n  ros__parameters: {latch: true}\n'
         '/b/nav_monitor:\n  ros__parameters: {latch: true}\n',
         '/a/nav_monitor, /b/nav_monitor; say for which, --node'),
        ('front_monitor:\n  ros__parameters: {latch: true}\n',
         'has no parameters for /nav_monitor, but for: front_monitor; say which node'),
        ('/**:\n  ros__parameters: {exit_count: 1e1}\n', 'exit_count is 10.0, a float'),
        ('/**:\n  ros__parameters: {exit_count: []}\n', 'exit_count is [], a list'),
        ('/**:\n  ros__parameters: {roi: [0, 0, 1.5, 2]}\n', 'values of different types'),
        ('/**:\n  ros__parameters:\n', 'are not names and values'),
    ],
)
def test_a_parameter_file_that_cannot_be_used_is_refused(
    judge, recording, tmp_path, capsys, text, said
):
    path = write_parameters(tmp_path, text)
    assert said in refused(capsys, judge(recording, '--params', path))


def test_a_node_that_is_named_without_a_file_is_refused(judge, recording, capsys):
    assert 'give --params' in refused(capsys, judge(recording, '--node', '/robot/nav_monitor'))


def test_misspelt_parameters_are_told_once_with_the_nearest_one(
    judge, recording, tmp_path, capsys
):
    path = write_parameters(tmp_path, """
/**:
  ros__parameters:
    use_sim_time: true
    qos_overrides: {/image: {subscription: {depth: 1}}}
    evidence_levle: 0.1
    exit_cuont: 9
    cameras: [front]
    front: {roi: [0, 0, 2, 2], exit_cout: 3}
""")
    judge(recording, '--params', path, '--csv', tmp_path / 't.csv')
    warnings = [line for line in capsys.readouterr().err.splitlines() if 'warning' in line]
    assert warnings == [
        'nav_monitor replay: warning: ' + text for text in (
            "parameter 'evidence_levle' is unknown and changes nothing; did you mean "
            'evidence_level?',
            "parameter 'exit_cuont' is unknown and changes nothing; did you mean exit_count?",
            "parameter 'front.exit_cout' is unknown and changes nothing; did you mean "
            'front.exit_count?',
            'parameter front.roi is not used: a replay judges every topic by the parameters that '
            'all cameras have in common',
        )
    ]


def test_rate_holds_the_replay_back_to_the_recordings_pace(judge, recording, tmp_path, monkeypatch):
    class Clock:
        now, slept = 0.0, 0.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            self.slept += seconds

    clock = Clock()
    monkeypatch.setattr(replay, 'time', clock)
    assert judge(recording, '--rate', 2) == 0
    assert clock.slept == pytest.approx(39 / 30 / 2, abs=0.001)


def test_progress_counts_the_images(judge, recording, monkeypatch):
    told = []

    class Bars(replay.ProgressBars):
        def __call__(self, what, done, total):
            told.append((done, total))

    monkeypatch.setattr(replay, 'ProgressBars', Bars)
    assert judge(recording) == 0
    assert told == [(done, 40) for done in range(1, 41)]


# What is wrong.


def test_what_is_left_of_a_bag_that_breaks_off_is_judged_and_kept(judge, tmp_path, capsys):
    bag = write_bag(tmp_path / 'b', 'mcap', compression='storage', frames=30, chunks=6)
    whole = file_of(bag).read_bytes()
    file_of(bag).write_bytes(whole[: len(whole) * 2 // 3])
    said = refused(capsys, judge(
        bag, '--topic', RAW, '--csv', tmp_path / 't.csv', '--output', tmp_path / 'o',
        '--html', tmp_path / 'p.html'))
    assert 'breaks off' in said and 'images were read' in said
    rows = rows_of(tmp_path / 't.csv')
    assert 10 <= len(rows) < 30
    assert len(messages_of(tmp_path / 'o')['/nav_monitor/ood_status']) == len(rows)
    assert 'breaks off' in (tmp_path / 'p.html').read_text()


def test_what_is_left_of_a_data_base_that_breaks_off_is_judged_and_kept(judge, tmp_path, capsys):
    bag = write_images(tmp_path / 'b', {FRONT: [np.tile(p, (8, 8, 1)) for p in drive()]},
                       storage='sqlite3')
    whole = file_of(bag).read_bytes()
    file_of(bag).write_bytes(whole[: len(whole) // 2])
    said = refused(capsys, judge(bag, '--csv', tmp_path / 't.csv'))
    assert 'is damaged' in said and 'images were read' in said
    assert 10 <= len(rows_of(tmp_path / 't.csv')) < 40


def test_a_file_without_an_index_and_a_folder_without_metadata_are_judged(
    judge, plain, tmp_path, capsys
):
    bag = write_bag(tmp_path / 'b', 'mcap', compression='storage')
    file_of(bag).write_bytes(recorded.unindexed(file_of(bag).read_bytes()))
    assert table_of(judge, bag, tmp_path / 't.csv', '--topic', RAW) == plain
    capsys.readouterr()
    (bag / 'metadata.yaml').unlink()
    said = refused(capsys, judge(bag, '--topic', RAW, '--csv', tmp_path / 'u.csv'))
    assert 'no metadata.yaml' in said and 'ros2 bag reindex' in said
    assert rows_of(tmp_path / 'u.csv') == plain


@pytest.mark.parametrize(('arguments', 'wanted'), [
    (['--topic', '/nothing'], [RAW, PACKED, 'is not there']),
    (['--topic', '/imu'], ['std_msgs/msg/String', RAW, PACKED]),
    ([], ['--topic', RAW, PACKED]),
])
def test_a_topic_that_cannot_be_judged_is_answered_with_those_that_can(
    judge, tmp_path, capsys, arguments, wanted
):
    said = refused(capsys, judge(
        write_bag(tmp_path / 'b', 'mcap'), *arguments, '--output', tmp_path / 'o'))
    assert [text for text in wanted if text not in said] == []
    assert not (tmp_path / 'o').exists()


def test_a_bag_without_a_single_image_of_the_topic_is_refused(judge, tmp_path, capsys):
    bag = write_images(tmp_path / 'b', {FRONT: [None], REAR: drive()})
    said = refused(capsys, judge(bag, '--topic', FRONT, '--csv', tmp_path / 't.csv'))
    assert f'no image of {FRONT}' in said and not (tmp_path / 't.csv').exists()


def test_places_that_cannot_be_written_are_named(judge, recording, tmp_path, capsys):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'file').write_text('')
    for arguments, wanted in (
        (['--output', tmp_path / 'there'], f'{tmp_path / "there"} exists'),
        (['--output', tmp_path / 'file' / 'o'], 'cannot be written'),
        (['--csv', tmp_path / 'there'], 'it is a folder'),
        (['--csv', tmp_path / 'file' / 't.csv'], 'cannot be written'),
        (['--html', tmp_path / 'file' / 'p.html'], str(tmp_path / 'file')),
        (['--overlay'], '--output'),
        (['--params', tmp_path / 'none.yaml'], 'does not exist'),
    ):
        assert wanted in refused(capsys, judge(recording, *arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'there']


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--output', 'o', '--csv', 'o/t.csv'], 'lies in the bag'),
    (['--output', 'o', '--html', 'link/o/p.html'], 'lies in the bag'),
    (['--csv', 'x', '--html', 'link/x'], '--html link/x is the same file as --csv'),
    (['--output', 'x', '--csv', 'x'], 'is the same file as --output'),
    (['--csv', 'bag/metadata.yaml'], 'lies in the bag bag, which is read'),
])
def test_outputs_that_would_replace_each_other_are_refused_before_the_work(
    judge, recording, tmp_path, capsys, monkeypatch, arguments, said
):
    shutil.copytree(recording, tmp_path / 'bag')
    (tmp_path / 'link').symlink_to('.')
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    assert said in refused(capsys, judge('bag', *arguments))
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('error', [KeyboardInterrupt(), OSError(28, 'No space left on device')])
def test_outputs_are_whole_or_not_there(judge, recording, tmp_path, capsys, monkeypatch, error):
    (tmp_path / 't.csv').write_text('of an earlier replay')
    wrote = outputs.BagWriter._put

    def put(self, connection, time_ns, message):
        if time_ns > START + 500_000_000:
            with outputs._told(self._folder):
                raise error
        wrote(self, connection, time_ns, message)

    monkeypatch.setattr(outputs.BagWriter, '_put', put)
    status = judge(recording, '--output', tmp_path / 'o', '--csv', tmp_path / 't.csv')
    if isinstance(error, OSError):
        said = refused(capsys, status)
        assert f'{tmp_path / "o"} cannot be written: No space left' in said
    else:
        assert status == 130
    assert [path.name for path in tmp_path.iterdir()] == ['t.csv']
    assert (tmp_path / 't.csv').read_text() == 'of an earlier replay'


@pytest.mark.skipif(not KITTI.is_dir(), reason='the KITTI bags are not here')
@pytest.mark.parametrize(('bag', 'packed', 'raw'), [
    ('kitti_drive_mcap', 150, 5), ('kitti_drive_sqlite3', 60, 2),
])
def test_a_real_drive_is_judged_with_its_raw_and_compressed_pictures(tmp_path, bag, packed, raw):
    topics = ['/camera/color/image_raw/compressed', '/camera/color/image_raw']
    assert main(['replay', str(KITTI / bag), *(w for t in topics for w in ('--topic', t)),
                 '--device', 'cpu', '--output', str(tmp_path / 'o'),
                 '--csv', str(tmp_path / 't.csv')]) == 0
    rows, messages = rows_of(tmp_path / 't.csv'), messages_of(tmp_path / 'o')
    for topic, count in zip(topics, (packed, raw), strict=True):
        frames = [row for row in rows if row['topic'] == topic and row['stamp_ns']]
        assert len(frames) == count == len(messages[f'{topic}/nav_monitor/prediction'])
        assert all(0 < float(row['p_value']) <= 1 for row in frames)


def test_the_benchmark_times_network_and_replay_on_the_same_frames():
    from nav_monitor_ros.benchmark.replaying import replay_benchmark

    content = replay_benchmark(frames=4, bundle='digits', device='cpu').to_dict()
    timed = {name: timing['median_ms'] for name, timing in content['timed'].items()}
    assert set(timed) == {
        'network alone', 'replay', 'replay into a bag, a table and a page'}
    assert all(timing > 0 for timing in timed.values())
    assert content['rate_ratio'] > 0 and content['figures']['rate_ratio']['target'] == 0.9


# What could not be judged.


def spoilt(folder, count, total=45, *, kind='mcap'):
    """Write a bag of compressed images of which the first ones are no pictures."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    name = 'sensor_msgs/msg/CompressedImage'
    pictures = drive(count=total, strange=())
    with Writer(folder, version=9, storage_plugin=StoragePlugin[kind.upper()]) as writer:
        connection = writer.add_connection(FRONT, name, typestore=store)
        for number in range(total):
            received = START + round(number * 1e9 / 30)
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(received, 10**9)), 'front')
            encoded = cv2.imencode('.jpg', pictures[number][..., ::-1])[1].reshape(-1)
            form = ('', 'mjpeg', 'MJPG', 'jpeg')[number % 4]
            if number < count:
                form, encoded = 'h264', np.zeros(100, np.uint8)
            message = types[name](header, form, encoded)
            writer.write(connection, received, store.serialize_cdr(message, name))
    return folder


def test_images_that_none_could_judge_are_not_called_judged(judge, tmp_path, capsys):
    bag = spoilt(tmp_path / 'bag', 45)
    status = judge(bag, '--csv', tmp_path / 'table.csv', '--html', tmp_path / 'page.html')
    said = capsys.readouterr()
    assert status == 2
    assert '0 of 45 images of bag judged' in said.out and '45 bad_image' in said.out
    assert said.err.count('\n') == 1 and '0 of 45 images judged: 45 bad_image (' in said.err
    assert "format 'h264') is neither JPEG nor PNG" in said.err
    assert {row['reason'] for row in rows_of(tmp_path / 'table.csv')} == {'bad_image'}
    page = (tmp_path / 'page.html').read_text()
    assert '0 of 45 images judged' in page and 'Nothing but clear frames' not in page


def test_the_judged_and_the_others_are_counted(judge, tmp_path, capsys):
    assert judge(spoilt(tmp_path / 'bag', 15), '--html', tmp_path / 'page.html') == 0
    said = capsys.readouterr().out
    assert '30 of 45 images of bag judged' in said and 'not judged: 15 bad_image (' in said
    assert '30 of 45 images judged' in (tmp_path / 'page.html').read_text()


def test_jpegs_are_judged_whatever_their_format_is_called(judge, tmp_path, capsys):
    rows = table_of(judge, spoilt(tmp_path / 'bag', 0), tmp_path / 'table.csv')
    assert all(row['class'] for row in rows) and len(rows) == 45
    assert '45 of 45 images of bag judged' in capsys.readouterr().out


def test_runs_that_judged_nothing_are_not_alike(judge, tmp_path, capsys):
    bag = spoilt(tmp_path / 'bag', 45)
    table = tmp_path / 'table.csv'
    judge(bag, '--csv', table)
    capsys.readouterr()
    assert main(['compare', str(table), str(table)]) == 2
    said = capsys.readouterr()
    assert '0 of 45 images judged: 45 bad_image' in said.err
