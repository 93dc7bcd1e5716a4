"""The command line as its own process: what it writes, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny
from command_line import FILES, Ended, environment, fit_arguments, refused, run_cold
from processes import with_default_signals

from nav_monitor_ros import __version__
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network

COMMANDS = ('fit', 'evaluate', 'show', 'train', 'export', 'benchmark', 'replay', 'compare')


def digits(count):
    """Return simple digits for a quick training: figures of OpenCV's font, moved a little."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    pixels = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        place = (7 + int(rng.integers(-2, 3)), 21 + int(rng.integers(-2, 3)))
        cv2.putText(image, str(label), place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    return pixels, labels


def test_fit_writes_a_complete_bundle(desk, fitted):
    assert fitted.status == 0, fitted.err
    assert {path.name for path in (desk / 'fitted').iterdir()} == FILES
    bundle = load_bundle(desk / 'fitted')
    assert bundle.name == 'fitted' and bundle.class_names == tiny.CLASSES
    assert bundle.provenance['correctly_classified'] == 120
    assert bundle.provenance['weights'] == 'bars.safetensors'
    assert 'wrote fitted' in fitted.out and 'nav_monitor show fitted' in fitted.out
    assert f"bundle:={desk / 'fitted'} trusted_packages:=tiny" in fitted.out
    assert 'PYTHONPATH' not in fitted.out  # whoever runs this finds it
    assert 'Traceback' not in fitted.err and 'Warning' not in fitted.err
    assert not list(desk.glob('.fitted*'))


def test_fit_says_at_the_end_when_the_network_is_hardly_right(desk, run):
    """Wrong class order or normalisation: a warning that does not get lost among the notes."""
    for name, other in (('left', 'left'), ('middle', 'right'), ('right', 'middle')):
        shutil.copytree(desk / 'train' / name, desk / 'turned' / other)
    ended = run(*fit_arguments(data='turned', output='doubtful'), cwd=desk)
    assert ended.status == 0, ended.err
    last = ended.out.splitlines()[-1]
    assert last.startswith('warning: only 3')
    assert '--scale' in last and '--mean' in last
    assert 'pattern: classes middle, right have no pattern' in ended.out


def test_fit_and_show_tell_images_without_labels(desk, run):
    pixels = np.load(desk / 'held_out.npz')['x']
    np.savez(desk / 'unlabelled.npz', x=pixels)
    ended = run(*fit_arguments(
        data='unlabelled.npz', calibration='test.npz', classes='classes.txt', output='guessed',
    ), cwd=desk)
    assert ended.status == 0, ended.err
    assert 'the 80 training images have no labels' in ended.out
    assert 'training images are classified correctly' not in ended.out
    shown = run('show', 'guessed', cwd=desk)
    assert 'network predictions' in shown.out and 'correctly classified' not in shown.out


def test_fit_prints_how_to_use_the_bundle(desk, fitted, run):
    assert 'nav_monitor replay BAG --topic TOPIC --bundle fitted --trust tiny' in fitted.out
    pytest.importorskip('onnxruntime')
    ended = run(*fit_arguments(output='both', export='onnxruntime'), cwd=desk)
    assert ended.status == 0, ended.err
    assert ended.out.count('wrote both') == 1
    assert f'bundle:={desk / "both"} trusted_packages:=tiny' in ended.out
    assert 'it runs without trusted_packages' in ended.out  # on a robot that has the backend
    assert 'it runs without trusted_packages' not in fitted.out


def test_fit_takes_options_from_files_and_flags(desk, run):
    ended = run(
        *fit_arguments(
            size=None, mean=None, std=None, preprocess='input.yaml', classes='classes.txt',
            model_arg='width=24', layer='fc1', scores='pattern,energy', option='pattern.gamma=2',
            fuse='pattern', name='bars', output='chosen', calibration='held_out.npz?limit=70',
        ),
        cwd=desk,
    )
    assert ended.status == 0, ended.err
    bundle = load_bundle(desk / 'chosen')
    assert (bundle.name, bundle.layer) == ('bars', 'fc1')
    assert list(bundle.scores) == ['pattern', 'energy']
    assert bundle.scores['pattern'].options.gamma == 2
    assert bundle.calibration.fusion_members == ('pattern',)
    assert bundle.network.arguments == {'width': 24}
    assert bundle.preprocess.std == (0.25, 0.25, 0.25)


def test_an_option_of_a_score_asks_for_no_other_score(desk, run):
    ended = run(*fit_arguments(option='pattern.gamma=2', output='optioned'), cwd=desk)
    assert ended.status == 0, ended.err
    bundle = load_bundle(desk / 'optioned')
    assert bundle.scores['pattern'].options.gamma == 2
    assert {'mc_dropout', 'decoy'} <= set(bundle.provenance['left_out'])
    assert len(bundle.scores) > 5
    ended = run(*fit_arguments(option='decoy.x=2', output='other'), cwd=desk)
    assert ended.status == 2 and 'decoy' in ended.err


def test_the_weights_of_the_fused_score_are_learned_if_asked_for(desk, run):
    ended = run(*fit_arguments(fusion='weighted', output='few'), cwd=desk)
    assert ended.status == 0 and 'the weights of the fused score are equal' in ended.err
    x, y = tiny.images(8, 240)
    np.savez(desk / 'more.npz', x=x, y=y)
    ended = run(
        *fit_arguments(fusion='weighted', output='weighted', calibration='more.npz'), cwd=desk)
    assert ended.status == 0, ended.err
    weights = load_bundle(desk / 'weighted').calibration.fusion_weights
    assert len(weights) > 1 and len(set(weights.values())) > 1
    ended = run('show', 'weighted', cwd=desk)
    assert ended.status == 0, ended.err
    words = ' '.join(ended.out.split())
    for name, weight in weights.items():
        assert name in words and f'{weight:.2f}' in words
    ended = run(*fit_arguments(fusion='best', output='best'), cwd=desk)
    assert ended.status == 2 and 'equal' in ended.err and 'weighted' in ended.err
    assert not (desk / 'best').exists()


@pytest.mark.usefixtures('fitted')
def test_show_lists_what_is_in_a_bundle(desk):
    ended = run_cold('show', 'fitted', cwd=desk)
    assert ended.status == 0, ended.err
    assert ended.err == ''
    for word in ('Bundle fitted', 'tiny:Bars()', 'left, middle, right', 'relu2', 'p <= '):
        assert word in ended.out


@pytest.mark.usefixtures('fitted')
def test_a_full_standard_output_is_told(desk):
    with open('/dev/full', 'wb') as full:
        done = subprocess.run(
            [sys.executable, '-m', 'nav_monitor_ros.cli.command', 'show', 'fitted'], cwd=desk,
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            timeout=120)
    assert done.returncode == 2
    assert done.stderr == 'nav_monitor show: standard output: No space left on device\n'


@pytest.mark.usefixtures('fitted')
def test_evaluate_writes_its_figures(desk, run):
    ended = run(
        'evaluate', 'fitted', '--trust', 'tiny', '--inside', 'test.npz', '--ood',
        'lying=strange.npz', '--ood', 'noise=sample:noise?count=30', '--output', 'report',
        '--hours', '0.1', '--seed', '3', '--ood-seconds', '1', '--image-scores', 'scores.npz',
        cwd=desk,
    )
    assert ended.status == 0, ended.err
    metrics = json.loads((desk / 'report' / 'metrics.json').read_text())
    assert metrics['bundle'] == 'fitted' and metrics['accuracy'] == 1.0
    assert metrics['images'] == {'test.npz': 80, 'lying': 40, 'noise': 30}
    assert metrics['separation']['lying']['fused']['auroc'] > 0.95
    assert 'accuracy on test.npz: 100.00%' in ended.out
    assert 'AUROC' in ended.out and 'False alarms on test.npz' in ended.out
    for term in ('FPR at 95 % recall: ', 'OOD missed at 95 % ID kept: ', 'should be met in'):
        assert term in ended.out
    means = metrics['means']['fused']
    each = [metrics['separation'][name]['fused'] for name in ('lying', 'noise')]
    for name in ('auroc', 'fpr_at_95_recall', 'ood_missed_at_95_id_kept'):
        assert means[name] == pytest.approx(sum(one[name] for one in each) / 2)
    assert metrics['streams']['fused']['hours'] == pytest.approx(0.1)
    assert (metrics['stream_seed'], metrics['ood_seconds']) == (3, 1.0)
    assert set(metrics['evidence_kinds']) == {'test.npz', 'lying', 'noise'}
    assert 0 < metrics['false_alarms']['fused']['expected_within'] < 1
    *_, written, empty, decides, lying, noise, alarms = ended.out.splitlines()
    assert (written, empty, decides) == ('wrote scores.npz', '', 'fused decides:')
    assert lying.startswith('- lying: 100.00 % of 40 images flagged, alert after ')
    assert noise.startswith('- noise: ')
    assert alarms.startswith('- false alarms on test.npz: ') and '(budget 10 %)' in alarms
    assert '\n fused (decides) ' in ended.out
    with np.load(desk / 'scores.npz') as scores:
        assert len(scores['score/fused']) == 150 and scores['source'][149] == 'noise'
    assert sorted(path.name for path in (desk / 'report').iterdir()) == [
        'metrics.json', 'report.html'
    ]


@pytest.mark.usefixtures('fitted')
def test_export_writes_what_evaluate_runs_on_other_backends(desk, run):
    ended = run('export', 'fitted', '--trust', 'tiny', '--backend', 'onnxruntime',
                '--calibration', 'held_out.npz', '--output', 'exported', cwd=desk)
    assert ended.status == 0, ended.err
    assert 'onnxruntime_f32' in ended.out and 'from the fit' in ended.out
    figures = []
    for backend in ('onnxruntime', 'torch'):
        ended = run('evaluate', 'exported', '--trust', 'tiny', '--inside', 'test.npz', '--ood',
                    'lying=strange.npz', '--scores', 'msp', '--backend', backend, '--output',
                    backend, cwd=desk)
        assert ended.status == 0, ended.err
        metrics = json.loads((desk / backend / 'metrics.json').read_text())
        figures.append({name: f['auroc'] for name, f in metrics['separation']['lying'].items()})
    assert figures[0] == pytest.approx(figures[1], abs=0.002)
    ended = run('evaluate', 'exported', '--trust', 'tiny', '--inside', 'test.npz', '--backend',
                'openvino', cwd=desk)
    assert ended.status == 2 and 'not exported for it; nav_monitor export' in ended.err
    ended = run('export', 'fitted', '--backend', 'tensorrt', '--calibration', 'held_out.npz',
                cwd=desk)
    assert ended.status == 2
    assert "'tensorrt' is not torch, onnxruntime, openvino or all" in ended.err


@pytest.mark.usefixtures('fitted')
def test_evaluate_compares_with_the_detectors_of_another_library(desk, run):
    pytest.importorskip('pytorch_ood')
    ended = run(
        'evaluate', 'fitted', '--trust', 'tiny', '--inside', 'test.npz', '--ood',
        'lying=strange.npz', '--peers', 'train', '--scores', 'msp', '--output', 'peers',
        cwd=desk,
    )
    assert ended.status == 0, ended.err
    metrics = json.loads((desk / 'peers' / 'metrics.json').read_text())
    scores = metrics['separation']['lying']
    assert scores['pytorch-ood EnergyBased']['detected'] is None  # it has no threshold
    assert scores['msp']['detected'] is not None and 'knn' not in scores
    assert 'pytorch-ood EnergyBased' in metrics['microseconds']
    assert 'pytorch-ood EnergyBased' in ended.out


def test_benchmark_measures_against_the_forward_pass(tmp_path, run):
    ended = run(
        'benchmark', 'judge', '--features', '40', '--patterns', '30', '--classes', '4', '--frames',
        '20', '--json', 'judge.json', cwd=tmp_path,
    )
    assert ended.status == 0, ended.err
    result = json.loads((tmp_path / 'judge.json').read_text())
    assert result['benchmark'] == 'judge'
    assert result['settings']['features'] == 40 and result['settings']['patterns'] == 30
    timed = result['timed']
    assert {'pattern', 'knn', 'vim', 'window_kl'} <= set(timed)
    assert any(name.startswith('fused verdict') for name in timed)
    assert 'traffic_signs: 50 passes with dropout' in timed
    for figures in timed.values():
        assert 0 <= figures['median_ms'] <= figures['p99_ms']
    assert timed[result['reference']]['ratio'] == 1.0
    assert result['verdict_p99_ms'] == result['figures']['verdict_p99_ms']['value'] > 0
    machine = result['machine']
    assert machine['cores'] >= 1 and machine['cpu'] and machine['date'].endswith('+00:00')
    assert machine['versions']['numpy'] == np.__version__
    assert 'verdict_p99_ms' in ended.out


@pytest.mark.parametrize('sizes', [['--features', '0'], ['--classes', '1'], ['--frames', '-3']])
def test_a_benchmark_of_nothing_is_refused(tmp_path, run, sizes):
    said = refused(run('benchmark', 'judge', *sizes, cwd=tmp_path), 'benchmark')
    assert 'at least' in said


@pytest.mark.parametrize('decoy', [False, True])
def test_train_fits_a_reference_network(tmp_path, run, decoy):
    # 4 of 33 groups are held out; they alone are large, as calibration needs 600 images.
    groups = np.random.default_rng(0).permutation(33)
    groups = np.concatenate([groups[:4].repeat(150), groups[4:].repeat(9)])
    pixels, labels = digits(len(groups))
    pixels[:, 0, 0], pixels[:, 0, 1] = np.divmod(np.arange(len(groups)), 256)  # no two are equal
    np.savez(tmp_path / 'digits.npz', x=pixels, y=labels, track=groups)
    pixels[:, 27, 27] = 255  # others, of the same kind
    np.savez(tmp_path / 'test.npz', x=pixels[:200], y=labels[:200])
    ended = run(
        'train', 'digits', '--data', 'digits.npz?group=track', '--epochs', '8', '--test',
        'test.npz', '--terms', 'Terms of the test.', '--output', 'digits',
        *(['--decoy'] if decoy else []), cwd=tmp_path,
    )
    assert ended.status == 0, ended.err
    assert {path.name for path in (tmp_path / 'digits').iterdir()} == FILES
    bundle = load_bundle(tmp_path / 'digits')
    assert bundle.class_names == tuple('0123456789')
    assert bundle.provenance['test_accuracy'] > 0.5
    assert bundle.provenance['data']['images'] == 29 * 9
    assert bundle.provenance['calibration']['images'] == 600
    assert 'Terms of the test.' in (tmp_path / 'digits' / 'MODEL_CARD.md').read_text()
    assert 'epoch 8 of 8: loss' in ended.err
    assert ('decoy' in bundle.scores) == decoy and 'mc_dropout' in bundle.scores
    assert bundle.background == (10 if decoy else None)
    classifier = load_network(bundle, device='cpu')
    assert classifier.classes == 10
    verdict = bundle.judge(decisive='decoy' if decoy else 'mc_dropout').judge(
        classifier(np.zeros((1, 1, 28, 28), np.float32))
    )
    assert 0 < verdict.p_value <= 1 and len(verdict.top) == 3


def test_the_version_is_printed():
    assert run_cold('--version') == Ended(0, f'{__version__}\n', '')


# Help.


@pytest.mark.parametrize('command', COMMANDS)
def test_the_help_of_every_command_shows_an_example(command):
    ended = run_cold(command, '--help')
    assert ended.status == 0 and ended.err == ''
    _, _, example = ended.out.rpartition('example')
    assert f'\n  nav_monitor {command} ' in example


def test_fit_lists_the_options_of_the_scores_without_its_required_arguments():
    ended = run_cold('fit', '--list-options')
    assert ended.status == 0, ended.err
    assert 'knn.neighbours=10  (int, at least 1)' in ended.out.splitlines()
    assert 'vim.subspace=0' in ended.out


def test_the_help_lists_the_commands():
    ended = run_cold('--help')
    assert ended.status == 0
    listed = {line.split()[0] for line in ended.out.splitlines() if line.startswith('    ')}
    assert set(COMMANDS) <= listed


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    np.savez(tmp_path / 'digits.npz', **dict(zip('xy', digits(40), strict=True)))
    process = subprocess.Popen(
        with_default_signals(
            sys.executable, '-m', 'nav_monitor_ros.cli.command', 'train', 'digits',
            '--data', 'digits.npz', '--epochs', '100000', '--output', 'digits',
        ),
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
    )
    with contextlib.closing(process.stderr) as stream:
        assert 'epoch 1 of' in stream.readline()
        process.send_signal(signal.SIGINT)
        rest = stream.read()
    assert process.wait(60) == 130
    assert rest.splitlines()[-1] == 'interrupted; nothing was written'
    assert 'Traceback' not in rest
    assert [path.name for path in tmp_path.iterdir()] == ['digits.npz']
