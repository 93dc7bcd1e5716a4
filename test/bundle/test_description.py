"""Descriptions and tensors that are malformed or contradict each other are refused in one line."""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import pytest
import tiny
from bundle_edits import read, refused, sign, write
from safetensors.numpy import load_file, save_file

from nav_monitor_ros.bundle import description as description_module
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.errors import NavMonitorError

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    'text',
    [
        b'{', b'a: b: c', b'\tx', b'', b'- 1', b'just text', b'\xff\xfe\x00', b'[' * 3000,
        b'!!python/object/apply:os.system ["true"]', b'&a [*a]', b'schema: 1\nfiles: *x',
    ],
)
def test_malformed_yaml_is_refused(bundle_copy, text):
    (bundle_copy / 'bundle.yaml').write_bytes(text)
    assert str(bundle_copy / 'bundle.yaml') in refused(bundle_copy)


def places(described, path=()):
    """Yield the path of every entry of a nested description."""
    entries = (
        described.items() if isinstance(described, dict)
        else enumerate(described) if isinstance(described, list) else ()
    )
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


ABSENT = object()


JUNK = [ABSENT, None, 'text', -1, 0.5, 10**30, float('nan'), float('inf'), [], {}, [[1, 2]]]


def test_no_entry_can_be_spoiled_without_a_clear_error(bundle_copy, monkeypatch):
    """Every entry of the description, replaced by junk: refused in one line, or harmless."""
    good = read(bundle_copy)
    image = tiny.PREPROCESS.apply(tiny.images(0, 1)[0][0])[None]
    refusals = 0
    for path in list(places(good)):
        only_for_people = path[0] in ('provenance', 'files') or path[1:2] in (
            ('notes',), ('images',)
        )
        alike = isinstance(path[-1], int) and path[-1] > 0
        if only_for_people or alike:
            continue
        for junk in JUNK:
            described = copy.deepcopy(good)
            parent = described
            for key in path[:-1]:
                parent = parent[key]
            if junk is ABSENT:
                del parent[path[-1]]
            else:
                parent[path[-1]] = junk
            monkeypatch.setattr(description_module, 'read_yaml', lambda path, d=described: d)
            try:
                loaded = load_bundle(bundle_copy)
                running = load_network(loaded, device='cpu', trusted_packages=['tiny'])
                if path[0] != 'preprocess':
                    verdict = loaded.judge().judge(running(image))
            except NavMonitorError as error:
                assert '\n' not in str(error), (path, junk)
                refusals += 1
            except Exception as error:
                raise AssertionError(f'{path} replaced by {junk!r}: {error!r}') from error
            else:
                assert 0 < verdict.p_value <= 1, (path, junk)
                # A threshold that is never reached would switch the monitor off in silence.
                # A single score without one cannot decide.
                left_out = junk is ABSENT and path[-1] not in ('p_thresholds', 'fused', 0)
                assert 'p_thresholds' not in path or junk == 0.5 or left_out, (path, junk)
    assert refusals > 200


@pytest.mark.parametrize('wrong', [[1e-300], [1e-5], [], [0.01, 0.01], [1.0]])
def test_a_threshold_that_no_p_value_reaches_is_refused(bundle_copy, wrong):
    described = read(bundle_copy)
    described['calibration']['p_thresholds']['fused'] = wrong
    write(bundle_copy, described)
    assert 'p_thresholds of fused' in refused(bundle_copy)


@pytest.mark.parametrize('fuse', [['energy'], ['energy', 'energy'], ['window_kl'], []])
def test_other_members_than_were_calibrated_are_refused(bundle_copy, fuse):
    described = read(bundle_copy)
    described['calibration']['fuse'] = fuse
    write(bundle_copy, described)
    assert 'fuse names' in refused(bundle_copy)


def test_a_budget_that_is_none_is_refused(bundle_copy):
    described = read(bundle_copy)
    described['calibration']['false_alarm_rate'] = 7.0
    write(bundle_copy, described)
    assert 'between 0 and 1' in refused(bundle_copy)


@pytest.mark.parametrize(
    'name', ['scores/box/high', 'scores/box/scale', 'calibration/fused/scores']
)
def test_infinite_tensors_which_would_switch_a_score_off_are_refused(bundle_copy, name):
    tensors = load_file(bundle_copy / 'monitor.safetensors')
    tensors[name] = np.full_like(tensors[name], np.inf)
    save_file(tensors, bundle_copy / 'monitor.safetensors')
    sign(bundle_copy)
    assert f'{name} holds values that are not finite' in refused(bundle_copy)


@pytest.mark.parametrize(
    'name', ['scores/vim/alpha', 'scores/mahalanobis/whitening', 'scores/vim/residual']
)
def test_tensors_of_zeros_which_would_switch_a_score_off_are_refused(bundle_copy, name):
    tensors = load_file(bundle_copy / 'monitor.safetensors')
    tensors[name] = np.zeros_like(tensors[name])
    save_file(tensors, bundle_copy / 'monitor.safetensors')
    sign(bundle_copy)
    assert 'is inconsistent; fit it again' in refused(bundle_copy)


def test_classes_that_were_added_or_removed_are_noticed(bundle_copy):
    good = read(bundle_copy)
    for names in (good['class_names'][:-1], [*good['class_names'], 'above']):
        write(bundle_copy, {**good, 'class_names': names})
        assert 'fit it again' in refused(bundle_copy)


def test_scores_without_class_dependence_still_notice_another_number_of_classes(tmp_path):
    classifier = tiny.classifier('pool')
    fitted = tiny.fitted(classifier, scores={'energy': {}, 'msp': {}}, fuse=('energy',))
    save_bundle(fitted, classifier, tmp_path / 'b', card='')
    write(tmp_path / 'b', {**read(tmp_path / 'b'), 'class_names': ['a', 'b']})
    assert 'the calibration of energy has other classes' in refused(tmp_path / 'b')


def test_a_layer_that_the_network_lacks_is_answered_with_those_that_it_has(bundle_copy):
    described = read(bundle_copy)
    described['monitor']['layer'] = 'avgpool'
    write(bundle_copy, described)
    said = refused(bundle_copy)
    assert "no layer 'avgpool'" in said and "5 'fc1', 6 'relu2', 7 'fc2'" in said


def test_another_layer_of_another_width_is_noticed(bundle_copy):
    described = read(bundle_copy)
    described['monitor']['layer'] = 'pool'
    write(bundle_copy, described)
    said = refused(bundle_copy)
    assert f'fitted to {tiny.WIDTH} neurons' in said and 'layer pool' in said and 'has 5' in said


def test_signed_tensors_that_are_missing_or_of_another_kind_are_refused(bundle_copy, monkeypatch):
    good, described = load_file(bundle_copy / 'monitor.safetensors'), read(bundle_copy)
    # Parsing YAML takes longer than all the rest, and is not what this is about.
    monkeypatch.setattr(description_module, 'read_yaml', lambda path: copy.deepcopy(described))
    for key, tensor in good.items():
        for spoiled in (
            None, tensor[..., :0], tensor[None], np.full(tensor.shape, -1, np.int16),
            np.full(tensor.shape, np.nan, np.float32),
        ):
            tensors = {k: t for k, t in good.items() if k != key}
            if spoiled is not None:
                tensors[key] = np.ascontiguousarray(spoiled)
            save_file(tensors, bundle_copy / 'monitor.safetensors')
            described['files']['monitor.safetensors'] = hashlib.sha256(
                (bundle_copy / 'monitor.safetensors').read_bytes()).hexdigest()
            try:
                load_bundle(bundle_copy)
            except NavMonitorError as error:
                assert '\n' not in str(error)
                assert 'was changed' not in str(error)
            except Exception as error:
                raise AssertionError(f'{key} as {spoiled!r}: {error!r}') from error
            else:
                # Values that cannot be told from fitted ones; what is missing or misshapen can.
                # A bundle of an earlier version lacks the list of training images.
                missing = spoiled is None and key == 'training_images/digests'
                assert missing or spoiled.shape == tensor.shape, key
                assert missing or not np.isnan(spoiled).any(), key
