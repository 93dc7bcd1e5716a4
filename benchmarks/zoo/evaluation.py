"""Evaluate the default, all single scores and the peers on every pair of a network and a source."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.evaluation.metrics import separate
from nav_monitor_ros.evaluation.pytorch_ood_detectors import fit_peers
from nav_monitor_ros.evaluation.scored_images import JudgedImages, judge_images
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import WEIGHTED, FitOptions
from nav_monitor_ros.fitting.provenance import versions
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from zoo.image_data import NetworkImages, images_of
from zoo.ood_sources import sources_of
from zoo.registry import ROOT, WEIGHTS, ZooNetwork, half_of
from zoo.training import specification, trained

WEIGHTED_FUSED = 'fused, weighted'  # with the weights of `fit --fusion weighted`
FITTED = 10000  # largest number of training images that the monitor and the peers are fitted to
# Code on which the results depend.
JUDGING = ('bundle', 'data', 'decision', 'evaluation', 'fitting', 'perception', 'scores')
ZOO_FILES = ('evaluation.py', 'image_data.py', 'ood_sources.py', 'registry.py')


def evaluate_networks(
    networks: Sequence[ZooNetwork], data: Path, work: Path, output: Path
) -> None:
    """Evaluate networks and write all results to one file.

    The results of each network are kept in ``work``, with the scores of every image in an .npz
    beside them, and are computed anew when the code or the weights have changed.

    Args:
        networks: Of the registry, trained.
        data: Folder with the data sets.
        work: Folder for the results of each network.
        output: JSON file.
    """
    torch.set_num_threads(1)
    folder = work / 'evaluation'
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for network in networks:
        kept = folder / f'{network.name}.json'
        code = _fingerprint(network)
        result = json.loads(kept.read_text()) if kept.exists() else {}
        if result.get('code') != code:
            result = {'code': code, **_evaluate(network, data, folder / f'{network.name}.npz')}
            _write_text(kept, json.dumps(result, indent=1) + '\n')
        print(f'{network.name}: {len(result["pairs"])} sources', flush=True)
        results.append(result)
    output.parent.mkdir(parents=True, exist_ok=True)
    _write_text(
        output, json.dumps({'versions': versions(), 'networks': results}, indent=1) + '\n'
    )


def _evaluate(network: ZooNetwork, data: Path, scores_file: Path) -> dict[str, Any]:
    images = images_of(network, data)
    classifier = Classifier(trained(network, data), network.preprocess)
    training = _fitted_part(images.training)
    options = FitOptions(
        name=network.name, class_names=images.class_names,
        false_alarm_rate=network.false_alarm_rate,
    )
    bundle = fit(classifier, specification(network), training, images.calibration, options)
    members = bundle.calibration.fusion_members
    weighted = fit(
        Classifier(trained(network, data), network.preprocess), specification(network), training,
        images.calibration,
        replace(options, scores={name: {} for name in members}, fuse=members, fusion=WEIGHTED),
    ).calibration
    judge = bundle.judge(also=['all'])
    batch = run(classifier, training)
    labels = training.own_labels if images.labelled else batch.predicted
    assert labels is not None
    peers = fit_peers(batch, labels, classifier.head)
    sources = sources_of(network, data)
    judged = {
        name: judge_images(classifier, judge, source, peers=peers)
        for name, source in {'test': images.test, **{n: s for n, (_, s) in sources.items()}}.items()
    }
    judged = {
        name: replace(
            part, scores={**part.scores, WEIGHTED_FUSED: weighted.fused_scores(part.scores)}
        )
        for name, part in judged.items()
    }
    normal = judged.pop('test')
    _write_scores(scores_file, {'test': normal, **judged})
    pairs = {}
    for name, strange in judged.items():
        figures = {}
        for score in normal.scores:
            separation = separate(normal.scores[score], strange.scores[score])
            figures[score] = {
                'auroc': round(separation.auroc, 6),
                # Out-of-distribution images missed when 95 % of in-distribution images are kept.
                'ood_missed': round(separation.ood_missed_at_95_id_kept, 6),
                # In-distribution images flagged when 95 % of the others are found.
                'id_flagged': round(separation.fpr_at_95_recall, 6),
            }
        pairs[name] = {'kind': sources[name][0], 'images': len(strange), 'scores': figures}
    thresholds = judge.calibration.thresholds
    return {
        'network': network.name,
        'kind': network.kind,
        'data': network.data,
        'half': half_of(network.name),
        'images': {
            'training': len(training), 'calibration': len(images.calibration),
            'test': len(images.test),
        },
        'accuracy': _accuracy(images, normal),
        'features': classifier.width,
        'fused': list(members),
        'weights': {name: round(w, 4) for name, w in weighted.fusion_weights.items()},
        'left_out': bundle.provenance['left_out'],
        'false_alarm_rate': network.false_alarm_rate,
        'false_alarms': round(float(np.mean(
            normal.p_values['fused'] <= thresholds['fused'][normal.predicted]
        )), 6) if 'fused' in normal.p_values else None,
        'pairs': pairs,
    }


def _fitted_part(source: ImageSource) -> ImageSource:
    order = np.random.default_rng(0).permutation(len(source))[:FITTED]
    return source.subset(np.sort(order))


def _accuracy(images: NetworkImages, normal: JudgedImages) -> float | None:
    truth = images.test.own_labels
    return None if truth is None else round(float((normal.predicted == truth).mean()), 5)


def _write_scores(path: Path, judged: dict[str, JudgedImages]) -> None:
    """Write every image's scores as float32 ``SOURCE/SCORE``, and its class."""
    arrays = {
        f'{source}/{score}': np.clip(values, -3e38, 3e38).astype(np.float32)
        for source, images in judged.items()
        for score, values in images.scores.items()
    }
    arrays.update({f'{source}/predicted': images.predicted for source, images in judged.items()})
    partial = path.with_suffix('.partial')
    with partial.open('wb') as file:
        np.savez(file, **arrays)
    os.replace(partial, path)


def _fingerprint(network: ZooNetwork) -> str:
    """Return a checksum of the code, of the weights and of what the registry says of a network."""
    package = ROOT / 'nav_monitor_ros'
    files = [
        *(file for room in JUDGING for file in sorted((package / room).rglob('*.py'))),
        *(Path(__file__).parent / name for name in ZOO_FILES if name != 'registry.py'),
        WEIGHTS / f'{network.name}.safetensors',
    ]
    checksum = hashlib.sha256(repr(network).encode())
    for file in files:
        if file.exists():
            checksum.update(file.read_bytes())
    return checksum.hexdigest()


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(text)
    os.replace(partial, path)
