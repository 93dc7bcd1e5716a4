"""Choose the members of the default score from in-distribution images alone.

For each of four networks, the scores are fitted to the training images. One third of the held-out
calibration images yields the members' p-values, the others represent normal frames, and corruptions
of calibration images (benchmarks/proxies.py) represent strange ones. No other image is read. The
results are printed and written to docs/measured/fusion.json: each single score, a greedy selection
of scores, and other ways to combine the selected ones.

    python benchmarks/choose_fusion.py --data DIR [--work DIR]

DIR contains mnist.npz and gtsrb.npz. Networks that are not shipped are read from --work, where
benchmarks/evaluate.py trains them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import proxies
import torch
from evaluate import LEFT_OUT, MEASURED, ROOT
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import ImageSource, from_arrays, split
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.fitting.calibration_split import FUSION_SHARE
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS, FitOptions
from nav_monitor_ros.fitting.score_selection import configure_for_supported_scores, empty_scores
from nav_monitor_ros.fitting.train import TASKS, train
from nav_monitor_ros.fitting.training_pass import fit_scores
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.registry import SCORES, make_score

COUNT = 1500  # proxies of each kind
SPLITS = 3  # splits of the calibration images, each with other proxies
GAIN = 0.1  # smallest increase of the mean AUROC by a further member, percentage points

Scores = Mapping[str, Score]


class World:
    """One network and one split: -log p of normal and strange images for each score."""

    def __init__(
        self, scores: Scores, classifier: Classifier, held_out: ImageSource, seed: int
    ) -> None:
        normal, marginal = split(held_out, FUSION_SHARE, seed)
        reference = run(classifier, marginal)
        batches = {'normal': run(classifier, normal)}
        resized = classifier.preprocess.resized
        pixels = np.stack([resized(held_out.image(i)) for i in range(len(held_out))])
        assert held_out.own_labels is not None
        for kind in proxies.CORRUPTIONS:
            made = proxies.make(
                kind, pixels, held_out.own_labels, COUNT, np.random.default_rng(seed)
            )
            source = from_arrays(kind, made[..., 0] if made.shape[3] == 1 else made)
            batches[kind] = run(classifier, source)
        self.marginals: dict[str, np.ndarray] = {}
        self.neg_log_p_values: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in batches}
        for name, score in scores.items():
            conformal = ConformalPValues(score.score(reference))
            self.marginals[name] = conformal.neg_log_p_values(conformal.scores)
            for kind, batch in batches.items():
                self.neg_log_p_values[kind][name] = conformal.neg_log_p_values(score.score(batch))


def worlds_of(name: str, task: str, data: str, exclude: str, weights: Path) -> list[World]:
    """Fit the scores to one network and score its proxies in several splits."""
    trained = train(
        task, open_source(data), exclude=open_source(exclude) if exclude else None,
        weights=weights,
    )
    classifier = Classifier(trained.network, TASKS[task].preprocess)
    scores = {
        score: empty
        for score, empty in empty_scores(classifier, FitOptions()).items()
        if not empty.windowed
    }
    # Not candidates: they only compare thresholds above which a neuron is on.
    for rule in ('zero', 'quantile'):
        scores[f'pattern {rule}'] = make_score(
            'pattern', {'threshold': rule}, classes=classifier.classes, width=classifier.width,
            head=classifier.head,
        )
    configure_for_supported_scores(classifier, scores, required=False)
    fit_scores(classifier, trained.fit_data, trained.fit_data.labels, scores, required=False)
    worlds = [World(scores, classifier, trained.calibration_data, seed) for seed in range(SPLITS)]
    print(f'{name}: {", ".join(scores)}', flush=True)
    return worlds


Combine = Callable[[World, Sequence[str], str, str], np.ndarray]
# (world, members, kind of images, kind of proxies excluded from learning) -> float (N,)


def columns(world: World, members: Sequence[str], kind: str) -> np.ndarray:
    """Return -log p of the members, float64 (N, members); missing scores are omitted."""
    return np.stack(
        [world.neg_log_p_values[kind][m] for m in members if m in world.marginals], axis=1
    )


def fisher(world: World, members: Sequence[str], kind: str, _held_out: str) -> np.ndarray:
    """Return the sum."""
    return columns(world, members, kind).sum(axis=1)


def tippett(world: World, members: Sequence[str], kind: str, _held_out: str) -> np.ndarray:
    """Return the maximum."""
    return columns(world, members, kind).max(axis=1)


def decorrelated(world: World, members: Sequence[str], kind: str, _held_out: str) -> np.ndarray:
    """Return the sum of the normal quantiles, weighted by the inverse of their correlation."""
    calibration = np.stack([world.marginals[m] for m in members if m in world.marginals], axis=1)
    z_calibration, z = (
        norm.isf(np.clip(np.exp(-values), 1e-15, 1 - 1e-6))
        for values in (calibration, columns(world, members, kind))
    )
    correlation = np.atleast_2d(np.corrcoef(z_calibration.T)) + 1e-2 * np.eye(z.shape[1])
    return z @ np.maximum(np.linalg.solve(correlation, np.ones(z.shape[1])), 0)


def learned(world: World, members: Sequence[str], kind: str, held_out: str) -> np.ndarray:
    """Return a sum weighted by logistic regression on all kinds of proxies except one."""
    normal = np.stack([world.marginals[m] for m in members if m in world.marginals], axis=1)
    strange = np.concatenate([
        columns(world, members, other) for other in proxies.CORRUPTIONS if other != held_out
    ])
    truth = np.r_[np.zeros(len(normal)), np.ones(len(strange))]
    model = LogisticRegression(class_weight='balanced', max_iter=1000)
    model.fit(np.minimum(np.concatenate([normal, strange]), 30), truth)
    return columns(world, members, kind) @ np.maximum(model.coef_[0], 0)


def judge(worlds: Sequence[World], members: Sequence[str], combine: Combine) -> dict[str, float]:
    """Return mean AUROC and mean FPR at 95 % recall over all networks and proxies, in percent."""
    aurocs, fprs = [], []
    for world in worlds:
        if not set(members) & set(world.marginals):
            continue
        for kind in proxies.CORRUPTIONS:
            normal = combine(world, members, 'normal', kind)
            strange = combine(world, members, kind, kind)
            truth = np.r_[np.zeros(len(normal)), np.ones(len(strange))]
            aurocs.append(roc_auc_score(truth, np.r_[normal, strange]))
            fprs.append((normal >= np.quantile(strange, 0.05)).mean())
    return {'auroc': 100 * float(np.mean(aurocs)), 'fpr95': 100 * float(np.mean(fprs))}


def spread(worlds: Sequence[World], score: str) -> list[float]:
    """Return the smallest and largest AUROC of one score over all kinds of proxies, in percent."""
    aurocs = [
        100 * roc_auc_score(
            np.r_[np.zeros(len(world.neg_log_p_values['normal'][score])), np.ones(COUNT)],
            np.r_[world.neg_log_p_values['normal'][score], world.neg_log_p_values[kind][score]],
        )
        for world in worlds
        for kind in proxies.CORRUPTIONS
    ]
    return [float(min(aurocs)), float(max(aurocs))]


def main() -> None:
    """Choose the members, and print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--work', type=Path, default=ROOT / 'build' / 'evaluate')
    options = parser.parse_args()
    torch.set_num_threads(1)
    signs = f'{options.data}/gtsrb.npz?is_val=0&group=y,track'
    bundles, weights = ROOT / 'bundles', 'model.safetensors'
    worlds = [
        *worlds_of('digits', 'digits', f'{options.data}/mnist.npz?split=train', 'sample:digits',
                   bundles / 'digits' / weights),
        *worlds_of('traffic_signs', 'traffic_signs', signs, '',
                   bundles / 'traffic_signs' / weights),
        *worlds_of('signs_left_out', 'traffic_signs', f'{signs}&without={LEFT_OUT}', '',
                   options.work / 'signs_left_out' / weights),
        *worlds_of('fashion', 'fashion', 'sample:fashion_mnist?split=train', '',
                   options.work / 'fashion' / weights),
    ]
    # The default score may only contain scores that all networks support.
    common = [s for s in SCORES if all(s in world.marginals for world in worlds)]
    singles = {score: judge(worlds, [score], fisher) for score in common}
    chosen: list[str] = []
    path = []
    while True:
        candidates = {s: judge(worlds, [*chosen, s], fisher) for s in common if s not in chosen}
        best = max(candidates, key=lambda s: candidates[s]['auroc'])
        path.append({'added': best, **candidates[best]})
        if chosen and path[-1]['auroc'] - path[-2]['auroc'] < GAIN:
            break
        chosen.append(best)
    ways = {
        'sum (Fisher)': judge(worlds, chosen, fisher),
        'largest (Tippett)': judge(worlds, chosen, tippett),
        'decorrelated sum (Stouffer)': judge(worlds, chosen, decorrelated),
        'learned weights, other kinds of corruption': judge(worlds, chosen, learned),
        'sum of all scores': judge(worlds, common, fisher),
        'learned weights of all scores': judge(worlds, common, learned),
    }
    result = {
        'singles': singles, 'path': path, 'chosen': chosen, 'ways': ways,
        'thresholds_on_pooled_features': {
            f'pattern {rule}': spread(worlds[-SPLITS:], f'pattern {rule}')
            for rule in ('zero', 'quantile')
        },
    }
    print(json.dumps(result, indent=1))
    (MEASURED / 'fusion.json').write_text(json.dumps(_rounded(result), indent=1) + '\n')
    if set(chosen) != set(FUSED_MEMBERS):
        print(f'the default is {FUSED_MEMBERS}')


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 2) if isinstance(value, float) else value


if __name__ == '__main__':
    main()
