"""The networks of benchmarks/zoo: each is in one half, builds, and has the committed weights."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
sys.path.append(str(BENCHMARKS))

from zoo import ood_sources, registry, table, training  # noqa: E402
from zoo.augmentation import augmented  # noqa: E402

TRAINED = [network for network in registry.NETWORKS.values() if not network.foreign]
CLASSES = {'digits': 10, 'fashion': 10, 'signs': 43, 'cifar': 40}


def test_every_network_is_in_one_half():
    halves = yaml.safe_load((registry.ZOO / 'split.yaml').read_text())['halves']
    assert sorted([*halves['A'], *halves['B']]) == sorted(registry.NETWORKS)
    assert {registry.NETWORKS[name].data for name in halves['A']} >= set(CLASSES)
    assert {registry.NETWORKS[name].data for name in halves['B']} >= set(CLASSES)


def test_an_unknown_network_is_named():
    with pytest.raises(SystemExit, match="no network 'digits'"):
        registry.selected('digits')


@pytest.mark.parametrize('network', TRAINED, ids=lambda network: network.name)
def test_a_network_has_an_output_for_each_class_that_is_kept(network):
    preprocess = network.preprocess
    module = training.build(network)
    outputs = module(torch.zeros(2, preprocess.channels, preprocess.height, preprocess.width))
    assert outputs.shape == (2, CLASSES[network.data] - len(network.excluded))
    assert len(network.left_out) in (0, 2)


@pytest.mark.parametrize(
    'path', sorted(registry.WEIGHTS.glob('*.json')), ids=lambda path: path.stem
)
def test_weights_are_those_described(path):
    described = json.loads(path.read_text())
    weights = path.with_suffix('.safetensors')
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == described['sha256']
    network = registry.NETWORKS[path.stem]
    assert described['recipe'] == json.loads(json.dumps(vars(network.recipe)))
    assert described['classes_left_out'] == list(network.excluded)
    assert training.trained(network, Path()).training is False


def test_all_weights_are_small():
    assert sum(file.stat().st_size for file in registry.WEIGHTS.glob('*')) < 30e6


@pytest.mark.parametrize('kind', ['none', 'flip_crop', 'affine'])
def test_augmentation_depends_on_the_seed_alone(kind):
    batch = torch.rand(6, 3, 32, 32)
    first, second = (
        augmented(batch, kind, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first, second) and first.shape == batch.shape
    assert torch.equal(first, batch) == (kind == 'none')


def test_letters_resemble_digits_in_form():
    drawn = ood_sources.letters(20)
    assert drawn.shape == (20, 28, 28) and drawn.dtype == np.uint8
    assert all(19 <= max(np.ptp(np.nonzero(picture), axis=1)) + 1 <= 21 for picture in drawn)


def test_the_table_lists_pairs_where_the_default_is_behind(capsys):
    def figures(auroc):
        return {'auroc': auroc, 'ood_missed': 1 - auroc, 'id_flagged': 1 - auroc}

    def pair(kind, fused, knn, peer):
        return {'kind': kind, 'images': 10, 'scores': {
            'fused': figures(fused), 'knn': figures(knn), 'pytorch-ood KNN': figures(peer),
        }}

    table.print_table({'networks': [{
        'network': 'n', 'half': 'A', 'accuracy': None, 'pairs': {
            'easy': pair('far', 0.99, 0.98, 0.97), 'hard': pair('near', 0.7, 0.75, 0.96),
        },
    }]})
    printed = capsys.readouterr().out
    assert '1 of 2 pairs (50.0 %)' in printed
    assert 'fused (default)                                  84.50' in printed
    assert 'n hard: 70.00, pytorch-ood KNN 96.00' in printed
