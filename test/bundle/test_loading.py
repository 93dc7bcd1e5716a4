"""A bundle comes back as it was, or is refused for a reason that is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from bundle_edits import FILES, contents, read, refused, sign, write
from safetensors.torch import save_file as save_torch_file

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.errors import NavMonitorError


def test_a_bundle_comes_back_bit_for_bit(tiny_classifier, tmp_path):
    fitted = tiny.fitted(tiny_classifier)
    save_bundle(fitted, tiny_classifier, tmp_path / 'b', card='# card\n')
    loaded = load_bundle(tmp_path / 'b')
    for name in (
        'name', 'network', 'preprocess', 'layer', 'class_names', 'provenance'
    ):
        assert getattr(loaded, name) == getattr(fitted, name)
    assert list(loaded.scores) == list(fitted.scores)
    for name, (low, high) in fitted.layer_ranges.items():
        assert loaded.layer_ranges[name] == pytest.approx((low, high), rel=1e-5)
    frames = run(tiny_classifier, tiny.source(5, 100))
    running = load_network(loaded, device='cpu', trusted_packages=['tiny'])
    again = run(running, tiny.source(5, 100))
    assert np.array_equal(frames.logits, again.logits)
    ours, theirs = fitted.judge().p_values(frames), loaded.judge().p_values(again)
    assert list(ours) == list(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert np.array_equal(loaded.judge().thresholds, fitted.judge().thresholds)


def test_a_bundle_saved_again_is_the_same(tiny_bundle, tiny_folder, tiny_classifier, tmp_path):
    card = (tiny_folder / 'MODEL_CARD.md').read_text()
    save_bundle(tiny_bundle, tiny_classifier, tmp_path / 'b', card=card)
    assert contents(tmp_path / 'b') == contents(tiny_folder)


def test_a_person_can_read_it(tiny_folder):
    described = read(tiny_folder)
    assert described['schema'] == 3
    assert described['network'] == {
        'spec': 'tiny:Bars', 'arguments': {}, 'background': None
    }
    assert described['class_names'] == list(tiny.CLASSES)
    assert described['monitor']['layer'] == 'penultimate'
    assert set(described['files']) == set(FILES)
    assert {path.name for path in tiny_folder.iterdir()} == {'bundle.yaml', *FILES}
    assert not list(tiny_folder.parent.glob('.*'))


def test_another_layer_is_fitted_and_comes_back(tmp_path):
    classifier = tiny.classifier('pool')
    save_bundle(tiny.fitted(classifier), classifier, tmp_path / 'b', card='')
    loaded = load_bundle(tmp_path / 'b')
    assert loaded.layer == 'pool'
    assert next(iter(loaded.scores.values())).head is None
    running = load_network(loaded, device='cpu', trusted_packages=['tiny'])
    assert running.width == 5


def test_its_network_needs_trust(tiny_bundle):
    with pytest.raises(NavMonitorError, match='--trust tiny'):
        load_network(tiny_bundle, device='cpu')


@pytest.mark.parametrize('name', FILES)
def test_a_missing_file_is_named(bundle_copy, name):
    (bundle_copy / name).unlink()
    said = refused(bundle_copy)
    assert name in said and str(bundle_copy) in said and 'copy or fit it again' in said


@pytest.mark.parametrize('name', FILES)
def test_a_single_changed_bit_is_noticed(bundle_copy, name):
    content = bytearray((bundle_copy / name).read_bytes())
    content[-1] ^= 1
    (bundle_copy / name).write_bytes(content)
    said = refused(bundle_copy)
    assert f'{name} was changed' in said and 'SHA-256' in said


def test_a_folder_without_a_description_is_no_bundle(bundle_copy):
    (bundle_copy / 'bundle.yaml').unlink()
    assert 'it has no bundle.yaml' in refused(bundle_copy)


def test_a_bundle_that_does_not_exist_is_answered_with_those_that_do(tmp_path):
    assert 'neither a folder nor a shipped bundle' in refused(tmp_path / 'nothing')
    with pytest.raises(NavMonitorError, match='no bundle is given'):
        load_bundle('')


@pytest.mark.parametrize('schema', [0, 1, 2, '3', None, [3]])
def test_an_unknown_schema_is_refused(bundle_copy, schema):
    write(bundle_copy, {**read(bundle_copy), 'schema': schema})
    assert f'has schema {schema!r}, but this version reads 3' in refused(bundle_copy)


def test_the_weights_of_another_network_are_refused(bundle_copy):
    save_torch_file(tiny.Bars(classes=4).state_dict(), bundle_copy / 'model.safetensors')
    assert 'was changed' in refused(bundle_copy)
    sign(bundle_copy)
    assert 'do not fit the network' in refused(bundle_copy)
    save_torch_file(tiny.Bars(width=9).state_dict(), bundle_copy / 'model.safetensors')
    sign(bundle_copy)
    described = read(bundle_copy)
    described['network']['arguments'] = {'width': 9}
    write(bundle_copy, described)
    assert f'was fitted to {tiny.WIDTH} neurons' in refused(bundle_copy)


def test_signed_garbage_is_refused(bundle_copy):
    for name in ('model.safetensors', 'monitor.safetensors'):
        (bundle_copy / name).write_bytes(b'\xff' * 50)
        sign(bundle_copy)
        assert name in refused(bundle_copy)


def test_listed_names_cannot_lead_out_of_the_folder(bundle_copy, monkeypatch):
    described = read(bundle_copy)
    described['files'].update({'../secret': '0' * 64, '/etc/hostname': '0' * 64, '': '0' * 64})
    write(bundle_copy, described)
    opened = []
    plain_open = Path.open

    def note(path, *args, **kwargs):
        opened.append(path)
        return plain_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, 'open', note)
    load_bundle(bundle_copy)
    assert opened and {path.parent for path in opened} == {bundle_copy}


@pytest.mark.parametrize('name', FILES)
def test_a_file_cannot_be_exchanged_for_one_elsewhere(bundle_copy, name):
    described = read(bundle_copy)
    described['files'][f'../copy/{name}'] = described['files'].pop(name)
    write(bundle_copy, described)
    assert f'{name} was changed' in refused(bundle_copy)


@pytest.mark.parametrize('listed', [None, [], 'text', {}, 'absent'])
def test_hashes_cannot_be_left_out(bundle_copy, listed):
    described = read(bundle_copy)
    described['files'] = listed
    if listed == 'absent':
        del described['files']
    write(bundle_copy, described)
    refused(bundle_copy)
