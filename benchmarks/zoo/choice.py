"""Choose the members of the default score and the rule of their fusion, by worlds.py."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from zoo.registry import ZooNetwork
from zoo.worlds import worlds_of

CANDIDATES: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{
        name: (name, {}) for name in (
            'pattern', 'pattern_soft', 'gaussian', 'mahalanobis', 'relative_mahalanobis', 'knn',
            'channel_means', 'layer_mahalanobis', 'vim', 'she', 'msp', 'max_logit', 'energy', 'gen',
            'fdbd', 'react',
        )
    },
    'knn, k = 1': ('knn', {'neighbours': 1}),
}
KEPT = 0.95  # share of normal images below the threshold at which unknown ones are missed
MISSED_WEIGHT = 0.5  # of the missed share in the objective, AUROC - MISSED_WEIGHT * missed
GAIN = 0.0003  # smallest gain of the objective for a further member

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
# (-log p of N images (N, members), of the reference images) -> fused score (N,)
Terms = dict[str, dict[str, Any]]  # world and unknown images -> candidate -> its TERMS


def fisher(terms: np.ndarray, _reference: np.ndarray) -> np.ndarray:
    """Return the sum of -log p."""
    total: np.ndarray = terms.sum(axis=1)
    return total


def tippett(terms: np.ndarray, _reference: np.ndarray) -> np.ndarray:
    """Return the largest -log p."""
    largest: np.ndarray = terms.max(axis=1)
    return largest


def power(exponent: float) -> Rule:
    """Return the sum of powers of -log p: between Fisher's and Tippett's rule."""
    return lambda terms, _reference: (terms**exponent).sum(axis=1)


def harmonic(terms: np.ndarray, _reference: np.ndarray) -> np.ndarray:
    """Return log sum 1 / p (Wilson, The harmonic mean p-value, PNAS 2019)."""
    fused: np.ndarray = logsumexp(terms, axis=1)
    return fused


def truncated(terms: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the most unusual of the sums of the j largest -log p (Yu et al., 2009)."""
    sums, usual = (np.cumsum(-np.sort(-t, axis=1), axis=1) for t in (terms, reference))
    return np.max([
        ConformalPValues(usual[:, j]).neg_log_p_values(sums[:, j]) for j in range(sums.shape[1])
    ], axis=0)


RULES: dict[str, Rule] = {
    'sum (Fisher)': fisher, 'largest (Tippett)': tippett, 'sum of powers 1.5': power(1.5),
    'sum of squares': power(2.0), 'harmonic mean': harmonic, 'truncated product': truncated,
}


def choose(networks: Sequence[ZooNetwork], cache: Path, output: Path) -> None:
    """Print and write the singles, a greedy selection under each rule, and the current default.

    The default is judged under each rule, and without each of its members under Fisher's.

    Args:
        networks: Those of half A.
        cache: Written by ``zoo.py activations``.
        output: JSON file.
    """
    from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS

    terms: Terms = {}
    for network in networks:
        for number, world in enumerate(worlds_of(cache / network.name)):
            for name, (score, options) in CANDIDATES.items():
                for unknown, found in (world.terms(score, options) or {}).items():
                    terms.setdefault(f'{network.name}|{number}|{unknown}', {})[name] = found
        print(f'{network.name}: {sum(k.startswith(network.name) for k in terms)} cases', flush=True)
    common = [name for name in CANDIDATES if all(name in case for case in terms.values())]
    result: dict[str, Any] = {
        'networks': [network.name for network in networks],
        'singles': {name: judged(terms, [name], fisher) for name in common},
        'default': {rule: judged(terms, FUSED_MEMBERS, RULES[rule]) for rule in RULES},
        'without': {
            name: judged(terms, [other for other in FUSED_MEMBERS if other != name], fisher)
            for name in FUSED_MEMBERS
        },
        'paths': {rule: _path(terms, common, RULES[rule]) for rule in RULES},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + '\n')
    for rule, found in result['default'].items():
        print(f'default, {rule:20} {found["objective"]:.4f}')
    for name, found in result['without'].items():
        print(f'default without {name:20} {found["objective"]:.4f}')
    for rule, path in result['paths'].items():
        end = path[-1]
        print(f'{rule:20} {end["objective"]:.4f} {end["auroc"]:.2f} / {end["missed"]:.2f}  '
              f'{", ".join(end["members"])}')


def judged(terms: Terms, members: Sequence[str], rule: Rule) -> dict[str, Any]:
    """Return AUROC and missed share in percent, with equal weight for networks and kinds."""
    cells: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for case, found in terms.items():
        network, _, unknown = case.split('|')
        reference, normal, strange = (
            np.stack([found[name][part] for name in members], axis=1) for part in range(3)
        )
        usual, odd = rule(normal, reference), rule(strange, reference)
        truth = np.r_[np.zeros(len(usual)), np.ones(len(odd))]
        missed = float((odd <= np.quantile(usual, KEPT)).mean())
        cells[network, unknown.split('/')[0]].append(
            (float(roc_auc_score(truth, np.r_[usual, odd])), missed))
    kinds: dict[str, list[np.ndarray]] = defaultdict(list)
    for (_, kind), values in cells.items():
        kinds[kind].append(np.mean(values, axis=0))
    of_kind = {kind: np.mean(values, axis=0) for kind, values in kinds.items()}
    auroc, missed = np.mean(list(of_kind.values()), axis=0)
    return {
        'members': list(members), 'objective': float(auroc - MISSED_WEIGHT * missed),
        'auroc': 100 * float(auroc), 'missed': 100 * float(missed),
        'kinds': {kind: [round(100 * float(v), 2) for v in pair] for kind, pair in of_kind.items()},
    }


def _path(terms: Terms, candidates: Sequence[str], rule: Rule) -> list[dict[str, Any]]:
    """Return the steps of a greedy selection, of which each adds the best candidate."""
    path: list[dict[str, Any]] = []
    while True:
        members = path[-1]['members'] if path else []
        steps = [
            judged(terms, [*members, name], rule) for name in candidates if name not in members
        ]
        best = max(steps, key=lambda step: step['objective'])
        if path and best['objective'] < path[-1]['objective'] + GAIN:
            return path
        path.append(best)
