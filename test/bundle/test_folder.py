"""A fitted monitor on disk: it comes back as it was, or is refused for a reason that is named."""

from __future__ import annotations

import copy
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from nav_monitor_ros.bundle import folder as bundle_module
from nav_monitor_ros.bundle.folder import find_bundle, load_bundle, save_bundle, shipped_bundles
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor

FILES = ('model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md')


def read(folder):
    return yaml.safe_load((folder / 'bundle.yaml').read_text())


def write(folder, described):
    (folder / 'bundle.yaml').write_text(yaml.safe_dump(described, sort_keys=False))


def sign(folder):
    """Write the hashes of the files as they are now."""
    described = read(folder)
    for name in FILES:
        described['files'][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write(folder, described)


def refused(folder):
    """Return the one line with which loading a bundle or building its network is refused."""
    with pytest.raises(NavMonitorError) as caught:
        load_bundle(folder).classifier(device='cpu', trusted_packages=['tiny'])
    assert '\n' not in str(caught.value)
    return str(caught.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The round trip.


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
    running = loaded.classifier(device='cpu', trusted_packages=['tiny'])
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
    assert described['schema'] == 2
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
    running = loaded.classifier(device='cpu', trusted_packages=['tiny'])
    assert running.width == 5


def test_its_network_needs_trust(tiny_bundle):
    with pytest.raises(NavMonitorError, match='--trust tiny'):
        tiny_bundle.classifier(device='cpu')


# What is missing or was changed.


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


@pytest.mark.parametrize('schema', [0, 1, '2', None, [2]])
def test_an_unknown_schema_is_refused(bundle_copy, schema):
    write(bundle_copy, {**read(bundle_copy), 'schema': schema})
    assert f'has schema {schema!r}, and this version reads 2' in refused(bundle_copy)


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
            monkeypatch.setattr(bundle_module, 'read_yaml', lambda path, d=described: d)
            try:
                loaded = load_bundle(bundle_copy)
                running = loaded.classifier(device='cpu', trusted_packages=['tiny'])
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
    assert "no layer 'avgpool'" in said and '5 fc1, 6 relu2, 7 fc2' in said


def test_another_layer_of_another_width_is_noticed(bundle_copy):
    described = read(bundle_copy)
    described['monitor']['layer'] = 'pool'
    write(bundle_copy, described)
    said = refused(bundle_copy)
    assert f'fitted to {tiny.WIDTH} neurons' in said and 'layer pool' in said and 'has 5' in said


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


def test_signed_tensors_that_are_missing_or_of_another_kind_are_refused(bundle_copy, monkeypatch):
    good, described = load_file(bundle_copy / 'monitor.safetensors'), read(bundle_copy)
    # Parsing YAML takes longer than all the rest, and is not what this is about.
    monkeypatch.setattr(bundle_module, 'read_yaml', lambda path: copy.deepcopy(described))
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
                assert spoiled is not None and spoiled.shape == tensor.shape, key
                assert not np.isnan(spoiled).any(), key


# Names that lead elsewhere.


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


@pytest.mark.parametrize('listed', [None, [], 'text', {}, ABSENT])
def test_hashes_cannot_be_left_out(bundle_copy, listed):
    described = read(bundle_copy)
    described['files'] = listed
    if listed is ABSENT:
        del described['files']
    write(bundle_copy, described)
    refused(bundle_copy)


# Finding one.


def test_a_folder_is_found_from_home(monkeypatch, tiny_folder):
    monkeypatch.setenv('HOME', str(tiny_folder.parent))
    assert find_bundle('~/tiny') == tiny_folder


def test_shipped_bundles_are_found_by_name(monkeypatch, tiny_folder, tmp_path):
    share = tmp_path / 'share'
    (share / 'bundles').mkdir(parents=True)
    (share / 'bundles' / 'bars').symlink_to(tiny_folder)
    (share / 'bundles' / 'no_bundle').mkdir()
    monkeypatch.setattr(bundle_module, '_share_folders', lambda: [tmp_path / 'empty', share])
    assert list(shipped_bundles()) == ['bars']
    assert load_bundle('bars').name == 'tiny'
    with pytest.raises(NavMonitorError, match=r'\(bars\)'):
        find_bundle('digits_')


# Writing.


def test_a_bundle_replaces_the_one_that_was_there(bundle_copy, tiny_bundle, tiny_classifier):
    (bundle_copy / 'exported').mkdir()
    (bundle_copy / 'exported' / 'network.onnx').write_text('of the old one')
    description = bundle_copy / 'bundle.yaml'
    described = yaml.safe_load(description.read_text())
    described['files']['exported/network.onnx'] = '0' * 64
    description.write_text(yaml.safe_dump(described))
    save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    assert (bundle_copy / 'MODEL_CARD.md').read_text() == '# new\n'
    assert not (bundle_copy / 'exported').exists()
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']
    load_bundle(bundle_copy)


def test_what_is_no_bundle_is_not_replaced(tiny_bundle, tiny_classifier, tmp_path):
    thesis = tmp_path / 'work' / 'thesis.txt'
    thesis.parent.mkdir()
    thesis.write_text('three years')
    for target in (thesis.parent, thesis):
        with pytest.raises(NavMonitorError, match='is not empty|is not a folder'):
            save_bundle(tiny_bundle, tiny_classifier, target, card='')
    assert thesis.read_text() == 'three years'
    assert [path.name for path in tmp_path.rglob('*')] == ['work', 'thesis.txt']


def test_an_empty_folder_is_filled_and_parents_are_made(tiny_bundle, tiny_classifier, tmp_path):
    (tmp_path / 'empty').mkdir()
    for folder in (tmp_path / 'empty', tmp_path / 'a' / 'b' / 'c'):
        save_bundle(tiny_bundle, tiny_classifier, folder, card='')
        assert load_bundle(folder).scores.keys() == tiny_bundle.scores.keys()


class PowerCutError(BaseException):
    """No error that code would expect."""


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), PowerCutError()])
@pytest.mark.parametrize('step', ['save_file', 'sha256_of', '_describe', 'write_yaml'])
def test_an_interrupted_save_leaves_the_old_bundle(
    bundle_copy, tiny_bundle, tiny_classifier, monkeypatch, step, error
):
    before = contents(bundle_copy)

    def fail(*_):
        raise error

    monkeypatch.setattr(bundle_module, step, fail)
    with pytest.raises((NavMonitorError, PowerCutError)) as caught:
        save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    if isinstance(error, OSError):
        assert str(caught.value) == f'cannot write {bundle_copy}: No space left on device'
    monkeypatch.undo()
    assert contents(bundle_copy) == before
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']
    load_bundle(bundle_copy)


@pytest.mark.parametrize('error', [OSError(5, 'Input/output error'), PowerCutError()])
@pytest.mark.parametrize('number', [1, 2])
def test_a_failure_while_folders_are_exchanged_leaves_the_old_bundle(
    bundle_copy, tiny_bundle, tiny_classifier, monkeypatch, number, error
):
    before = contents(bundle_copy)
    rename, calls = Path.rename, []

    def fail_once(path, target):
        calls.append(path)
        if len(calls) == number:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, 'rename', fail_once)
    with pytest.raises((NavMonitorError, PowerCutError)):
        save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    assert len(calls) >= number
    assert contents(bundle_copy) == before
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import tiny
from nav_monitor_ros.bundle import folder as bundle
from pathlib import Path
bundle.save_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
loaded = bundle.load_bundle({folder!r})
bundle.save_bundle(loaded, tiny.classifier(), Path({folder!r}), card='# new')
"""


def test_a_process_that_is_killed_while_saving_leaves_the_old_bundle(bundle_copy):
    before = contents(bundle_copy)
    script = KILLED.format(tests=str(Path(__file__).parents[1]), folder=str(bundle_copy))
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=Path(__file__).parents[2],
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, check=False, timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    assert contents(bundle_copy) == before
    load_bundle(bundle_copy)


def test_a_place_that_cannot_be_written_is_named(tiny_bundle, tiny_classifier, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(NavMonitorError, match='cannot write .*file/b'):
        save_bundle(tiny_bundle, tiny_classifier, tmp_path / 'file' / 'b', card='')


def test_a_bundle_can_be_read_by_everybody(tiny_folder):
    assert tiny_folder.stat().st_mode & 0o777 == 0o755


def test_a_monitor_starts_without_the_compiler_of_torch():
    """It takes as long to import as the rest of torch, and nothing here compiles."""
    code = (
        'import sys; from nav_monitor_ros.bundle.folder import load_bundle; '
        'from nav_monitor_ros.runtime.monitor import Monitor; '
        "Monitor(load_bundle('digits'), backend='torch'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], timeout=300, check=False).returncode == 0


def test_what_a_monitor_saw_stays_as_it_was_when_it_looks_again():
    monitor = Monitor(load_bundle('digits'), backend='torch')
    first, second = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    seen = monitor.look(DecodedImage(first, 'rgb'))
    features = seen.activations.features.copy()
    other = monitor.look(DecodedImage(second, 'rgb'))
    again = monitor.look(DecodedImage(first, 'rgb'))
    assert np.array_equal(seen.activations.features, features)
    assert again.verdict.scores == seen.verdict.scores != other.verdict.scores
    assert again.fingerprint == seen.fingerprint != other.fingerprint
    assert min(seen.forward_seconds, again.forward_seconds) > 0
