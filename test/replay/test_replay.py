"""`nav_monitor replay`: what it writes of a bag, whatever the bag is like, and how it fails."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import recorded
import tiny
import yaml
from recorded import RAW, START, file_of, write_bag, write_images
from replayed import FRONT, REAR, drive, messages_of, rows_of, table_of

from nav_monitor_ros.cli import replay
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.replay.output_files import BagWriter
from nav_monitor_ros.replay.replay import ReplayEvent
from nav_monitor_ros.replay.verdict_log import read_run
from nav_monitor_ros.scores.evidence_kind import EvidenceKind

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
KITTI = Path(__file__).parents[3] / 'shared' / 'data' / 'bags'


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """Return a function that runs the program of the documentation in an empty folder."""
    text = (Path(__file__).parents[2] / 'docs' / 'replay.md').read_text(encoding='utf-8')
    section = text.partition('### Make a bag from your own pictures\n')[2].partition('\n## ')[0]
    [code] = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    return lambda: exec(code, {})  # noqa: S102 - of this repository


def test_the_documented_program_writes_a_bag_of_pictures(tmp_path, documented):
    (tmp_path / 'photos' / 'left').mkdir(parents=True)
    for number, image in enumerate(tiny.images(1, 5)[0]):
        ending = ('.jpg', '.png', '.jpeg', '.JPG', '.PNG')[number]
        path = tmp_path / 'photos' / 'left' / f'{number}{ending}'
        path.write_bytes(cv2.imencode(ending.lower(), image[:, :, ::-1])[1].tobytes())
    (tmp_path / 'photos' / 'notes.txt').write_text('no picture')
    documented()
    assert main([
        'replay', 'drive', '--topic', '/camera/image_raw/compressed', '--bundle', 'digits',
        '--csv', 'judged.csv',
    ]) == 0
    rows = rows_of(tmp_path / 'judged.csv')
    assert len(rows) == 5 and {row['reason'] for row in rows}.isdisjoint({'bad_image'})
    with AnyReader([tmp_path / 'drive']) as bag:
        found = [bag.deserialize(data, one.msgtype).format for one, _, data in bag.messages()]
    assert found == ['jpeg', 'png', 'jpeg', 'jpeg', 'png']


def test_the_documented_program_ends_with_one_line_without_pictures_or_with_a_bag(
    tmp_path, documented
):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'notes.txt').write_text('no picture')
    with pytest.raises(SystemExit, match=r'^photos holds no \.png, \.jpg, \.jpeg files$'):
        documented()
    assert not (tmp_path / 'drive').exists()
    cv2.imwrite(str(tmp_path / 'photos' / '0.png'), tiny.images(1, 1)[0][0])
    documented()
    before = {path: path.read_bytes() for path in (tmp_path / 'drive').iterdir()}
    with pytest.raises(SystemExit, match='^drive already exists; remove it'):
        documented()
    assert {path: path.read_bytes() for path in (tmp_path / 'drive').iterdir()} == before


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
        assert row['evidence_kind'] == said['evidence_kind']
        assert row['flagged_kinds'] == said['flagged_kinds']
        assert (row['evidence_kind'] in [kind.value for kind in EvidenceKind]) == (
            row['flagged'] == 'true')
        for column, key in (('p_value', 'p_value'), ('evidence', 'evidence'),
                            ('confidence', 'confidence'), ('score/fused', 'score/fused')):
            assert f'{float(row[column]):.6g}' == said[key]
        score = messages['/nav_monitor/ood_score'][number][1].data
        assert score == pytest.approx(-np.log10(float(row['p_value'])), rel=1e-6)
        best = messages['/nav_monitor/prediction'][number][1].results[0]
        assert best.class_id == row['class_index'] and best.score == float(row['confidence'])


def test_the_kind_of_evidence_is_read_again_from_the_bag_and_from_the_table(judged):
    bag, table = (read_run(judged / name) for name in ('bag', 'table.csv'))
    kinds = [frame.evidence_kind for frame in bag.frames.values()]
    assert kinds == [frame.evidence_kind for frame in table.frames.values()]
    assert [bool(kind) for kind in kinds] == [frame.flagged for frame in bag.frames.values()]
    assert any(kinds)


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
    assert '40 of 40 images judged, recording of 1.3 s;' in text
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




def test_a_bag_names_as_many_classes_as_the_message_can_number(tmp_path):
    """The numbers of vision_msgs/VisionClass have 16 bits."""
    alert = Alert(True, State.INVALID, Reason.NO_IMAGE)
    with BagWriter(tmp_path / 'bag', ['/image'], [f'c{n}' for n in range(70_000)]) as writer:
        writer.write(ReplayEvent('/image', 10**9, alert, 0.0, '', True))
    with AnyReader([tmp_path / 'bag']) as reader:
        [connection] = [c for c in reader.connections if c.topic.endswith('label_info')]
        [(_, _, data)] = reader.messages([connection])
        named = reader.deserialize(data, connection.msgtype).class_map
    assert len(named) == 65_536 and (named[-1].class_id, named[-1].class_name) == (65_535, 'c65535')
