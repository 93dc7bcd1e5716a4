"""Parameters of running nodes over their real services: sets, overrides, misspellings."""

import json

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from fleet import Feed  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from moody_feed import START, change_state, moody_arguments, python_path  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically  # noqa: E402
from rclpy.parameter import get_parameter_value, parameter_value_to_python  # noqa: E402
from ros_harness import Graph, values  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def moody_bundle(tmp_path_factory):
    import moody

    return moody.make_bundle(tmp_path_factory.mktemp('bundles') / 'moody')


@pytest.fixture(scope='module')
def graph(tmp_path_factory, moody_bundle):
    """Start a monitor with two cameras, configured and active."""
    graph = Graph(tmp_path_factory.mktemp('logs'))
    graph.monitor = graph.start_monitor(
        *moody_arguments(
            moody_bundle, cameras=['front', 'rear'], exit_count=4, evidence_levle=0.1,
            trusted_package=['moody'],
            **{'front.exit_count': 6, 'rear.exit_cuont': 2, 'frnt.latch': True,
               'front.top_k': 2, 'qos_overrides./image.subscription.depth': 1,
               'use_sim_time': False},
        ),
        env=python_path(),
    )
    graph.wait_reason('no_image', START)
    yield graph
    graph.stop()


def message(name, value):
    untyped = {None: ParameterType.PARAMETER_NOT_SET, (): ParameterType.PARAMETER_INTEGER_ARRAY}
    kind = untyped.get(tuple(value) if isinstance(value, list) else value)
    given = get_parameter_value(json.dumps(value)) if kind is None else ParameterValue(type=kind)
    return Parameter(name=name, value=given)


def set_each(graph, wanted, node='/nav_monitor'):
    """Return the results of one set_parameters request, in the order of its parameters."""
    request = SetParameters.Request(parameters=[message(*pair) for pair in wanted])
    return graph.call(SetParameters, f'{node}/set_parameters', request).results


def set_all(graph, wanted, node='/nav_monitor'):
    request = SetParametersAtomically.Request(parameters=[message(*pair) for pair in wanted])
    return graph.call(SetParametersAtomically, f'{node}/set_parameters_atomically', request).result


def get(graph, *names, node='/nav_monitor'):
    answer = graph.call(GetParameters, f'{node}/get_parameters', GetParameters.Request(names=names))
    return [parameter_value_to_python(value) for value in answer.values]


# Related parameters.


@pytest.mark.parametrize('first', ['enter_count', 'enter_window'])
def test_values_that_fit_each_other_are_set_in_one_request_whatever_their_order(graph, first):
    wanted = {'enter_count': 8, 'enter_window': 10}
    pairs = sorted(wanted.items(), key=lambda pair: pair[0] != first)
    try:
        results = set_each(graph, [pairs[0], ('exit_count', 5), pairs[1]])
        assert [result.successful for result in results] == [True] * 3
        assert get(graph, 'enter_count', 'enter_window', 'exit_count') == [8, 10, 5]
        # Back again: now the other order is the one in which each alone would be refused.
        results = set_each(graph, [(pairs[1][0], 3), (pairs[0][0], 3), ('exit_count', 4)])
        assert [result.successful for result in results] == [True] * 3
    finally:
        set_all(graph, [('enter_count', 3), ('enter_window', 3), ('exit_count', 4)])


@pytest.mark.parametrize(
    'wanted',
    [
        [('enter_count', 8), ('enter_window', 5)],
        [('enter_window', 5), ('enter_count', 8)],
        [('enter_window', 10), ('enter_count', 8.5)],
        [('enter_count', 8), ('enter_window', 'ten')],
        [('evidence_rate', 0.01), ('false_alarms_per_hour', 1000.0)],
        [('front.enter_count', 8), ('front.enter_window', 5)],
        [('front.enter_window', 10), ('enter_count', 12), ('enter_window', 20)],
    ],
)
def test_a_request_leaves_no_half_of_what_belongs_together(graph, wanted):
    names = [name for name, _ in wanted]
    before = get(graph, *names)
    results = set_each(graph, [('latch', True), *wanted])
    assert [result.successful for result in results] == [True] + [False] * len(wanted)
    assert get(graph, 'latch', *names) == [True, *before]
    assert set_all(graph, [('latch', False)]).successful


def test_a_refusal_names_what_to_send_together(graph):
    (result,) = set_each(graph, [('enter_count', 8)])
    assert not result.successful
    assert result.reason.endswith('; set enter_count and enter_window in one request')
    (result,) = set_each(graph, [('front.enter_count', 8)])
    assert result.reason.startswith('camera front: enter_window (3) must not be below')
    assert result.reason.endswith('set front.enter_count and front.enter_window in one request')
    (result,) = set_each(graph, [('false_alarms_per_hour', 1e6), ('exit_count', 4)])[:1]
    assert result.reason.endswith('; set false_alarms_per_hour and evidence_rate in one request')
    result = set_all(graph, [('enter_count', 8), ('enter_window', 5)])
    assert not result.successful and 'in one request' not in result.reason


def test_an_atomic_request_that_ros_refuses_changes_nothing_in_the_node(graph):
    assert not set_all(graph, [('front.latch', True), ('use_sim_time', 'yes it is')]).successful
    assert get(graph, 'front.latch', 'use_sim_time') == [None, False]


def test_a_misspelt_parameter_that_is_set_is_refused_with_the_nearest_one(graph):
    said = "parameter 'exit_cuont' is unknown and has no effect; did you mean exit_count?"
    results = set_each(graph, [('exit_cuont', 1), ('exit_count', 4)])
    assert [(r.successful, r.reason) for r in results] == [(False, said), (True, '')]
    result = set_all(graph, [('exit_cuont', 1), ('latch', True)])
    assert (result.successful, result.reason) == (False, said)
    assert get(graph, 'latch') == [False]


# What one camera has of its own.


def test_what_a_camera_has_of_its_own_is_taken_back_by_deleting_it(graph):
    assert get(graph, 'front.exit_count', 'rear.exit_count', 'exit_count') == [6, None, 4]
    # Set: front's own window allows a count that the node's would not.
    assert set_all(graph, [('front.enter_window', 50), ('front.enter_count', 40)]).successful
    (result,) = set_each(graph, [('front.enter_window', None)])
    assert not result.successful and 'enter_window (3) must not be below' in result.reason
    results = set_each(graph, [('front.enter_window', None), ('front.enter_count', None)])
    assert [result.successful for result in results] == [True, True]
    assert get(graph, 'front.enter_window', 'front.enter_count', 'latch') == [None, None, False]
    # The node's hold for front again, and another value may be given.
    (result,) = set_each(graph, [('front.enter_count', 8)])
    assert 'enter_window (3)' in result.reason
    assert set_each(graph, [('front.enter_count', 2)])[0].successful
    assert get(graph, 'front.enter_count') == [2]
    assert set_each(graph, [('front.enter_count', None)])[0].successful
    # What was given at start does not come back either.
    assert set_all(graph, [('front.exit_count', None)]).successful
    assert get(graph, 'front.exit_count') == [None]
    assert set_all(graph, [('front.exit_count', 6)]).successful
    # Deleting what is not set changes nothing.
    assert set_each(graph, [('rear.exit_count', None)])[0].successful


def test_a_camera_without_a_region_of_its_own_has_the_nodes_again(graph):
    """Seen at the images: a region outside of them is refused, image by image."""
    feed = Feed(graph, 'rear')
    status = '/nav_monitor/rear/ood_status'
    graph.listen(DiagnosticArray, status, 1)

    def reason():
        return graph.heard[status][-1].status[0].message if graph.heard[status] else ''

    try:
        graph.wait(lambda: reason() in ('in_distribution', 'suspect'), START, 'trust in rear')
        assert set_each(graph, [('rear.roi', [0, 0, 20, 20])])[0].successful
        graph.wait(lambda: reason() == 'bad_image', 20, 'a region outside of the image')
        assert set_each(graph, [('rear.roi', None)])[0].successful
        graph.wait(lambda: reason() in ('in_distribution', 'suspect'), 20, 'trust again')
        assert get(graph, 'rear.roi', 'roi') == [None, [0, 0, 0, 0]]
    finally:
        feed.play(None)


def test_parameters_of_the_node_itself_are_not_deleted(graph):
    (result,) = set_each(graph, [('exit_count', None)])
    assert not result.successful
    assert result.reason == 'parameter exit_count cannot be deleted; its default is 5'
    assert get(graph, 'exit_count') == [4]
    (result,) = set_each(graph, [('front.image_transport', None)])
    assert not result.successful and 'read-only' in result.reason


# What is read in the configure transition.


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('bundle', 'digits'), ('backend', 'torch'), ('device', 'cpu'), ('torch_threads', 2),
        ('trusted_packages', ['moody', 'other']), ('score', 'pattern'), ('extra_scores', ['all']),
        ('evidence_level', 0.01), ('snapshot_service', '/snapshot'), ('top_k', 2),
    ],
)
def test_what_was_read_when_configuring_stays_while_it_is_in_force(graph, name, value):
    (before,) = get(graph, name)
    for result in (set_all(graph, [(name, value)]), *set_each(graph, [(name, value)])):
        assert not result.successful
        assert result.reason.startswith(
            f'parameter {name} is read in the configure transition, and stays {before!r}'
        )
    assert get(graph, name) == [before]
    assert set_all(graph, [(name, before), ('exit_count', 4)]).successful  # as it is


def test_what_is_read_when_configuring_is_set_before(graph):
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        result = set_all(graph, [('top_k', 1)])
        assert not result.successful  # inactive is configured, too
        assert change_state(graph, transition)
    assert set_all(graph, [('top_k', 1), ('score', 'energy')]).successful
    assert get(graph, 'top_k', 'score') == [1, 'energy']
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    status = graph.wait_diagnostic('model', 'bundle', 20)
    graph.wait(
        lambda: values(graph.wait_diagnostic('model', 'bundle', 20)).get('decisive_score')
        == 'energy',
        20, f'the score that was set; {status}',
    )
    assert not set_all(graph, [('top_k', 3)]).successful
    assert change_state(graph, Transition.TRANSITION_CLEANUP)
    assert set_all(graph, [('top_k', 3), ('score', 'fused')]).successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)


# Misspelt ones.

UNKNOWN = [
    "parameter 'evidence_levle' is unknown and has no effect; did you mean evidence_level?",
    "parameter 'frnt.latch' is unknown and has no effect: there is no camera 'frnt' (cameras are "
    'front, rear); did you mean front.latch?',
    "parameter 'front.top_k' is unknown and has no effect: top_k cannot be set for a single "
    'camera',
    "parameter 'rear.exit_cuont' is unknown and has no effect; did you mean rear.exit_count?",
    "parameter 'trusted_package' is unknown and has no effect; did you mean trusted_packages?",
    'parameter qos_overrides./image.subscription.depth has no effect: this node has no topic '
    '/image; did you mean /rear/image?',
]


def test_misspelt_parameters_are_told_in_log_and_diagnostics(graph):
    status = graph.wait_diagnostic('parameters', 'unknown', 10)
    assert status.level == b'\x01'
    assert status.message == f'{UNKNOWN[0]} (and 5 more)'
    assert values(status) == {'unknown': '; '.join(UNKNOWN)}
    log = graph.monitor.log.read_text()
    assert [log.count(line) for line in UNKNOWN] == [1] * 6
    assert log.count('is unknown and has no effect') == 5


@pytest.fixture
def other(tmp_path):
    graph = Graph(tmp_path)
    graph.listen(DiagnosticArray, '/diagnostics', 10)
    yield graph
    graph.stop()


def test_the_gate_tells_of_misspelt_parameters_too(other):
    gate = other.start('safety_stop', '-p', 'alert_timout:=0.3', '-p', 'stop_mode:=ramp')
    said = "parameter 'alert_timout' is unknown and has no effect; did you mean alert_timeout?"
    status = other.wait_diagnostic('parameters', said, START)
    assert status.level == b'\x01'
    assert said in gate.log.read_text()


@pytest.mark.parametrize('name', ['monitor', 'safety_stop'])
def test_a_parameter_file_for_another_node_is_in_the_diagnostics(other, tmp_path, name):
    path = tmp_path / 'params.yaml'
    path.write_text('safety_gate:\n  ros__parameters:\n    latch: true\n')
    other.start(name, '--params-file', str(path))
    status = other.wait_diagnostic('parameters', 'has no parameters for', START)
    assert status.level == b'\x01' and 'safety_gate' in values(status)['unknown']


def test_the_camera_tells_of_misspelt_parameters_too(other):
    camera = other.start_camera('sample:digits', '-p', 'frameid:=front')
    said = "parameter 'frameid' is unknown and has no effect; did you mean frame_id?"
    other.wait(lambda: said in camera.log.read_text(), START, 'the warning')


# Malformed ones.


def assert_malformed_are_refused(graph, node, name):
    """Send what no client library makes; good parameters beside it are set."""
    bad = Parameter(name=name, value=ParameterValue(type=99))
    nameless = Parameter(name='', value=ParameterValue(type=ParameterType.PARAMETER_BOOL))
    unheard = message('unheard_of', 3)
    good = message('use_sim_time', False)
    results = graph.call(
        SetParameters, f'{node}/set_parameters',
        SetParameters.Request(parameters=[bad, nameless, good, unheard]), START,
    ).results
    assert [result.successful for result in results] == [False, False, True, False]
    assert f"parameter '{name}' cannot be read: its type is 99; ROS has types 0 to 9" in (
        results[0].reason)
    assert all(result.reason for result in results if not result.successful)
    request = SetParametersAtomically.Request(parameters=[good, bad])
    result = graph.call(
        SetParametersAtomically, f'{node}/set_parameters_atomically', request).result
    assert not result.successful
    assert 'its type is 99' in result.reason
    assert set_each(graph, [('use_sim_time', False)], node)[0].successful  # it still lives


def test_the_monitor_refuses_malformed_parameters_and_goes_on(graph):
    assert_malformed_are_refused(graph, '/nav_monitor', 'latch')
    assert graph.monitor.poll() is None


def test_the_gate_refuses_malformed_parameters_and_goes_on(other):
    gate = other.start('safety_stop')
    assert_malformed_are_refused(other, '/safety_stop', 'latch')
    assert gate.poll() is None


def test_the_camera_refuses_malformed_parameters_and_goes_on(other):
    camera = other.start_camera('sample:digits')
    assert_malformed_are_refused(other, '/camera', 'rate')
    assert camera.poll() is None


# What a file may hold.


def test_empty_lists_and_numbers_in_any_form_start_the_node(other, tmp_path, moody_bundle):
    path = tmp_path / 'params.yaml'
    path.write_text(f"""
/**:
  ros__parameters:
    bundle: {moody_bundle}
    trusted_packages: [moody]
    cameras: []
    extra_scores: []
    roi: []
    image_timeout: 1e0
    evidence_level: 1e-2
    exit_count: 0x03
    stamp_tolerance: 2
""")
    other.start_monitor('--params-file', str(path), env=python_path())
    other.wait_reason('no_image', START)
    names = ('cameras', 'extra_scores', 'roi', 'image_timeout', 'evidence_level', 'exit_count',
             'stamp_tolerance')
    assert get(other, *names) == [[''], [''], [0, 0, 0, 0], 1.0, 0.01, 3, 2.0]
    assert other.wait_diagnostic('model', 'bundle', 10)
    told = [status.name for message in other.heard['/diagnostics'] for status in message.status]
    assert told and not [name for name in told if name.endswith(': parameters')]
    assert set_each(other, [('roi', [])])[0].successful


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('exit_count:=[]', 'parameter exit_count is [], a list; it must be of type int'),
        ('bundle:=[]', 'parameter bundle is [], a list; it must be of type string'),
        ('enter_count:=8', 'enter_window (3) must not be below enter_count (8)'),
        ('cameras:=[front, 9rear]', "parameter cameras names '9rear'; a name must start"),
        ('cameras:=[front, front]', "parameter cameras names 'front' twice"),
    ],
)
def test_a_start_that_cannot_succeed_is_one_line(other, given, said):
    monitor = other.start('monitor', '-p', given, env=python_path())
    assert monitor.wait(START) == 1
    log = monitor.log.read_text()
    assert said in log and 'Traceback' not in log and len(log.strip().splitlines()) == 1
