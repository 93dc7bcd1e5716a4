"""What a command cannot use: status 2 and one line that names it, before any work."""

from __future__ import annotations

import os

import pytest
from command_line import fit_arguments, refusals, refused, run_cold

from nav_monitor_ros.views.activation_maps import MAX_WIDTH, MIN_WIDTH

pytestmark = pytest.mark.once

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
        ({'weights': 'whole.pth'}, 'code in them is not run'),
        ({'weights': 'classes.txt'}, 'not .safetensors, .pt'),
        ({'model': 'bars'}, 'package.module:factory'),
        ({'model': 'missing_package:Bars'}, "'missing_package' cannot be imported"),
        ({'model': 'tiny:Rings'}, "'tiny' has no 'Rings'"),
        ({'model_arg': 'classes'}, "'classes' is not of the form KEY=VALUE"),
        ({'model_arg': 'depth=3'}, 'depth=3'),
        ({'layer': 'layer4'}, "no layer 'layer4'; it has penultimate, 1 'conv', 2 'relu1', 3 "),
        ({'layer': '8'}, "7 'fc2'"),
        ({'scores': 'pattern,knm'}, "no score 'knm'; the scores are pattern"),
        ({'scores': 'pattern,knm'}, 'did you mean knn?'),
        ({'scores': 'fused'}, "'fused' combines other scores, which --fuse names"),
        ({'fuse': 'knm'}, 'did you mean knn?'),
        ({'scores': 'energy', 'fuse': 'knn'}, 'fitted are'),
        ({'option': 'knm.k=3'}, 'SCORE.KEY=VALUE'),
        ({'option': 'patern.gamma=3'}, 'did you mean pattern?'),
        ({'layer': 'penultimat'}, 'did you mean penultimate?'),
        ({'data': 'train?limt=3'}, "no option 'limt'; did you mean limit?"),
        ({'data': 'train?classes=lefft'}, 'did you mean left?'),
        ({'data': 'sample:trangles'}, 'did you mean triangles?'),
        ({'weights': 'train'}, 'train is a folder'),
        ({'classes': 'train'}, '--classes train is a folder; name a file'),
        ({'preprocess': 'train'}, '--preprocess train is a folder; name a file'),
        ({'data': 'bars.safetensors'}, 'bars.safetensors is neither a folder nor'),
        ({'option': 'pattern.depth=3'}, 'depth'),
        ({'option': 'pattern.select=many'}, 'pattern'),
        ({'option': 'pattern.quantile=7'}, 'quantile'),
        ({'option': 'knn.neighbours=2.9'}, 'neighbours is 2.9; it must be a whole number'),
        ({'option': 'knn.neighbors=2'}, "no option 'neighbors'; did you mean neighbours?"),
        ({'option': 'channel_means.layers=conv1'}, "'conv1'; it must be a list of names"),
        ({'option': 'pattern.max_patterns=.nan'}, 'max_patterns is nan; it must be a whole'),
        ({'confidence': 'nan'}, '--confidence nan: must be finite'),
        ({'threads': '100000'}, '--threads 100000: must be at most 256'),
        ({'size': None}, '--size HxW'),
        ({'size': '12'}, '--size 12: write HEIGHTxWIDTH'),
        ({'size': '12x'}, 'HEIGHTxWIDTH'),
        ({'size': '0x12'}, 'not a usable input size'),
        ({'size': '5x5'}, 'cannot take an image of shape (3, 5, 5)'),
        ({'color': 'gray'}, 'mean and std'),
        ({'mean': 'a,b,c'}, '--mean must be comma-separated numbers'),
        ({'mean': '124,116,104', 'std': '58,57,57'}, 'mean 124 is above white'),
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
        ({'output': 'train'}, '--output train is the same file as --data train, which is read'),
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
        (
            ['fitted', '--inside', 'test.npz', '--trust', 'tiny', '--image-scores', 'a.csv'],
            'per-image scores are written as .npz or .parquet',
        ),
        (['fitted', '--inside', 'test.npz', '--hours', '0'], '--hours 0: the stream must have'),
        (['fitted', '--inside', 'test.npz', '--rate', '0'], '--rate 0: must be above 0'),
        (['fitted', '--inside', 'test.npz', '--ood-seconds', '-1'], '--ood-seconds -1: must be'),
    ],
)
def test_an_evaluation_that_cannot_be_done_is_refused(desk, run, arguments, said):
    assert said in refused(run('evaluate', *arguments, cwd=desk), 'evaluate')


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


def test_the_input_of_torchvisions_weights_is_suggested(desk, run):
    arguments = fit_arguments(size=None, model='torchvision:resnet18', output='unsized')
    ended = run(*arguments, cwd=desk)
    assert ended.status == 2
    assert 'take --size 224x224 --fit center_crop --resize-to 256' in ended.err
    ended = run(*fit_arguments(size=None, output='unsized'), cwd=desk)
    assert ended.status == 2 and ended.err.strip().endswith('--size HxW or --preprocess')
