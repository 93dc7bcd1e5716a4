"""Print means over all pairs of a network and a source, and the pairs where the default loses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.evaluation.pytorch_ood_detectors import PREFIX
from zoo.evaluation import WEIGHTED_FUSED

BEHIND = 0.01  # AUROC below the best peer, from which a pair is listed
FAILED, EASY = 0.80, 0.95  # AUROC of the default and of a peer
# Uses ten frames where the others use one.
WINDOWED = ('window_kl',)
METRICS = ('auroc', 'ood_missed', 'id_flagged')
LABELS = {
    'default': f'{FUSED} (default)',
    'weighted': WEIGHTED_FUSED,
    'best peer': 'best single peer: {found.peer}',
    'best score': 'best single score: {found.score}',
    'peers with hindsight': 'best peer of each pair, with hindsight',
    'all with hindsight': 'best peer or score of each pair, with hindsight',
}


@dataclass(frozen=True)
class Pair:
    """One network and one source."""

    network: str
    half: str
    source: str
    kind: str  # near or far
    scores: Mapping[str, Mapping[str, float]]

    def best(self, names: Iterable[str]) -> str:
        """Return the score with the largest AUROC."""
        return max((n for n in names if n in self.scores), key=lambda n: self.scores[n]['auroc'])

    @property
    def peers(self) -> list[str]:
        """Return the names of the detectors of pytorch-ood."""
        return [name for name in self.scores if name.startswith(PREFIX)]

    @property
    def singles(self) -> list[str]:
        """Return the names of our scores but the fused one."""
        return [
            name for name in self.scores
            if not name.startswith(PREFIX) and name not in (FUSED, WEIGHTED_FUSED, *WINDOWED)
        ]


def print_table(results: Mapping[str, Any]) -> None:
    """Print everything.

    Args:
        results: As written by ``evaluate_networks``.
    """
    pairs = pairs_of(results)
    for title, part in (
        ('all pairs', pairs),
        ('half A', [p for p in pairs if p.half == 'A']),
        ('half B', [p for p in pairs if p.half == 'B']),
        ('near', [p for p in pairs if p.kind == 'near']),
        ('far', [p for p in pairs if p.kind == 'far']),
    ):
        if part and (title == 'all pairs' or len(part) < len(pairs)):
            _print_part(title, part)
    _print_networks(results, pairs)
    _print_behind(pairs)


def pairs_of(results: Mapping[str, Any]) -> list[Pair]:
    """Return all pairs of a network and a source."""
    return [
        Pair(network['network'], network['half'], source, pair['kind'], pair['scores'])
        for network in results['networks']
        for source, pair in network['pairs'].items()
    ]


def _print_part(title: str, pairs: Sequence[Pair]) -> None:
    networks = len({pair.network for pair in pairs})
    print(f'\n{title}: {len(pairs)} pairs, {networks} networks')
    print(f'{"":48} AUROC  OOD missed  ID flagged  of pairs')
    found = choices(pairs)
    for name, choose in found.of.items():
        _print_row(LABELS[name].format(found=found), pairs, choose)
    common = [name for name in {n: 0 for p in pairs for n in p.scores} if name not in WINDOWED]
    print('  single scores and peers by AUROC, where present:')
    means = {
        name: np.mean([p.scores[name]['auroc'] for p in pairs if name in p.scores])
        for name in common if name not in (FUSED, WEIGHTED_FUSED)
    }
    for name in sorted(means, key=lambda n: -means[n])[:12]:
        _print_row(f'  {name}', pairs, lambda pair, name=name: name)


@dataclass(frozen=True)
class Choices:
    """Ways to choose a score for each pair, by their name in ``LABELS``."""

    peer: str  # best on average
    score: str
    of: Mapping[str, Callable[[Pair], str]]


def choices(pairs: Sequence[Pair]) -> Choices:
    """Return the ways to choose a score whose means are compared."""
    peer = _best_on_average(pairs, {name: 0 for pair in pairs for name in pair.peers})
    score = _best_on_average(pairs, {name: 0 for pair in pairs for name in pair.singles})
    return Choices(peer, score, {
        'default': lambda pair: FUSED,
        'weighted': lambda pair: WEIGHTED_FUSED,
        'best peer': lambda pair: peer,
        'best score': lambda pair: score,
        'peers with hindsight': lambda pair: pair.best(pair.peers),
        'all with hindsight': lambda pair: pair.best(pair.peers + pair.singles),
    })


def _best_on_average(pairs: Sequence[Pair], names: Iterable[str]) -> str:
    """Return the score with the largest mean AUROC among those that most pairs have."""
    def present(name: str) -> list[float]:
        return [pair.scores[name]['auroc'] for pair in pairs if name in pair.scores]

    names = list(names)
    most = max(len(present(name)) for name in names)
    return max((n for n in names if len(present(n)) == most), key=lambda n: np.mean(present(n)))


def _print_row(label: str, pairs: Sequence[Pair], choose: Callable[[Pair], str]) -> None:
    chosen = [(pair, choose(pair)) for pair in pairs]
    rows = [pair.scores[name] for pair, name in chosen if name in pair.scores]
    if rows:
        auroc, missed, flagged = (
            100 * float(np.mean([row[metric] for row in rows])) for metric in METRICS
        )
        print(f'{label:48} {auroc:5.2f}  {missed:10.2f}  {flagged:10.2f}  {len(rows):8d}')


def _print_networks(results: Mapping[str, Any], pairs: Sequence[Pair]) -> None:
    print('\nby network: AUROC / OOD missed of the default; of the best peer of each pair')
    for network in results['networks']:
        own = [pair for pair in pairs if pair.network == network['network']]
        parts = []
        for kind in ('near', 'far'):
            some = [pair for pair in own if pair.kind == kind]
            for choose in (lambda pair: FUSED, lambda pair: pair.best(pair.peers)):
                auroc, missed = (
                    100 * float(np.mean([pair.scores[choose(pair)][m] for pair in some]))
                    for m in METRICS[:2]
                )
                parts.append(f'{auroc:6.2f} /{missed:6.2f}')
        accuracy = network['accuracy']
        known = '   ?' if accuracy is None else f'{100 * accuracy:4.1f}'
        print(
            f'{network["half"]} {network["network"]:20} accuracy {known}  near {parts[0]}; '
            f'{parts[1]}  far {parts[2]}; {parts[3]}'
        )


def _print_behind(pairs: Sequence[Pair]) -> None:
    behind = []
    for pair in pairs:
        best = pair.best(pair.peers)
        own, theirs = pair.scores[FUSED]['auroc'], pair.scores[best]['auroc']
        if theirs - own > BEHIND:
            behind.append((theirs - own, pair, best, own, theirs))
    print(
        f'\ndefault more than {100 * BEHIND:.0f} point of AUROC below the best peer: '
        f'{len(behind)} of {len(pairs)} pairs ({100 * len(behind) / len(pairs):.1f} %)'
    )
    for _, pair, best, own, theirs in sorted(behind, key=lambda row: -row[0]):
        print(
            f'{pair.half} {pair.network:20} {pair.kind:4} {pair.source:32} {100 * own:6.2f}  '
            f'{100 * theirs:6.2f} {best}'
        )
    failed = [row for row in behind if row[3] < FAILED and row[4] > EASY]
    print(
        f'\ndefault below {100 * FAILED:.0f} % where a peer is above {100 * EASY:.0f} %: '
        f'{len(failed)} pairs'
    )
    for _, pair, best, own, theirs in failed:
        print(
            f'{pair.half} {pair.network} {pair.source}: {100 * own:.2f}, {best} {100 * theirs:.2f}'
        )
