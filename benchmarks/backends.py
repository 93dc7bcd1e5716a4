"""Compare the backends with torch in scores, false alarms and speed.

Runs the sources of docs/evaluation.md through each engine that the shipped bundles were exported
for, and times their networks and ResNet-18 (43 classes, random weights), one frame at a time on one
thread. Writes docs/measured/backends.json, from which tools/write_docs.py generates the tables.

    python benchmarks/backends.py --data DIR [--work DIR] [--limit N]

DIR contains mnist.npz, gtsrb.npz, cifar10/ and images/, as listed in docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate import MEASURED, ROOT, evaluations, rounded, unpack_cifar10
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from nav_monitor_ros.benchmark.result import machine_facts
from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.perception.network.backends import ENGINES, TORCH, Engine, usable_here
from nav_monitor_ros.perception.network.layers import watched_inputs
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.export import export_onnx
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess

BUNDLES = ('digits', 'traffic_signs')
ROUNDS = 30  # largest number of rounds in which the engines take turns
SECONDS = 20.0  # no round starts later than this
A_ROUND = 10  # timed passes of each engine per round, after as many for warming up


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--work', type=Path, default=ROOT / 'build' / 'evaluate')
    parser.add_argument('--output', type=Path, default=MEASURED / 'backends.json')
    parser.add_argument('--limit', type=int, default=0, help='images per source; 0 for all')
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    unpack_cifar10(options.data / 'cifar10', options.work / 'cifar10.npz')
    torch.set_num_threads(1)
    what = evaluations(options.data, options.work)
    measured = {
        'machine': machine_facts(),
        'limit': options.limit,
        'scores': {name: compare(name, what[name], options.limit) for name in BUNDLES},
        'milliseconds': {
            **{name: times(engines_of(load_bundle(name))) for name in BUNDLES},
            'resnet18': times(resnet18()),
        },
    }
    options.output.write_text(json.dumps(rounded(measured), indent=1) + '\n', encoding='utf-8')
    print(f'wrote {options.output}')


def engines_of(bundle: Bundle) -> dict[str, RunningNetwork]:
    """Return a bundle's network on every engine that it was exported for, as the node runs it."""
    assert bundle.stored is not None
    names = [bundle.reference, *(one.engine for one in bundle.stored.summaries())]
    scores = bundle.judge().scores
    return {
        str(engine): load_network(bundle, backend=engine.backend, device='cpu', scores=scores)
        for engine in names
    }


def compare(name: str, what: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return how a bundle's figures differ from torch's, for each engine.

    Args:
        name: Name of the bundle.
        what: Sources, as returned by ``evaluations``.
        limit: Images per source; 0 for all.
    """
    bundle = load_bundle(name)
    sources = {'inside': opened(what['inside'], limit)}
    sources |= {ood: opened(spec, limit) for ood, spec in what['ood'].items()}
    assert bundle.stored is not None
    engines = [bundle.reference, *(one.engine for one in bundle.stored.summaries())]
    found = {}
    for engine in engines:
        judge = bundle.calibrated_for(engine).judge(also=('all',))
        network = load_network(bundle, backend=engine.backend, device='cpu', scores=judge.scores)
        seen = {source: run(network, images) for source, images in sources.items()}
        scores = {source: judge.scores_of(batch) for source, batch in seen.items()}
        p_values = judge.p_values(seen['inside'])[FUSED]
        flagged = p_values <= judge.thresholds[seen['inside'].predicted]
        interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(0.95, 'exact')
        found[str(engine)] = {
            'auroc': {
                ood: {
                    score: auroc(scores['inside'][score], scores[ood][score])
                    for score in scores['inside']
                }
                for ood in what['ood']
            },
            'false_alarms': [float(flagged.mean()), float(interval.low), float(interval.high)],
            'predicted': np.concatenate([batch.predicted for batch in seen.values()]),
        }
        print(name, engine, 'done', flush=True)
    expected = found[str(bundle.reference)]
    return {
        'images': {source: len(images) for source, images in sources.items()},
        'budget': bundle.calibration.alpha,
        'engines': {
            engine: {
                'auroc_change': max(
                    abs(value - expected['auroc'][ood][score])
                    for ood, by_score in figures['auroc'].items()
                    for score, value in by_score.items()
                ),
                'auroc_change_fused': max(
                    abs(by_score[FUSED] - expected['auroc'][ood][FUSED])
                    for ood, by_score in figures['auroc'].items()
                ),
                'auroc_fused': float(np.mean([s[FUSED] for s in figures['auroc'].values()])),
                'false_alarms': figures['false_alarms'],
                'reclassified': int((figures['predicted'] != expected['predicted']).sum()),
                **calibration_of(bundle, engine),
            }
            for engine, figures in found.items()
        },
    }


def calibration_of(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return the bundle's figures for the calibration images on an engine."""
    assert bundle.stored is not None
    for one in bundle.stored.summaries():
        if str(one.engine) == name:
            own = bundle.stored.own_calibration(one.engine)
            return {
                'calibration': 'its own' if own else 'from the fit', 'flagged': one.flagged,
                'flagged_by_torch': one.flagged_by_reference, 'calibration_images': one.images,
            }
    return {'calibration': 'from the fit'}


def opened(spec: str, limit: int) -> ImageSource:
    """Return a source, or a random subset of its images."""
    source = open_source(spec)
    if not limit or len(source) <= limit:
        return source
    return source.subset(np.sort(np.random.default_rng(0).permutation(len(source))[:limit]))


def auroc(normal: np.ndarray, strange: np.ndarray) -> float:
    """Return the AUROC of normal and strange scores."""
    truth = np.concatenate([np.zeros(len(normal)), np.ones(len(strange))])
    return float(roc_auc_score(truth, np.concatenate([normal, strange])))


def resnet18() -> dict[str, RunningNetwork]:
    """Return ResNet-18 on every engine of this machine, with the channel means of early layers."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    preprocess = Preprocess(224, 224)
    network = Classifier(get_model('resnet18', weights=None, num_classes=43), preprocess)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'resnet18.onnx'
        export_onnx(network, path)
        graph = OnnxGraph.read(path)
    networks: dict[str, RunningNetwork] = {str(Engine(TORCH)): network}
    for engine in ENGINES:
        if engine.backend != TORCH and usable_here(engine):
            networks[str(engine)] = OnnxClassifier(graph, preprocess, engine=engine)
    for one in networks.values():
        one.watch(watched_inputs(network.inputs))
    return networks


def times(networks: Mapping[str, RunningNetwork]) -> dict[str, dict[str, float]]:
    """Return the median and 99th percentile of one pass over one frame, in milliseconds."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    first = next(iter(networks.values()))
    frame = np.random.default_rng(0).normal(size=(1, *first.input_shape)).astype(np.float32)
    end = time.monotonic() + SECONDS
    for _ in range(ROUNDS):
        if time.monotonic() > end:
            break
        for name, network in networks.items():
            for _ in range(A_ROUND):
                network(frame)
            seconds[name] += [timed(lambda network=network: network(frame)) for _ in range(A_ROUND)]
    return {
        name: {
            'median': 1e3 * float(np.median(values)),
            'p99': 1e3 * float(np.percentile(values, 99)),
            'least': 1e3 * min(values),
        }
        for name, values in seconds.items()
    }


def timed(function: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == '__main__':
    main()
