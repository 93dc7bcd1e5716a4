"""Measure how well each method separates triangles from digits, and whether the budget holds.

Writes docs/measured/study.json, from which tools/write_docs.py generates the tables of
docs/study.md.

- triangles: three networks (seeds) with dropout, and three that also have a background class, each
  with a newly fitted monitor; every method on the same 5,000 digits and 5,000 triangles.
- patterns: the two columns of Cheng et al. (DATE 2019), gamma 0 to 3, on MNIST's test digits for
  the three networks and on the held-out tracks of traffic signs for the shipped one.
- budget: how often the false-alarm bound holds, over many random splits into calibration and test
  images, and how often it should hold on so many of them.

    python benchmarks/study.py --data DIR [--work DIR]

DIR contains mnist.npz and gtsrb.npz. Networks that are missing in --work are trained (five epochs
each).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate import MEASURED, ROOT, nav_monitor, rounded
from scipy.stats import t as student

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.decision.calibration import (
    CalibrationOptions,
    CalibrationScores,
    calibrate,
)
from nav_monitor_ros.evaluation.metrics import separate
from nav_monitor_ros.evaluation.split_expectation import share_of_splits_within, split_cells
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.train import TASKS, train
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.scores.mc_dropout import MonteCarloDropout
from nav_monitor_ros.scores.pattern import Pattern

SEEDS = (0, 1, 2)
EPOCHS = 5
GAMMAS = (0, 1, 2, 3)
SPLITS = 200  # random splits for the budget
STORED = 300  # raw feature vectors per class


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--work', type=Path, default=ROOT / 'build' / 'study')
    parser.add_argument('--budget-only', action='store_true', help='repeat only the budget')
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    mnist, signs = f'{options.data}/mnist.npz', f'{options.data}/gtsrb.npz'
    tracks = f'{signs}?group=y,track'
    written = MEASURED / 'study.json'
    if options.budget_only:
        result = {**json.loads(written.read_text()), 'budget': budgets(mnist, tracks)}
        written.write_text(json.dumps(rounded(result), indent=1) + '\n')
        return
    triangles: dict[str, list[dict[str, Any]]] = {}
    patterns: list[dict[str, Any]] = []
    for kind in ('plain', 'decoy'):
        for seed in SEEDS:
            print(f'{kind}, seed {seed}', flush=True)
            bundle, classifier, training = network(kind, seed, mnist, options.work)
            for method, figures in compare(bundle, classifier, training).items():
                triangles.setdefault(f'{kind}: {method}', []).append(figures)
            if kind == 'plain':
                test = open_source(f'{mnist}?split=test')
                patterns.append(columns(bundle, run(classifier, test), test.own_labels))
    shipped = load_bundle('traffic_signs')
    held_out = open_source(f'{signs}?is_val=1')
    classifier = load_network(shipped, device='cpu')
    result = {
        'triangles': {method: summary(runs) for method, runs in triangles.items()},
        'patterns': {
            'digits': {gamma: summary([p[gamma] for p in patterns]) for gamma in GAMMAS},
            'traffic_signs': columns(shipped, run(classifier, held_out), held_out.own_labels),
        },
        'budget': budgets(mnist, tracks),
    }
    print(json.dumps(rounded(result), indent=1))
    written.write_text(json.dumps(rounded(result), indent=1) + '\n')


def budgets(mnist: str, tracks: str) -> dict[str, Any]:
    """Return how often the bound holds, for both shipped bundles."""
    return {
        'digits': budget(
            'digits', ['sample:digits', f'{mnist}?split=test'], f'{mnist}?split=train'
        ),
        'traffic_signs': budget('traffic_signs', [f'{tracks}&is_val=1'], f'{tracks}&is_val=0'),
    }


def network(
    kind: str, seed: int, mnist: str, work: Path
) -> tuple[Bundle, Classifier, tuple[Activations, np.ndarray]]:
    """Return a network with its monitor, and activations of training images with their labels."""
    folder = work / f'digits_{kind}_{seed}'
    decoy = kind == 'decoy'
    if not (folder / 'model.safetensors').exists():
        nav_monitor(
            'train', 'digits', '--data', f'{mnist}?split=train', '--exclude', 'sample:digits',
            '--epochs', str(EPOCHS), '--seed', str(seed), '--output', str(folder),
            *(['--decoy'] if decoy else []),
        )
    trained = train(
        'digits', open_source(f'{mnist}?split=train'), exclude=open_source('sample:digits'),
        weights=folder / 'model.safetensors', decoy=decoy, seed=seed,
    )
    task = TASKS['digits']
    classifier = Classifier(
        trained.network, task.preprocess, background=-1 if decoy else None
    )
    bundle = fit(
        classifier, task.spec(decoy=decoy), trained.fit_data, trained.calibration_data,
        FitOptions(class_names=task.class_names, seed=seed),
    )
    some = trained.fit_data.subset(np.arange(0, len(trained.fit_data), 8))
    assert some.own_labels is not None
    return bundle, classifier, (run(classifier, some), some.own_labels)


def compare(
    bundle: Bundle, classifier: Classifier, training: tuple[Activations, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return how well each method separates triangles from digits."""
    judge = bundle.judge(also=['all'])
    digits = run(classifier, open_source('sample:digits'))
    triangles = run(classifier, open_source('sample:triangles?count=5000'))
    figures = {}
    scores = {name: (judge.scores_of(digits)[name], values)
              for name, values in judge.scores_of(triangles).items()}
    for name, (normal, strange) in scores.items():
        thresholds = bundle.calibration.thresholds[name]
        p_digits, p_triangles = (judge.p_values(batch)[name] for batch in (digits, triangles))
        figures[name] = {
            **described(normal, strange),
            'detected': float((p_triangles <= thresholds[triangles.predicted]).mean()),
            'false_alarms': float((p_digits <= thresholds[digits.predicted]).mean()),
        }
    pattern = bundle.scores['pattern']
    for gamma in GAMMAS:
        normal, strange = (pattern.score(batch) > gamma for batch in (digits, triangles))
        figures[f'pattern, gamma {gamma}'] = {
            'detected': float(strange.mean()), 'false_alarms': float(normal.mean())
        }
    figures['Hamming distance of raw floats'] = described(
        *(raw_hamming(training, batch) for batch in (digits, triangles))
    )
    figures['one Gaussian over the layer, KL'] = described(
        *(layer_divergence(training, batch) for batch in (digits, triangles))
    )
    mutual = MonteCarloDropout(
        classes=classifier.classes, width=classifier.width, head=classifier.head,
        measure='mutual_information',
    )
    figures['mc_dropout, mutual information'] = described(
        mutual.score(digits), mutual.score(triangles)
    )
    return figures


def described(normal: np.ndarray, strange: np.ndarray) -> dict[str, float]:
    """Return AUROC and FPR at 95 % recall."""
    separation = separate(normal, strange)
    return {'auroc': separation.auroc, 'fpr95': separation.fpr_at_95_recall}


def raw_hamming(training: tuple[Activations, np.ndarray], batch: Activations) -> np.ndarray:
    """Return the number of neurons that differ from the class's nearest stored feature vector.

    Two floats are almost never equal, unless both are 0.
    """
    stored, labels = training
    distances = np.empty(len(batch))
    for label in range(batch.logits.shape[1]):
        rows = stored.features[(labels == label) & (stored.predicted == label)][:STORED]
        members = np.flatnonzero(batch.predicted == label)
        for index in members:
            distances[index] = (rows != batch.features[index]).sum(axis=1).min()
    return distances


def layer_divergence(training: tuple[Activations, np.ndarray], batch: Activations) -> np.ndarray:
    """Return the KL divergence between a frame's Gaussian over all neurons and its class's."""
    stored, labels = training
    mean, variance = stored.features.mean(axis=1), stored.features.var(axis=1)
    classes = range(batch.logits.shape[1])
    class_mean = np.array([mean[labels == label].mean() for label in classes])[batch.predicted]
    class_variance = np.array([variance[labels == label].mean() for label in classes])[
        batch.predicted
    ]
    own_mean, own_variance = batch.features.mean(axis=1), batch.features.var(axis=1)
    return 0.5 * (
        np.log(class_variance / own_variance)
        + (own_variance + (own_mean - class_mean) ** 2) / class_variance - 1
    )


def columns(bundle: Bundle, batch: Activations, labels: np.ndarray | None) -> dict[int, dict]:
    """Return, for each gamma, the share out of pattern and of misclassified images among them."""
    pattern = bundle.scores['pattern']
    assert isinstance(pattern, Pattern) and labels is not None
    distances, wrong = pattern.score(batch), batch.predicted != labels
    return {
        gamma: {
            'out_of_pattern': float((distances > gamma).mean()),
            'misclassified_among_them': float(wrong[distances > gamma].mean()),
            'misclassified_found': float((distances > gamma)[wrong].mean()),
            'misclassified': float(wrong.mean()),
        }
        for gamma in GAMMAS
    }


def budget(bundle_name: str, tests: Sequence[str], training: str) -> dict[str, Any]:
    """Return how often the false-alarm bound holds over random splits, and how often it should.

    The held-out calibration images and the test images, none of which the network or the scores
    were fitted to, are combined and split at random, by whole groups if there are groups. The
    calibration uses as many images as were held out; the others yield the false-alarm rate.

    If single images are split, the number of flagged ones among m test images is beta-binomial with
    the parameters m, k + 1 and n - k, where a frame is flagged above the (k + 1)-th largest of n
    calibration scores (``share_of_splits_within`` has the formula and its source). If whole tracks
    are split, this is only what would be expected of independent images; the expectation for tracks
    depends on how similar their frames are and is left out.
    """
    bundle = load_bundle(bundle_name)
    fuse = bundle.calibration.fusion_members
    classifier = load_network(bundle, device='cpu', scores=fuse)
    sources = [open_source(test) for test in tests]
    weights = ROOT / 'bundles' / bundle_name / 'model.safetensors'
    held_out = train(
        bundle_name, open_source(training), exclude=None if sources[0].groups is not None else
        sources[0], weights=weights,
    ).calibration_data
    sources = [held_out, *sources]
    batch = Activations.concatenate([run(classifier, source) for source in sources])
    labels = batch.predicted
    groups = np.concatenate([
        (np.arange(len(s)) if s.groups is None else s.groups) + 1_000_000 * number
        for number, s in enumerate(sources)
    ])
    grouped = held_out.groups is not None
    scores = {name: bundle.scores[name].score(batch) for name in fuse}
    unique = np.unique(groups)
    share = len(np.unique(groups[: len(held_out)])) / len(unique)
    parts = np.cumsum([round(len(unique) * share / 3), round(len(unique) * share * 2 / 3)])
    # Images that a class needs for its own threshold, and whether groups count.
    ways: dict[str, tuple[int, bool]] = {
        'one threshold, images counted as independent': (len(batch), False),
        **(
            {'one threshold, tracks counted by their effective sample size': (len(batch), True)}
            if grouped else
            {'a separate threshold for each class with at least 299 images': (299, False)}
        ),
    }
    result = {}
    for way, (class_images, by_group) in ways.items():
        rates, expected = [], []
        for seed in range(SPLITS):
            order = np.random.default_rng(seed).permutation(unique)
            marginal, fused, fresh = (
                np.flatnonzero(np.isin(groups, part)) for part in np.split(order, parts)
            )
            sets = (
                CalibrationScores(
                    {name: values[rows] for name, values in scores.items()}, labels[rows],
                    groups[rows] if by_group else None,
                )
                for rows in (marginal, fused)
            )
            calibration = calibrate(
                *sets, classes=classifier.classes,
                options=CalibrationOptions(
                    fusion_members=fuse, alpha=bundle.calibration.alpha, confidence=0.95,
                    class_images=class_images,
                ),
            )
            p = calibration.p_values(
                {name: values[fresh] for name, values in scores.items()}, labels[fresh]
            )
            flagged = p['fused'] <= calibration.thresholds['fused'][labels[fresh]]
            rates.append(float(flagged.mean()))
            expected.append(share_of_splits_within(
                split_cells(
                    calibration.fused, calibration.thresholds['fused'], labels[fresh]
                ),
                bundle.calibration.alpha,
            ))
        result[way] = {
            'splits': SPLITS,
            'budget': bundle.calibration.alpha,
            'calibrated_on': len(fused),
            'tested_on': len(fresh),
            'bound_held': float(np.mean(np.array(rates) <= bundle.calibration.alpha)),
            # Of independent images; for tracks as they are it is unknown.
            'expected_to_hold': None if by_group else float(np.mean(expected)),
            'mean_rate': float(np.mean(rates)),
            'largest_rate': float(np.max(rates)),
        }
    return result


def summary(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the mean and half width of the 95 % confidence interval (Student's t) per figure."""
    result = {}
    for key in runs[0]:
        values = np.array([run_[key] for run_ in runs])
        half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        result[key] = {'mean': float(values.mean()), 'half_width': float(half)}
    return result


if __name__ == '__main__':
    main()
