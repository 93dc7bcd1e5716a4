"""Measure the cost of fitting to very many images: Ray workers, and merging 1,000 states.

    python benchmarks/scale.py [--images 512] [--size 128] [--states 1000]

Writes docs/measured/scale.json, from which the figures in docs/scale.md are generated.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nav_monitor_ros.benchmark.fitting import write_pictures  # noqa: E402
from nav_monitor_ros.benchmark.judging import LAYERS, World  # noqa: E402
from nav_monitor_ros.benchmark.result import machine_facts  # noqa: E402
from nav_monitor_ros.cluster.fitting import PART, FitJob, NetworkRecipe, RayFit, merge_states  # noqa: E402
from nav_monitor_ros.cluster.ray_cluster import RayCluster  # noqa: E402
from nav_monitor_ros.data.batches import BATCH, Batch  # noqa: E402
from nav_monitor_ros.data.sources import open_source  # noqa: E402
from nav_monitor_ros.fitting.fit_options import FitOptions  # noqa: E402
from nav_monitor_ros.fitting.partial_fit import PartialFit  # noqa: E402
from nav_monitor_ros.fitting.score_selection import configure_for_supported_scores, empty_scores  # noqa: E402
from nav_monitor_ros.fitting.training_pass import take_sample  # noqa: E402
from nav_monitor_ros.perception.network.specification import NetworkSpec  # noqa: E402
from nav_monitor_ros.perception.network.torch.classifier import Classifier  # noqa: E402
from nav_monitor_ros.perception.preprocess import Preprocess  # noqa: E402
from nav_monitor_ros.scores.registry import SCORES, make_score  # noqa: E402

MEASURED = ROOT / 'docs' / 'measured' / 'scale.json'
FEATURES, CLASSES = 512, 43  # as in a ResNet-18 for traffic signs
MADE = 1  # states computed from images; the others copy their sums, with random patterns and banks


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--images', type=int, default=512, help='JPEGs fitted to (default: 512)')
    parser.add_argument('--size', type=int, default=128, help="the network's input (default: 128)")
    parser.add_argument('--states', type=int, default=1000, help='merged (default: 1000)')
    parser.add_argument('--only', choices=('merging', 'workers'), help='leave the other as it was')
    options = parser.parse_args()
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    if options.only != 'workers':
        measured['merging'] = {**merging(options.states), 'machine': machine_facts()}
    if options.only != 'merging':
        measured['workers'] = {
            **workers(options.images, options.size), 'machine': machine_facts()
        }
    MEASURED.write_text(json.dumps(measured, indent=1) + '\n')


def workers(images: int, size: int) -> dict[str, Any]:
    """Measure fits of ResNet-18 to JPEGs on one and on two workers, after all have started."""
    spec = NetworkSpec('torchvision:resnet18', {'num_classes': CLASSES})
    torch.manual_seed(0)
    network = spec.build([])
    recipe = NetworkRecipe(
        spec, save(network.state_dict()), '.safetensors', Preprocess(size, size), device='cpu'
    )
    classifier = Classifier(network, recipe.preprocess, threads=1)
    scores = empty_scores(classifier, FitOptions())
    configure_for_supported_scores(classifier, scores, required=False)
    found: dict[str, Any] = {'images': images, 'size': size, 'seconds_an_image': {}}
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), BATCH + images)
        source = open_source(folder)
        sizes = [file.stat().st_size for file in Path(folder).iterdir()]
        found['bytes_an_image'] = float(np.mean(sizes))
        for count in (1, 2):
            with RayCluster('local', workers=count) as cluster:
                partial = PartialFit({
                    name: make_score(
                        name, score.settings, classes=score.classes, width=score.width,
                        head=score.head,
                    ) for name, score in scores.items()
                })
                take_sample(
                    classifier, source.subset(np.arange(BATCH)), None, partial, required=False,
                    workers=1,
                )
                spread = RayFit(cluster, recipe, folder, part=BATCH, workers=1)
                ends: list[float] = []

                def note(_what: str, done: int, total: int, ends: list[float] = ends) -> None:
                    if done > BATCH:  # a part is complete
                        ends.append(time.perf_counter())

                names = [f'class_{i}' for i in range(CLASSES)]
                spread(partial, names, [], BATCH, images, 0, note)
                # All workers have started once each is at its second part.
                warm = 2 * count
                rest = len(ends) - warm
                found['seconds_an_image'][str(count)] = (ends[-1] - ends[warm - 1]) / rest / BATCH
    one, two = found['seconds_an_image'].values()
    found['speedup'] = one / two
    return found


def merging(count: int) -> dict[str, Any]:
    """Merge ``count`` states along a tree, each of one part of the images."""
    world = World(FEATURES, CLASSES)
    scores = {
        name: make_score(
            name, {'layers': list(LAYERS)} if name == 'channel_means' else {},
            classes=CLASSES, width=FEATURES, head=world.head,
        )
        for name in SCORES if name not in ('mc_dropout', 'decoy')
    }
    sample, labels = world.images(PART, None)
    for score in scores.values():
        score.prepare(sample, labels)
    job = FitJob(
        NetworkRecipe(NetworkSpec('torchvision:resnet18'), b'', '', Preprocess(224, 224)), '', 0, 0,
        (), {name: score.settings for name, score in scores.items()},
        PartialFit(scores).prepared(), (), (CLASSES, FEATURES), world.head, None,
    )
    begin = time.perf_counter()
    made = []
    for _ in range(MADE):
        partial = job.partial({})
        for start in range(0, PART, 1024):
            images, labels = world.images(1024, None)
            partial.update(Batch(slice(start, start + 1024), images, ()), labels, None)
        made.append(partial.seen())
    update = (time.perf_counter() - begin) / MADE / PART
    rng = np.random.default_rng(0)

    def state(number: int) -> dict[str, np.ndarray]:
        seen = dict(made[number % MADE])
        for key in ('pattern/rows', 'knn/rows'):
            seen[key] = rng.integers(-(1 << 62), 1 << 62, seen[key].shape)
        return seen

    def size(seen: dict[str, np.ndarray]) -> int:
        return sum(array.nbytes for array in seen.values())

    leaf = size(made[0])
    levels: dict[int, list[tuple[float, int]]] = {}
    # As in a binary counter, at most as many states are held as the tree is deep.
    held: list[tuple[int, dict[str, np.ndarray]]] = []

    def merge_last() -> None:
        (_, right), (level, left) = held.pop(), held.pop()
        start = time.perf_counter()
        merged = merge_states(job, left, right)
        levels.setdefault(level + 1, []).append((time.perf_counter() - start, size(merged)))
        held.append((level + 1, merged))
        done = sum(map(len, levels.values()))
        if done % 50 == 0:
            print(f'{done} of {count - 1} merges', flush=True)

    for number in range(count):
        held.append((0, state(number)))
        while len(held) > 1 and held[-1][0] == held[-2][0]:
            merge_last()
    while len(held) > 1:
        merge_last()
    root = held[0][1]
    times = [seconds for level in levels.values() for seconds, _ in level]
    return {
        'states': count, 'images_a_state': PART, 'features': FEATURES, 'classes': CLASSES,
        'scores': len(scores), 'update_seconds_an_image': update, 'state_bytes': leaf,
        'prepared_bytes': size(job.prepared), 'root_bytes': size(root),
        'images_in_root': int(root['/images']), 'merge_seconds': float(np.median(times)),
        'merge_seconds_largest': float(np.max(times)), 'merge_seconds_in_all': float(np.sum(times)),
        'bytes_by_score': {
            name: sum(a.nbytes for key, a in root.items() if key.startswith(f'{name}/'))
            for name in scores
        },
        'levels': {
            str(level): {'merges': len(runs), 'bytes': max(b for _, b in runs)}
            for level, runs in sorted(levels.items())
        },
        'cores': len(os.sched_getaffinity(0)),
    }


if __name__ == '__main__':
    main()
