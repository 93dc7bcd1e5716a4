"""The options that torchvision's weights need are said, and do what torchvision does."""

from __future__ import annotations

import argparse
import logging
import shlex

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision import models

from nav_monitor_ros.cli.options.network import add_network, add_preprocessing, preprocess_of
from nav_monitor_ros.cli.options.torchvision_hints import needed_options

pytestmark = pytest.mark.once


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_network(parser, required=False)
    add_preprocessing(parser)
    return parser.parse_args([*arguments])


def suggested():
    """Yield each classifier of torchvision with the options for each set of its weights."""
    for name in models.list_models(module=models):
        known = models.get_model_weights(name)
        _, _, said = needed_options(f'torchvision:{name}').partition(f'for {name} take ')
        for one in said.split(' or '):
            options, _, names = one.removesuffix(')').partition(' (')
            for weights in names.split(', ') if names else known.__members__:
                yield name, known[weights], options


def test_the_suggested_options_preprocess_as_torchvision():
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    image = cv2.resize(coarse, (400, 300), interpolation=cv2.INTER_CUBIC)
    seen, compared = set(), {}
    for name, weights, options in suggested():
        seen.add(weights)
        preset = weights.transforms()
        case = options.partition(' --model-arg')[0], repr(preset)
        if case in compared:
            continue
        compared[case] = name
        found = preprocess_of(parsed('--model', f'torchvision:{name}', *shlex.split(options)))
        theirs = preset(Image.fromarray(image)).numpy()
        level = 1 / 255 / min(found.std)
        assert np.abs(found.apply(image) - theirs).max() <= 2.01 * level, (name, options)
        assert np.abs(found.apply(image) - theirs).mean() <= 0.05 * level, (name, options)
    assert seen == {
        weights for name in models.list_models(module=models)
        for weights in models.get_model_weights(name)
    }
    assert len(compared) > 10


@pytest.mark.parametrize(('name', 'options'), [
    ('resnet18', ''),
    ('swin_t', ' --interpolation bicubic'),
    ('efficientnet_v2_l', ' --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --interpolation bicubic'),
    ('inception_v3', ' --model-arg transform_input=true'),
    ('googlenet', ' --model-arg transform_input=true --model-arg aux_logits=false'),
])
def test_options_are_suggested_where_they_differ_from_the_defaults(name, options):
    said = needed_options(f'torchvision:{name}')
    _, resize_to, rest = said.partition(' --resize-to ')
    assert resize_to and rest.lstrip('0123456789') == options


@pytest.mark.parametrize('model', [None, 'onnx', 'my_net:make', 'torchvision:', 'torchvision:x'])
def test_nothing_is_suggested_for_other_networks(model):
    assert needed_options(model) == ''


def warnings_of(caplog, *arguments):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        preprocess_of(parsed('--model', *arguments))
    assert all(record.getMessage().isprintable() for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize('name', ['inception_v3', 'googlenet'])
def test_an_argument_that_weights_do_not_record_is_asked_for(caplog, name):
    network = (f'torchvision:{name}', '--size', '299x299')
    (said,) = warnings_of(caplog, *network)
    assert f'distributes for {name} take --model-arg transform_input=true, which' in said
    assert said.endswith('otherwise --model-arg transform_input=false')
    for value in ('true', 'false'):
        assert not warnings_of(caplog, *network, '--model-arg', f'transform_input={value}')


def test_an_unusual_normalisation_or_interpolation_that_is_left_out_is_warned_of(caplog, tmp_path):
    network = ('torchvision:efficientnet_v2_l', '--size', '480x480')
    (said,) = warnings_of(caplog, *network)
    assert 'take --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --interpolation bicubic;' in said
    (said,) = warnings_of(caplog, *network, '--mean', '0.5,0.5,0.5', '--std', '0.5,0.5,0.5')
    assert 'take --interpolation bicubic;' in said
    file = tmp_path / 'input.yaml'
    file.write_text('mean: [0, 0, 0]\nstd: [1, 1, 1]\ninterpolation: antialias\n')
    assert not warnings_of(caplog, *network, '--preprocess', str(file))


def test_only_weights_of_the_same_size_are_considered(caplog):
    assert not warnings_of(caplog, 'torchvision:vit_b_16', '--size', '224x224')
    (said,) = warnings_of(caplog, 'torchvision:vit_b_16', '--size', '384x384')
    assert 'take --interpolation bicubic;' in said
    (said,) = warnings_of(caplog, 'torchvision:swin_t', '--size', '96x128')
    assert 'take --interpolation bicubic;' in said
    for model in ('torchvision:resnet18', 'torchvision:nothing', 'onnx', 'my_net:make'):
        assert not warnings_of(caplog, model, '--size', '64x64')
