"""The command line as its own process: what it writes, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from processes import with_default_signals
from safetensors.torch import save_file

from nav_monitor_ros import __version__
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.views.activation_maps import MAX_WIDTH, MIN_WIDTH

ROOT = Path(__file__).parents[2]
COMMANDS = ('fit', 'evaluate', 'show', 'train', 'export', 'benchmark', 'replay', 'compare')
FILES = {'bundle.yaml', 'model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md'}


def environment():
    paths = [str(ROOT), str(ROOT / 'test'), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return {
        **os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'OMP_NUM_THREADS': '1',
        'COLUMNS': '200',
    }


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    out: str
    err: str


def run_cold(*arguments, cwd=ROOT):
    """Run ``nav_monitor`` as a person does."""
    done = subprocess.run(
        [sys.executable, '-m', 'nav_monitor_ros.cli.command', *map(str, arguments)], cwd=cwd,
        env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


# Imports what the commands import, then forks one process for each command: importing torch takes
# seconds, as does tidying up after it, and there are many commands.
STARTER = """
import gc, json, os, runpy, sys, traceback
import nav_monitor_ros.bundle.networks, nav_monitor_ros.bundle.saving
import nav_monitor_ros.evaluation.evaluate
import nav_monitor_ros.fitting.train
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(order['cwd'])
        for number, name in ((0, os.devnull), (1, order['out']), (2, order['err'])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        sys.argv[1:] = order['arguments']
        status = 1
        try:
            runpy.run_module('nav_monitor_ros.cli.command', run_name='__main__', alter_sys=True)
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return a function that runs ``nav_monitor`` as a process of its own, quickly."""
    folder = tmp_path_factory.mktemp('output')
    starter = subprocess.Popen(
        [sys.executable, '-c', STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(), cwd=ROOT,
    )

    def run_warm(*arguments, cwd=ROOT):
        out, err = (folder / f'{name}-{time.monotonic_ns()}' for name in ('out', 'err'))
        order = {
            'arguments': [*map(str, arguments)], 'cwd': str(cwd), 'out': str(out), 'err': str(err)
        }
        starter.stdin.write(json.dumps(order) + '\n')
        starter.stdin.flush()
        return Ended(int(starter.stdout.readline()), out.read_text(), err.read_text())

    yield run_warm
    starter.stdin.close()
    starter.wait(30)
    starter.stdout.close()


@pytest.fixture(scope='module')
def desk(tmp_path_factory):
    """Return a folder with weights and images as a person has them."""
    folder = tmp_path_factory.mktemp('desk')
    for number, (image, label) in enumerate(zip(*tiny.images(1, 120), strict=True)):
        path = folder / 'train' / tiny.CLASSES[label] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[:, :, ::-1])
    for name, seed in (('held_out', 2), ('test', 3)):
        pixels, labels = tiny.images(seed, 80)
        np.savez(folder / f'{name}.npz', x=pixels, y=labels)
    np.savez(folder / 'strange.npz', x=tiny.strange(4, 40))
    save_file(tiny.network().state_dict(), folder / 'bars.safetensors')
    save_file(tiny.Bars(classes=4).state_dict(), folder / 'four.safetensors')
    torch.save(tiny.network(), folder / 'whole.pth')
    (folder / 'classes.txt').write_text('left\nmiddle\nright\n')
    (folder / 'two.txt').write_text('left\nright\n')
    (folder / 'empty').mkdir()
    (folder / 'input.yaml').write_text(
        'height: 12\nwidth: 12\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\n'
    )
    (folder / 'not_yaml').write_text('a: [')
    return folder


def digits(count):
    """Return simple digits for a quick training: figures of OpenCV's font, moved a little."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    pixels = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        place = (7 + int(rng.integers(-2, 3)), 21 + int(rng.integers(-2, 3)))
        cv2.putText(image, str(label), place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    return pixels, labels


FIT = {
    '--model': 'tiny:Bars', '--weights': 'bars.safetensors', '--data': 'train',
    '--calibration': 'held_out.npz', '--size': '12x12', '--mean': '0.5,0.5,0.5',
    '--std': '0.25,0.25,0.25', '--false-alarm-rate': '0.1', '--output': 'fitted',
}


def fit_arguments(**changes):
    """Return the arguments of a fit that works, with some options changed."""
    options = {**FIT, **{f'--{name.replace("_", "-")}': value for name, value in changes.items()}}
    return ['fit', *(part for pair in options.items() if pair[1] is not None for part in pair)]


def refused(ended, command):
    """Return the one line with which a command that ended with status 2 was refused."""
    assert ended.status == 2, ended
    assert ended.out == ''
    assert ended.err.endswith('\n') and ended.err.count('\n') == 1, ended.err
    assert ended.err.startswith(f'nav_monitor {command}: ')
    return ended.err.strip()


# What works.


@pytest.fixture(scope='module')
def fitted(desk):
    """Return how a cold fit ended."""
    return run_cold(*fit_arguments(), cwd=desk)


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


@pytest.mark.usefixtures('fitted')
def test_show_lists_what_is_in_a_bundle(desk):
    ended = run_cold('show', 'fitted', cwd=desk)
    assert ended.status == 0, ended.err
    assert ended.err == ''
    for word in ('Bundle fitted', 'tiny:Bars()', 'left, middle, right', 'relu2', 'p <= '):
        assert word in ended.out


# One process for all commands: importing takes longer than refusing.
MANY = """
import json, sys
from nav_monitor_ros.cli import main
for arguments in json.load(sys.stdin):
    print('status', main.main(arguments), file=sys.stderr)
"""


def refusals(desk, commands, lacking=()):
    """Return the line of each command, which must be one, with the status 2."""
    done = subprocess.run(
        [*lacking, sys.executable, '-c', MANY], cwd=desk, env=environment(), text=True,
        input=json.dumps(commands), capture_output=True, check=False, timeout=120)
    lines = done.stderr.splitlines()
    assert lines[1::2] == ['status 2'] * len(commands), done.stderr
    return lines[::2]


FIT_TINY = ['fit', '--model', 'tiny:Bars', '--size', '12x12', '--calibration', 'held_out.npz',
            '--device', 'cpu']


def commands_on(path):
    """Return commands that read or write there, each in another way."""
    weights = ['--weights', 'bars.safetensors']
    return [
        ['show', path],
        ['evaluate', 'fitted', '--inside', path, '--trust', 'tiny'],
        ['replay', path],
        ['replay', path, 'other', '--csv', 'judged'],
        ['replay', 'bag', '--params', f'{path}/monitor.yaml'],
        ['compare', path, 'b.csv'],
        ['compare', 'a.csv', 'b.csv', '--csv', path],
        ['compare', 'a.csv', 'b.csv', '--html', f'{path}/page.html'],
        [*FIT_TINY, *weights, '--data', path, '--output', 'new'],
        [*FIT_TINY, *weights, '--data', 'train', '--output', path],
        [*FIT_TINY, *weights, '--data', 'train', '--output', f'{path}/new'],
        [*FIT_TINY, '--weights', f'{path}/weights.pth', '--data', 'train', '--output', 'new'],
        ['train', 'digits', '--weights', f'{path}/w.pth', '--output', f'{path}/new'],
    ]


@pytest.mark.usefixtures('fitted')
def test_a_folder_that_may_not_be_read_is_named(desk):
    (desk / 'closed').mkdir(mode=0)
    own = ['setpriv', '--bounding-set=-dac_override,-dac_read_search']  # what lets root read all
    try:
        said = refusals(desk, commands_on('closed'), own if os.geteuid() == 0 else ())
    finally:
        (desk / 'closed').rmdir()
    for line in said:
        assert 'closed' in line and ('Permission denied' in line or 'it is a folder' in line)


@pytest.mark.usefixtures('fitted')
def test_a_name_that_is_too_long_is_named(desk):
    for line in refusals(desk, commands_on('n' * 300)):
        assert 'n' * 300 in line and 'File name too long' in line


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
        cwd=desk,
    )
    assert ended.status == 0, ended.err
    metrics = json.loads((desk / 'report' / 'metrics.json').read_text())
    assert metrics['bundle'] == 'fitted' and metrics['accuracy'] == 1.0
    assert metrics['images'] == {'test.npz': 80, 'lying': 40, 'noise': 30}
    assert metrics['separation']['lying']['fused']['auroc'] > 0.95
    assert 'accuracy on test.npz: 100.00%' in ended.out
    assert 'AUROC' in ended.out and 'False alarms on test.npz' in ended.out
    assert sorted(path.name for path in (desk / 'report').iterdir()) == [
        'metrics.json', 'report.html'
    ]


@pytest.mark.usefixtures('fitted')
def test_export_writes_what_evaluate_runs_on_other_backends(desk, run):
    ended = run('export', 'fitted', '--trust', 'tiny', '--backend', 'onnxruntime',
                '--calibration', 'held_out.npz', '--output', 'exported', cwd=desk)
    assert ended.status == 0, ended.err
    assert 'onnxruntime_f32' in ended.out and "the network's" in ended.out
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
    ended = run(
        'train', 'digits', '--data', 'digits.npz?group=track', '--epochs', '8', '--test',
        'digits.npz?track=0', '--terms', 'Terms of the test.', '--output', 'digits',
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


def test_the_help_lists_the_commands():
    ended = run_cold('--help')
    assert ended.status == 0
    listed = {line.split()[0] for line in ended.out.splitlines() if line.startswith('    ')}
    assert set(COMMANDS) <= listed


# What cannot be used: status 2 and one line.


def test_a_person_sees_one_line_and_no_traceback(desk):
    said = refused(
        run_cold(*fit_arguments(weights='four.safetensors', output='refused'), cwd=desk), 'fit'
    )
    assert 'four.safetensors do not fit the network' in said and 'number of classes' in said


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'data': 'nothing'}, "source 'nothing': nothing does not exist"),
        ({'calibration': 'nothing.npz'}, 'nothing.npz does not exist'),
        ({'data': 'empty'}, 'empty holds no images'),
        ({'data': 'train?limit=0'}, 'holds no images'),
        ({'data': 'train?colour=red'}, "no option 'colour'"),
        ({'weights': 'none.pth'}, 'weights none.pth do not exist'),
        ({'weights': 'train'}, 'weights train do not exist'),
        ({'weights': 'whole.pth'}, 'code in them is not run'),
        ({'weights': 'classes.txt'}, 'not .safetensors, .pt'),
        ({'model': 'bars'}, 'package.module:factory'),
        ({'model': 'missing_package:Bars'}, "'missing_package' cannot be imported"),
        ({'model': 'tiny:Rings'}, "'tiny' has no 'Rings'"),
        ({'model_arg': 'classes'}, "'classes' is not of the form KEY=VALUE"),
        ({'model_arg': 'depth=3'}, 'depth=3'),
        ({'layer': 'layer4'}, "no layer 'layer4'; it has penultimate, 1 conv, 2 relu1, 3 pool"),
        ({'layer': '8'}, '7 fc2'),
        ({'scores': 'pattern,knm'}, "no score 'knm'; there are pattern"),
        ({'fuse': 'knm'}, 'fitted are'),
        ({'option': 'knm.k=3'}, 'SCORE.KEY=VALUE'),
        ({'option': 'pattern.depth=3'}, 'depth'),
        ({'option': 'pattern.select=many'}, 'pattern'),
        ({'option': 'pattern.quantile=7'}, 'quantile'),
        ({'option': 'knn.neighbours=2.9'}, 'neighbours is 2.9; it must be a whole number'),
        ({'option': 'knn.neighbors=2'}, "no option 'neighbors'; did you mean neighbours?"),
        ({'option': 'channel_means.layers=conv1'}, "'conv1'; it must be a list of names"),
        ({'option': 'pattern.max_patterns=.nan'}, 'max_patterns is nan; it must be a whole'),
        ({'confidence': 'nan'}, '--confidence nan: is no finite number'),
        ({'threads': '100000'}, '--threads 100000: must be at most 256'),
        ({'size': None}, '--size HxW'),
        ({'size': '12'}, '--size 12: write HEIGHTxWIDTH'),
        ({'size': '12x'}, 'HEIGHTxWIDTH'),
        ({'size': '0x12'}, 'no usable input size'),
        ({'size': '5x5'}, 'cannot take an image of shape (3, 5, 5)'),
        ({'color': 'gray'}, 'mean and std'),
        ({'mean': 'a,b,c'}, '--mean must be numbers'),
        ({'std': '0,1,1'}, 'above 0'),
        ({'scale': 'nan'}, 'finite'),
        ({'resize_to': '20'}, 'resize_to'),
        ({'preprocess': 'not_yaml'}, 'not_yaml'),
        ({'preprocess': 'classes.txt'}, 'not a mapping'),
        ({'preprocess': 'none.yaml'}, 'none.yaml'),
        ({'classes': 'none.txt'}, 'none.txt'),
        ({'classes': 'two.txt'}, '2 class names are given, but the network has 3'),
        ({'false_alarm_rate': '0.001'}, 'are too few for a false-alarm rate'),
        ({'false_alarm_rate': '0'}, 'between 0 and 1'),
        ({'device': 'tpu'}, "device 'tpu'"),
        ({'threads': '-1'}, 'threads'),
        ({'seed': '-1'}, 'seed'),
        ({'checkpoint_seconds': '-1'}, '--checkpoint-seconds -1.0: must be from 0'),
        ({'output': 'train'}, 'train is not empty; choose another output folder, or write there'),
        ({'output': 'train', 'data': 'nothing'}, 'train is not empty'),  # before any work is done
        ({'output': 'classes.txt'}, 'classes.txt is not a folder'),
        ({'output': 'classes.txt/b'}, 'cannot write classes.txt/b'),
    ],
)
def test_a_fit_that_cannot_be_done_ends_with_status_2_and_one_line(desk, run, changes, said):
    before = {path for path in desk.rglob('*') if path.relative_to(desk).parts[0] != 'fitted'}
    changes = {'output': 'refused', **changes}
    assert said in refused(run(*fit_arguments(**changes), cwd=desk), 'fit')
    after = {path for path in desk.rglob('*') if path.relative_to(desk).parts[0] != 'fitted'}
    assert after == before


@pytest.mark.usefixtures('fitted')
@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['nothing', '--inside', 'test.npz', '--ood', 'a=strange.npz'], "bundle 'nothing'"),
        (['fitted', '--inside', 'test.npz', '--ood', 'a=strange.npz'], '--trust tiny'),
        (['fitted', '--inside', 'none', '--ood', 'a=strange.npz'], 'none does not exist'),
        (['fitted', '--inside', 'test.npz', '--ood', 'strange.npz'], 'write NAME=SOURCE'),
        (['fitted', '--inside', 'test.npz', '--ood', 'a=empty'], 'holds no images'),
        (
            ['fitted', '--inside', 'test.npz', '--ood', 'a=strange.npz', '--trust', 'tiny',
             '--output', 'classes.txt'],
            'cannot write classes.txt',
        ),
    ],
)
def test_an_evaluation_that_cannot_be_done_is_refused(desk, run, arguments, said):
    ended = run('evaluate', *arguments, cwd=desk)
    if 'cannot write' in said:  # the figures are printed first
        assert 'AUROC' in ended.out
        ended = Ended(ended.status, '', ended.err)
    assert said in refused(ended, 'evaluate')


@pytest.mark.parametrize(
    ('bundle', 'said'),
    [
        ('nothing', "bundle 'nothing' is neither a folder nor a shipped bundle"),
        ('train', 'train is not a bundle: it has no bundle.yaml'),
        ('', 'no bundle is given'),
    ],
)
def test_a_bundle_that_is_missing_is_refused(desk, run, bundle, said):
    assert said in refused(run('show', bundle, cwd=desk), 'show')


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['traffic_signs'], 'give --data SOURCE'),
        (['digits', '--data', 'held_out.npz', '--exclude', 'held_out.npz'], 'too few'),
        (['digits', '--data', 'strange.npz'], 'must have labels from 0 to 9'),
        (['digits', '--data', 'none'], 'none does not exist'),
        (['digits', '--data', 'held_out.npz', '--epochs', '-1'], 'epochs'),
        (['digits', '--data', 'held_out.npz', '--threads', '-1'], 'threads'),
        (['digits', '--data', 'held_out.npz', '--seed', '-1'], 'seed'),
    ],
)
def test_a_training_that_cannot_be_done_is_refused(desk, run, arguments, said):
    assert said in refused(run('train', *arguments, '--output', 'trained', cwd=desk), 'train')
    assert not (desk / 'trained').exists()


@pytest.mark.parametrize(('option', 'number'), [
    ('width', 0), ('width', -5), ('width', MIN_WIDTH - 1), ('width', MAX_WIDTH + 1),
    ('channels', 0), ('channels', -3),
])
@pytest.mark.parametrize('view', ['grid', 'order'])
def test_a_size_that_no_picture_has_is_refused(tmp_path, run, view, option, number):
    said = refused(run('view', view, 'digits', '--image', 'none.png', '--output', 'grid.png',
                       f'--{option}', number, cwd=tmp_path), 'view')
    assert f'--{option} {number}: must be from ' in said
    if option == 'width':
        assert f'from {MIN_WIDTH} to {MAX_WIDTH}' in said


@pytest.mark.parametrize(
    'arguments',
    [
        [], ['nothing'], ['fit'], ['fit', '--colour', 'red'], ['show'], ['show', 'a', '--all'],
        ['evaluate', 'b'], ['train', 'cats', '--output', 'x'],
        ['fit', '--resize-to', 'big'],
    ],
)
def test_unknown_and_missing_options_are_refused_with_the_usage(run, arguments):
    ended = run(*arguments)
    assert ended.status == 2 and ended.out == ''
    *usage, last = ended.err.strip().splitlines()
    assert usage[0].startswith('usage: nav_monitor')
    assert last.startswith('nav_monitor') and ' error: ' in last


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
