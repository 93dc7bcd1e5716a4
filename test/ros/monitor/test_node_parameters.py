"""Parameters at the start, also those that end it, and while the monitor runs."""

import shutil
import time

import pytest

pytest.importorskip('rclpy')


from moody_feed import START, get_parameter, moody_arguments, python_path, set_parameters  # noqa: E402

pytestmark = pytest.mark.ros


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
    assert "add it to the node's parameter trusted_packages" in monitor.log.read_text()


# Parameters while running.


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


def test_an_empty_list_is_stored_as_the_default_that_takes_effect(trusted):
    assert set_parameters(trusted, roi=[]).successful
    assert list(get_parameter(trusted, 'roi').integer_array_value) == [0, 0, 0, 0]


def test_a_read_only_parameter_stays(trusted):
    result = set_parameters(trusted, autostart=False)
    assert not result.successful and 'read-only' in result.reason
