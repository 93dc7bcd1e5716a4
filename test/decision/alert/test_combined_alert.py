"""Several cameras and one network, without ROS: batches, the combined alert."""

from pathlib import Path

import moody
import numpy as np
import pytest
import yaml

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.decision.alert.combined_alert import (
    MOST_SEVERE_FIRST,
    combine,
    combined_values,
)
from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.decision.judge import InvalidActivationsError
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.runtime.camera_names import MOST_CAMERAS
from nav_monitor_ros.runtime.camera_overrides import CameraValues
from nav_monitor_ros.runtime.monitor import Monitor, Observation, observe_batch
from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS, check_all


@pytest.fixture(scope='module')
def moody_monitor(tmp_path_factory):
    folder = moody.make_bundle(tmp_path_factory.mktemp('bundles') / 'moody')
    return Monitor(load_bundle(folder), device='cpu', trusted_packages=['moody'])


@pytest.fixture(scope='module')
def signs():
    return Monitor(load_bundle('traffic_signs'), device='cpu', also=['all'])


def gray(pixels):
    return DecodedImage(np.repeat(np.asarray(pixels, np.uint8)[..., None], 3, axis=2), 'rgb')


def plain(color):
    return gray(np.full((8, 8), color))


# One forward pass over the images of all cameras.


@pytest.mark.parametrize('count', [1, 2, 5])
def test_a_batch_is_judged_as_its_images_alone(signs, count):
    rng = np.random.default_rng(count)
    sizes = [(480, 640), (32, 32), (100, 30), (33, 45), (240, 320)][:count]
    pictures = [DecodedImage(rng.integers(0, 255, (*size, 3), np.uint8), 'bgr') for size in sizes]
    signs.judge.forget()
    alone = [signs.look(picture) for picture in pictures]
    signs.judge.forget()
    together = signs.observe_images(pictures)
    assert len(together) == count
    for one, other in zip(alone, together, strict=True):
        assert one.fingerprint == other.fingerprint
        np.testing.assert_allclose(
            other.activations.logits, one.activations.logits, rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(
            other.activations.features, one.activations.features, rtol=1e-4, atol=1e-4
        )
        assert one.verdict.class_index == other.verdict.class_index
        assert len(other.activations) == 1
        continuous = set(one.verdict.scores) & {'energy', 'max_logit', 'knn', 'mahalanobis'}
        assert len(continuous) >= 3
        for name in continuous:
            assert other.verdict.scores[name].score == pytest.approx(
                one.verdict.scores[name].score, rel=1e-3, abs=1e-3
            )


def test_tapped_maps_are_those_of_each_image(signs):
    rng = np.random.default_rng(7)
    pictures = [DecodedImage(rng.integers(0, 255, (40, 40, 3), np.uint8), 'rgb') for _ in range(3)]
    layer = signs.show_layer('')
    try:
        alone = [signs.look(picture).activations.maps[layer.name] for picture in pictures]
        together = [seen.activations.maps[layer.name] for seen in signs.observe_images(pictures)]
    finally:
        signs.show_layer(None)
    assert all(maps.shape == (1, *layer.shape) for maps in together)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
    assert not np.allclose(together[0], together[1])


def test_a_blank_image_among_others_is_named(signs):
    rng = np.random.default_rng(1)
    pictures = [DecodedImage(rng.integers(0, 255, (40, 40, 3), np.uint8), 'rgb'), plain(9)]
    with pytest.raises(ImageError, match='blank'):
        signs.observe_images(pictures, least_contrast=2.0)


@pytest.mark.parametrize('color', [(255, 0, 0), (0, 255, 0), (20, 90, 200), (0, 255, 255)])
def test_an_image_of_one_colour_is_blank_whichever_the_colour(signs, color):
    pixels = np.full((40, 40, 3), color, np.uint8)
    with pytest.raises(ImageError, match='blank'):
        signs.look(DecodedImage(pixels, 'rgb'), least_contrast=2.0)
    pixels[10:30, 10:30] //= 2  # something to see
    signs.look(DecodedImage(pixels, 'rgb'), least_contrast=2.0)


@pytest.mark.parametrize(
    ('color', 'error', 'words'),
    [
        (moody.NAN, InvalidActivationsError, 'not finite'),
        (moody.RAISE, RuntimeError, 'a kernel failed'),
        (moody.EXIT, NavMonitorError, 'the network Moody raised SystemExit: 3'),
    ],
)
@pytest.mark.parametrize('culprit', [0, 1, 2])
def test_an_image_on_which_the_network_fails_fails_alone(
    moody_monitor, color, error, words, culprit
):
    normal = [gray(pixels) for pixels in moody.images(3, 3)[0]]
    pictures = [plain(color) if i == culprit else normal[i] for i in range(3)]
    monitors = [moody_monitor.for_camera() for _ in pictures]
    found = observe_batch([
        (own, own.prepare(picture)) for own, picture in zip(monitors, pictures, strict=True)
    ])
    assert len(found) == len(pictures)
    for number, outcome in enumerate(found):
        if number == culprit:
            assert isinstance(outcome, error) and words in str(outcome)
        else:
            assert isinstance(outcome, Observation)
            alone = moody_monitor.look(pictures[number])
            assert outcome.verdict.class_index == alone.verdict.class_index


def test_each_camera_has_its_own_window_of_frames(tmp_path):
    folder = moody.make_bundle(tmp_path / 'moody')
    monitor = Monitor(
        load_bundle(folder), device='cpu', trusted_packages=['moody'], decisive='window_kl'
    )
    usual = [gray(pixels) for pixels in moody.images(3, 30)[0]]
    rng = np.random.default_rng(0)
    strange = [gray(np.clip(120 + rng.normal(0, 5, (8, 8)), 0, 255)) for _ in range(30)]
    left, right, alone = monitor.for_camera(), monitor.for_camera(), monitor.for_camera()
    for one, other in zip(usual, strange, strict=True):
        together = observe_batch([(left, left.prepare(one)), (right, right.prepare(other))])
        expected = alone.look(one)
    score = together[0].verdict.scores['window_kl'].score
    assert score == pytest.approx(expected.verdict.scores['window_kl'].score, rel=1e-3)
    assert together[1].verdict.scores['window_kl'].score > score


# The combined alert.


def said(reason, *, since=0.0, detail=''):
    value = reason not in (Reason.IN_DISTRIBUTION, Reason.SUSPECT)
    state = {
        Reason.IN_DISTRIBUTION: State.OK, Reason.SUSPECT: State.SUSPECT, Reason.OOD: State.OOD,
        Reason.LATCHED: State.OOD,
    }.get(reason, State.INVALID)
    return Alert(value, state, reason, detail, since)


@pytest.mark.parametrize('reason', list(Reason))
def test_one_cameras_alert_raises_the_combined_one_and_is_its_reason(reason):
    alone = said(reason, detail='why')
    for alerts in (
        {'front': said(Reason.IN_DISTRIBUTION), 'left': alone},
        {'left': alone, 'front': said(Reason.IN_DISTRIBUTION)},
    ):
        alert = combine(alerts)
        assert (alert.value, alert.state, alert.reason) == (alone.value, alone.state, reason)
        assert alert.detail == (
            '' if reason is Reason.IN_DISTRIBUTION else f'left: {reason.value} (why)'
        )


def test_no_reason_for_false_is_more_severe_than_one_for_true():
    assert sorted(MOST_SEVERE_FIRST) == sorted(Reason)
    values = [said(reason).value for reason in MOST_SEVERE_FIRST]
    assert values == sorted(values, reverse=True)


def test_every_camera_that_is_not_usual_is_named():
    alerts = {
        'front': said(Reason.SUSPECT, since=1.0), 'left': said(Reason.STALE_IMAGE, since=5.0),
        'right': said(Reason.IN_DISTRIBUTION), 'rear': said(Reason.STALE_IMAGE, since=3.0),
    }
    alert = combine(alerts)
    assert alert.value and alert.reason is Reason.STALE_IMAGE and alert.since == 3.0
    assert alert.detail == 'front: suspect; left: stale_image; rear: stale_image'
    values = combined_values(alerts)
    assert values['cameras'] == 'front left right rear' and values['alerted'] == 'left rear'
    assert values['front/reason'] == 'suspect' and values['front/alert'] is False


# Parameters.


@pytest.fixture
def defaults():
    return {parameter.name: parameter.default for parameter in PARAMETERS}


@pytest.mark.parametrize(
    ('cameras', 'words'),
    [
        (['front', '2nd'], "names '2nd'; a name must start with a letter"),
        (['a b'], "names 'a b'"),
        (['front/left'], "names 'front/left'"),
        (['_hidden'], "names '_hidden'"),
        (['a__b'], "names 'a__b'"),
        (['k' * 65], 'have at most 64 characters'),
        (['front', 'left', 'front'], "names 'front' twice"),
        (['score'], "names 'score', which is the name of a parameter"),
        ([f'c{i}' for i in range(MOST_CAMERAS + 1)], 'names 17 cameras; one node supports at'),
    ],
)
def test_names_that_cannot_be_topics_are_refused(defaults, cameras, words):
    with pytest.raises(NavMonitorError, match=words) as error:
        check_all({**defaults, 'cameras': cameras})
    assert '\n' not in str(error.value)


def test_a_camera_has_the_nodes_values_but_for_its_own(defaults):
    values = CameraValues(defaults, {'front': {'roi': [0, 0, 8, 8]}, 'left': {}})
    changed = values.changed({
        'image_timeout': 2, 'left.image_timeout': 3, 'nobody.roi': [1], 'use_sim_time': True,
    })
    assert changed.cameras == ('front', 'left')
    assert changed.of('front')['image_timeout'] == 2.0
    assert changed.of('left')['image_timeout'] == 3.0
    assert changed.of('front')['roi'] == [0, 0, 8, 8] and changed.of('left')['roi'] == [0] * 4
    assert values.of('left')['image_timeout'] == defaults['image_timeout']  # as it was
    assert 'use_sim_time' not in changed.common


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'left.image_timeout': -1.0}, 'left.image_timeout is -1.0; it must be 0.01 to 60'),
        ({'left.roi': [1, 2]}, 'camera left: parameter roi has 2 numbers'),
        ({'left.latch': 'no'}, "left.latch is 'no', a string"),
        ({'latch': None}, 'latch cannot be deleted; its default is False'),
        ({'roi': [0, 0, 0, 5]}, 'width and height must both'),
    ],
)
def test_a_wrong_value_for_one_camera_is_named_with_it(defaults, changes, words):
    values = CameraValues(defaults, {'front': {}, 'left': {}})
    with pytest.raises(NavMonitorError, match=words):
        values.changed(changes)


def test_the_example_has_values_that_the_node_takes(defaults):
    text = (Path(__file__).parents[3] / 'config' / 'four_cameras.yaml').read_text()
    (node, content), = yaml.safe_load(text).items()
    given = content['ros__parameters']
    assert node == '/**'
    own = {camera: given.pop(camera, {}) for camera in given['cameras']}
    assert set(given) <= set(defaults)
    values = CameraValues(defaults, {camera: {} for camera in own}).changed({
        **given,
        **{f'{camera}.{name}': v for camera, its in own.items() for name, v in its.items()},
    })
    assert values.own == own and values.cameras == ('front', 'left', 'right', 'rear')
    assert values.of('rear')['image_transport'] == 'compressed'
    assert values.of('left')['false_alarms_per_hour'] == 0.25
