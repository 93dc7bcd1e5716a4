"""The real Ray on this machine: the same results, also where workers are killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny
from raywork import Work, joined
from safetensors.torch import save
from threadpoolctl import threadpool_limits

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.batches import BATCH
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.fitting import fit as fitting
from nav_monitor_ros.fitting import training_pass
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions

pytest.importorskip('ray')

from nav_monitor_ros.cluster import ray_cluster  # noqa: E402
from nav_monitor_ros.cluster.fitting import NetworkRecipe, RayFit, absolute  # noqa: E402
from nav_monitor_ros.cluster.judging import JudgeJob, RayJudge  # noqa: E402
from nav_monitor_ros.cluster.ray_cluster import RayCluster  # noqa: E402

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
SMALL = FitOptions(false_alarm_rate=0.1, class_names=tiny.CLASSES)
# Bits, counts, extremes and images; all else adds floating-point numbers up.
WHOLE = ('pattern/', 'pattern_soft/', 'knn/', 'box/low', 'box/high', 'box/lonely', 'react/')


@pytest.fixture(scope='module')
def cluster():
    """Return a cluster of two workers that find this checkout and its tests."""
    paths = [str(ROOT), str(ROOT / 'test'), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', os.pathsep.join(filter(None, paths)))
        patch.setenv('OMP_NUM_THREADS', '1')
        with RayCluster('local', workers=2) as running:
            yield running


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Return a file of 700 labelled images."""
    path = tmp_path_factory.mktemp('images') / 'train.npz'
    pixels, labels = tiny.images(1, 700)
    np.savez(path, x=pixels, y=labels)
    return path


def recipe():
    """Return how the tiny network is started on another machine."""
    weights = save(tiny.network().state_dict())
    return NetworkRecipe(tiny.SPEC, weights, '.safetensors', tiny.PREPROCESS, device='cpu')


def fitted(data, remote_fit=None):
    return fit(
        tiny.classifier(), tiny.SPEC, data, tiny.source(2, 80), SMALL, remote_fit=remote_fit
    )


def tensors(bundle):
    return {
        f'{name}/{key}': array
        for name, score in bundle.scores.items() for key, array in score.tensors().items()
    } | bundle.calibration.tensors()


# Parts of work.


def test_results_come_in_the_order_of_the_parts(cluster):
    assert cluster.run(Work, {}, [(n,) for n in range(7)]) == [n**2 for n in range(7)]


@pytest.mark.parametrize(
    ('count', 'tree'),
    [
        (1, '0'), (2, '(0 1)'), (3, '((0 1) 4)'), (5, '(((0 1) (4 9)) 16)'),
        (6, '(((0 1) (4 9)) (16 25))'),
    ],
)
def test_results_become_one_along_a_tree_that_the_number_of_parts_decides(cluster, count, tree):
    found = cluster.run(Work, {}, [(n,) for n in range(count)], reduce=joined)
    assert str(found) == tree


def test_a_worker_that_dies_costs_its_part_alone(cluster, tmp_path):
    done = tmp_path / 'done'
    done.mkdir()
    job = {'dies_at': 3, 'mark': tmp_path / 'mark', 'folder': str(done)}
    found = cluster.run(Work, job, [(n,) for n in range(6)], reduce=joined)
    assert found == '(((0 1) (4 9)) (16 25))'
    times = [path.name.partition('-')[0] for path in done.iterdir()]
    assert sorted(times) == ['0', '1', '2', '3', '3', '4', '5']  # by two processes, part 3


def test_a_part_that_ends_every_worker_ends_the_work_with_one_line(cluster):
    with pytest.raises(NavMonitorError, match='part 1 of 3 ended 4 workers') as said:
        cluster.run(Work, {'always_dies_at': 1}, [(n,) for n in range(3)])
    assert '\n' not in str(said.value)


def test_what_a_worker_raises_is_raised_here(cluster):
    with pytest.raises(NavMonitorError, match='^number 3 is not wanted; leave it out$'):
        cluster.run(Work, {'refuses': 3}, [(n,) for n in range(5)])


# Fitting.


def assert_same_bundle(one, other):
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (array.dtype, array.shape)
        if key.startswith(WHOLE) or array.dtype.kind in 'iu':
            np.testing.assert_array_equal(ours[key], array, err_msg=key)
        elif key == 'vim/residual':  # the space counts, not which vectors span it
            np.testing.assert_allclose(
                ours[key] @ ours[key].T, array @ array.T, atol=1e-6, err_msg=key
            )
        else:
            size = np.abs(array).max(initial=1e-30)
            np.testing.assert_allclose(ours[key], array, rtol=0, atol=1e-6 * size, err_msg=key)
    for name in ('data', 'correctly_classified', 'calibration', 'labels', 'left_out'):
        assert one.provenance[name] == other.provenance[name]


@pytest.fixture
def spread(cluster, images):
    """Return what fits on the cluster, in parts of two batches."""
    return RayFit(cluster, recipe(), str(images), part=2 * BATCH, workers=1)


def test_two_workers_fit_the_bundle_of_one_machine(spread, images, monkeypatch):
    monkeypatch.setattr(training_pass, 'SAMPLE', 128)
    data = open_source(str(images))
    alone, together = fitted(data), fitted(data, spread)
    assert together.provenance['data']['images'] == 700
    assert_same_bundle(together, alone)


def test_a_fit_whose_worker_is_killed_gives_the_same_bundle_bit_for_bit(
    cluster, spread, images, monkeypatch
):
    monkeypatch.setattr(training_pass, 'SAMPLE', 128)
    data = open_source(str(images))
    whole = fitted(data, spread)
    killed = []
    run = cluster.run

    def run_and_kill(worker, job, parts, **options):
        def progress(done):
            if not killed:  # one of the two that are at work
                killed.append(kill_a_worker())

        return run(worker, job, parts, **{**options, 'progress': progress})

    monkeypatch.setattr(cluster, 'run', run_and_kill)
    again = fitted(data, spread)
    assert killed
    ours, theirs = tensors(again), tensors(whole)
    for key, array in theirs.items():
        assert ours[key].tobytes() == array.tobytes(), key


def kill_a_worker():
    """Kill an actor's process as the system would, and return its number."""
    for folder in Path('/proc').iterdir():
        try:
            title = (folder / 'cmdline').read_bytes()
            parent = (folder / 'stat').read_text().rpartition(')')[2].split()[1]
        except OSError:  # ended meanwhile, or another's
            continue
        if title.startswith(b'ray::_Actor') and is_descendant(int(parent)):
            os.kill(int(folder.name), signal.SIGKILL)
            return int(folder.name)
    raise AssertionError('no worker runs')


def is_descendant(number):
    while number > 1:
        if number == os.getpid():
            return True
        number = int(Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[1])
    return False


def test_an_image_that_cannot_be_read_ends_the_fit_with_its_name(cluster, tmp_path, monkeypatch):
    import cv2

    monkeypatch.setattr(training_pass, 'SAMPLE', 64)
    pixels, labels = tiny.images(1, 150)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = tmp_path / tiny.CLASSES[label] / f'{number}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)
    data = open_source(str(tmp_path))
    _, others = training_pass.sample_and_rest(150, 0)
    broken = sorted(tmp_path.glob('*/*.png'), key=lambda p: (p.parent.name, p.name))[others[40]]
    monkeypatch.setattr(fitting, 'layer_ranges', lambda *_: {})
    broken.write_bytes(b'nothing')
    with pytest.raises(NavMonitorError, match=broken.name) as said:
        fitted(data, RayFit(cluster, recipe(), str(tmp_path), part=BATCH))
    assert '\n' not in str(said.value)


# Judging.


def test_two_workers_judge_as_one_machine_does_bit_for_bit(cluster, tiny_bundle, tmp_path):
    for name, pixels in (('inside', tiny.images(5, 400)[0]), ('lying', tiny.strange(5, 150))):
        np.savez(tmp_path / f'{name}.npz', x=pixels)
    inside = open_source(f'{tmp_path}/inside.npz')
    outside = {'lying': open_source(f'{tmp_path}/lying.npz')}
    judge = tiny_bundle.judge(also=['all'])
    classifier = load_network(tiny_bundle, device='cpu', trusted_packages=['tiny'])
    job = JudgeJob(str(tiny_bundle.folder), ('all',), 'torch', ('tiny',), 'cpu', 1, 1)
    # As in the workers: a product by several threads adds in another order.
    with threadpool_limits(1):
        alone, ours = evaluate(classifier, judge, inside, outside)
    together, theirs = evaluate(
        classifier, judge, inside, outside, remote=RayJudge(cluster, job, part=BATCH)
    )
    assert together.separation == alone.separation
    for source, scores in ours.scores.items():
        assert scores.keys() == theirs.scores[source].keys()
        for name, values in scores.items():  # window_kl looks at the frames before as well
            np.testing.assert_array_equal(values, theirs.scores[source][name], err_msg=name)


# The command line.


class Borrowed:
    """The cluster of these tests, in place of one that a command would start."""

    def __init__(self, cluster):
        self._cluster = cluster

    def __call__(self, address, workers=0):
        assert (address, workers) == ('local', 2)
        return self

    def __enter__(self):
        return self._cluster

    def __exit__(self, *_):
        pass


@pytest.fixture
def run(cluster, monkeypatch):
    """Return the command line, whose ``--ray local`` is the cluster of these tests."""
    monkeypatch.setattr(ray_cluster, 'RayCluster', Borrowed(cluster))
    return lambda *arguments: main([*map(str, arguments), '--ray', 'local', '--ray-workers', '2'])


def test_fit_and_evaluate_on_the_command_line(run, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bars.safetensors').write_bytes(save(tiny.network().state_dict()))
    pixels, labels = tiny.images(2, 80)
    np.savez('held_out.npz', x=pixels, y=labels)
    assert run(
        'fit', '--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--data', images,
        '--calibration', 'held_out.npz', '--size', '12x12', '--mean', '0.5,0.5,0.5', '--std',
        '0.25,0.25,0.25', '--false-alarm-rate', '0.1', '--output', 'fitted', '--device', 'cpu',
    ) == 0
    bundle = load_bundle('fitted')
    assert bundle.provenance['data']['images'] == 700
    assert run(
        'evaluate', 'fitted', '--inside', 'held_out.npz', '--trust', 'tiny', '--device', 'cpu',
        '--output', 'judged', '--ray-part', '64',
    ) == 0
    assert json.loads(Path('judged/metrics.json').read_text())['accuracy'] == 1.0


def test_many_bags_are_replayed_each_by_itself(run, tmp_path, tiny_bundle, capsys):
    pytest.importorskip('rosbags')
    from recorded import write_images

    bags = [
        write_images(tmp_path / f'drive_{n}', {'/camera': list(tiny.images(n, 9)[0])})
        for n in range(3)
    ]
    common = ['--bundle', tiny_bundle.folder, '--trust', 'tiny', '--device', 'cpu', '--csv']
    assert main([*map(str, ['replay', *bags, *common, tmp_path / 'alone'])]) == 0
    alone = capsys.readouterr().out
    assert run('replay', *bags, *common, tmp_path / 'spread') == 0
    said = capsys.readouterr().out
    assert '9 of 9 images of drive_2 judged by tiny' in said and 'drive_0' in alone
    for bag in bags:
        one = (tmp_path / 'alone' / f'{bag.name}.csv').read_text()
        assert one == (tmp_path / 'spread' / f'{bag.name}.csv').read_text()
        assert one.count('\n') == 10
    # A bag that is broken is named, and the others are judged all the same.
    broken = tmp_path / 'broken'
    broken.mkdir()
    assert run('replay', bags[0], broken, *common, tmp_path / 'rest') == 2
    said = capsys.readouterr()
    assert 'broken' in said.err and said.err.count('\n') == 1
    assert (tmp_path / 'rest' / 'drive_0.csv').exists()
    assert run('replay', bags[0], bags[0], *common, tmp_path / 'rest') == 2
    assert "two of the bags are called 'drive_0'" in capsys.readouterr().err


# What is said.


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    import ray

    def init(**options):
        raise ConnectionError('nobody is\nthere')

    monkeypatch.setattr(ray, 'init', init)
    monkeypatch.setattr(ray, 'shutdown', lambda: None)
    with (
        pytest.raises(NavMonitorError, match=r'--ray ray://x:1: no cluster responds \(nobody is'),
        RayCluster('ray://x:1'),
    ):
        pass


def test_without_ray_its_package_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *rest):
        if name == 'ray':
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(NavMonitorError, match=r"pip install 'nav_monitor_ros\[ray\]'"):
        RayCluster('local')


def test_sources_mean_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute('a.npz?split=train') == f'{tmp_path}/a.npz?split=train'
    assert absolute('sample:digits?limit=3') == 'sample:digits?limit=3'
    assert absolute('drive:/camera/image_raw?labels=b.csv&group=2') == (
        f'{tmp_path}/drive:/camera/image_raw?labels={tmp_path}/b.csv&group=2'
    )
