"""The monitor as its own process, over DDS, as a safety node sees it."""

import time

import moody
import pytest

pytest.importorskip('rclpy')

from moody_feed import RELIABLE, START, Feed, moody_arguments, python_path  # noqa: E402
from processes import kill_between_messages  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    LivelinessPolicy,
    ReliabilityPolicy,
)
from ros_harness import LATCHED, stamp_ns, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Float32  # noqa: E402
from vision_msgs.msg import Classification, LabelInfo  # noqa: E402

from nav_monitor_ros.bundle.loading import load_bundle  # noqa: E402
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS  # noqa: E402
from nav_monitor_ros.scores.evidence_kind import EvidenceKind  # noqa: E402
from nav_monitor_ros.scores.registry import SCORES  # noqa: E402

pytestmark = pytest.mark.ros


def test_the_alert_follows_a_camera_from_start_to_death_and_back(graph):
    graph.listen(Image, '/image', RELIABLE)
    graph.listen(Classification, '/nav_monitor/prediction')
    graph.listen(Float32, '/nav_monitor/ood_score')
    monitor = graph.start_monitor('-p', 'bundle:=digits')

    graph.wait_alert(True, START)  # before the network is even loaded
    assert graph.alerts[0] is True
    graph.wait_reason('no_image', START)

    camera = graph.start_camera('sample:digits', '-p', 'frame_id:=front')
    graph.wait_trusted(START)

    # Every status and prediction of a frame carries the image's stamp and frame.
    graph.wait(lambda: len(graph.heard['/nav_monitor/prediction']) > 30, 20, 'predictions')

    def stamps(topic):
        return [stamp_ns(m.header) for m in graph.heard[topic]]

    def judged():
        return [s for s in graph.statuses if 'class' in values(s.status[0])]

    # The listener may hear the camera later than the monitor does, and miss messages of topics
    # that keep only the newest one.
    graph.wait(
        lambda: len({*stamps('/image')} & {*stamps('/nav_monitor/prediction')}) >= 18, 20,
        'predictions of images')
    graph.wait(
        lambda: len(
            {stamp_ns(s.header) for s in judged()} & {*stamps('/nav_monitor/prediction')}) >= 18,
        20, 'statuses of predicted images')
    assert {m.header.frame_id for m in graph.heard['/nav_monitor/prediction']} == {'front'}
    assert {s.header.frame_id for s in judged()} == {'front'}
    best = graph.heard['/nav_monitor/prediction'][-1].results
    assert [r.score for r in best] == sorted((r.score for r in best), reverse=True)
    assert len(best) == 3 and 0 <= int(best[0].class_id) <= 9
    assert all(m.data >= 0 for m in graph.heard['/nav_monitor/ood_score'])

    graph.listen(LabelInfo, '/nav_monitor/label_info', LATCHED)  # a late joiner
    info = graph.wait(lambda: graph.heard['/nav_monitor/label_info'], 10, 'label_info')[0]
    assert [c.class_name for c in info.class_map] == list('0123456789')

    count = len(graph.statuses)
    graph.wait(lambda: len(graph.statuses) > count, 5, 'one more verdict')
    died = kill_between_messages(camera)
    assert graph.wait_alert(True, 5) - died < 1.0
    graph.wait_reason('stale_image', 5)

    triangles = graph.start_camera('sample:triangles')
    graph.wait_reason('ood', START)
    graph.wait_alert(True, 5)
    kill_between_messages(triangles)
    graph.wait_reason('stale_image', 5)

    graph.start_camera('sample:digits')
    graph.wait_alert(False, START)
    assert monitor.poll() is None


def test_every_alert_until_the_first_false_is_true(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    Feed(graph)
    graph.wait_alert(False, START)
    first = graph.alerts.index(False)
    assert first > 3 and all(graph.alerts[:first])


def test_the_alert_is_repeated_at_its_rate_and_offers_a_deadline_and_a_lease(trusted):
    start, begin = len(trusted.alerts), time.monotonic()
    trusted.wait(lambda: len(trusted.alerts) >= start + 40, 20, '40 alerts')
    assert time.monotonic() - begin > 3  # 10 Hz, and perhaps a change
    (info,) = trusted.node.get_publishers_info_by_topic('/ood_alert')
    qos = info.qos_profile
    assert qos.reliability == ReliabilityPolicy.RELIABLE
    assert qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert qos.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    assert 0 < qos.deadline.nanoseconds <= 500_000_000
    assert 0 < qos.liveliness_lease_duration.nanoseconds <= 1_000_000_000


def test_the_alert_goes_on_under_a_simulated_clock_that_stands_still(graph, moody_bundle):
    graph.start_monitor(
        *moody_arguments(moody_bundle, use_sim_time=True, stamp_tolerance=0), env=python_path()
    )
    Feed(graph)
    graph.wait_alert(False, START)
    start = len(graph.alerts)
    graph.wait(lambda: len(graph.alerts) > start + 12, 10, 'more alerts')


@pytest.mark.parametrize(
    ('color', 'words'), [(moody.NAN, 'not finite'), (moody.RAISE, 'a kernel failed')]
)
def test_a_network_that_fails_alerts_and_recovers(trusted, color, words):
    trusted.feed.play_plain(color)
    status = trusted.wait_reason('inference_error', 10)
    assert words in values(status.status[0])['detail']
    trusted.wait_alert(True, 5)
    trusted.feed.play(trusted.feed.normal)
    trusted.wait_alert(False, 10)


def test_a_hanging_network_alerts_while_it_hangs_and_recovers(trusted):
    begin = time.monotonic()
    trusted.feed.play_plain(moody.HANG)
    trusted.wait_reason('inference_timeout', 5)
    assert time.monotonic() - begin < moody.HANG_SECONDS  # said before the frame was done
    trusted.feed.play(trusted.feed.normal)
    trusted.wait_alert(False, 15)


def test_strange_images_alert_with_the_explanation(trusted, moody_bundle):
    members = {*load_bundle(moody_bundle).calibration.fusion_members}
    assert members <= {*FUSED_MEMBERS}  # all but those that are degenerate for this network
    trusted.feed.play_plain(120)
    status = trusted.wait_reason('ood', 10)
    told = values(status.status[0])
    assert told['state'] == 'OOD' and status.status[0].level == b'\x02'
    assert float(told['p_value']) <= float(told['p_threshold'])
    assert told['fired_score'] in members and told['why'].startswith(told['fired_score'])
    assert 'neurons differ from the nearest pattern' in told['why']
    kind = EvidenceKind(told['evidence_kind'])
    assert kind is SCORES[told['fired_score']].evidence_kind
    assert kind.sentence_part in told['why']
    assert set(told['flagged_kinds'].split()) == {
        SCORES[name].evidence_kind.value for name in members
        if float(told[f'p_value/{name}']) <= float(told['p_threshold'])
    }
    # Scores that nobody asked for are not computed.
    assert {key for key in told if key.startswith('score/')} == {
        f'score/{name}' for name in (*members, 'fused')
    }
    assert 'nearest_pattern_distance' in told and ':z=' in told['deviating_neurons']


@pytest.mark.parametrize('decisive', ['knn', 'window_kl', 'pattern_soft'])
def test_any_score_decides_by_parameter(graph, moody_bundle, decisive):
    graph.start_monitor(
        *moody_arguments(moody_bundle, score=decisive, extra_scores=['all']), env=python_path()
    )
    feed = Feed(graph)
    graph.wait_alert(False, START)
    told = graph.wait_judged()
    assert told['decisive_score'] == decisive
    assert told['fired_score'] == (decisive if told['frame_is_ood'] == 'true' else '')
    assert told['p_value'] == told[f'p_value/{decisive}']
    named = {key.removeprefix('score/') for key in told if key.startswith('score/')}
    # This network has neither dropout nor a background class.
    assert named == {*SCORES, 'fused'} - {'mc_dropout', 'decoy'}
    feed.play_plain(120)
    status = graph.wait_reason('ood', 10)
    assert values(status.status[0])['fired_score'] == decisive


def test_dropout_decides_by_parameter(graph):
    graph.start_monitor('-p', 'bundle:=digits', '-p', 'score:=mc_dropout')
    camera = graph.start_camera('sample:digits')
    graph.wait_trusted(START)
    kill_between_messages(camera)
    graph.wait_reason('stale_image', 10)
    graph.start_camera('sample:triangles')  # among which it knows two of three for strange
    status = graph.wait_reason('ood', START)
    graph.wait_alert(True, 5)
    told = values(status.status[0])
    assert told['decisive_score'] == told['fired_score'] == 'mc_dropout'
    assert told['p_value'] == told['p_value/mc_dropout']
    # The entropy of its mean prediction: of digits it is 0.0001, and ln(10) at most.
    assert 0.005 < float(told['score/mc_dropout']) <= 2.31
