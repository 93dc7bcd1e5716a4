"""Summary of the evaluations of both halves, from which the documentation's tables are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nav_monitor_ros.decision.score_fusion import FUSED
from zoo.evaluation import WEIGHTED_FUSED
from zoo.table import METRICS, Pair, choices, pairs_of

Figures = list[float]  # those of METRICS, in percent


def write_summary(files: Sequence[Path], output: Path) -> None:
    """Write the means of each half and kind, and the figures of each pair, in percent.

    Args:
        files: Written by ``evaluate_networks``.
        output: JSON file.
    """
    results = [json.loads(file.read_text()) for file in files]
    pairs = [pair for result in results for pair in pairs_of(result)]
    summary = {
        'versions': results[0]['versions'],
        'means': {
            half: {
                kind: _means([p for p in pairs if p.half == half and kind in (p.kind, 'all')])
                for kind in ('all', 'near', 'far')
            } for half in sorted({pair.half for pair in pairs})
        },
        'networks': [
            {
                **{key: network[key] for key in (
                    'network', 'half', 'kind', 'data', 'accuracy', 'features', 'fused')},
                'pairs': {
                    pair.source: _pair(pair) for pair in pairs if pair.network == network['network']
                },
            } for result in results for network in result['networks']
        ],
    }
    output.write_text(json.dumps(summary, indent=1) + '\n')


def _means(pairs: Sequence[Pair]) -> Mapping[str, Any]:
    found = choices(pairs)
    return {
        'pairs': len(pairs), 'best peer is': found.peer, 'best score is': found.score,
        **{
            name: [
                round(100 * float(np.mean([p.scores[choose(p)][metric] for p in pairs])), 2)
                for metric in METRICS
            ] for name, choose in found.of.items()
        },
    }


def _pair(pair: Pair) -> Mapping[str, Any]:
    best = pair.best(pair.peers)
    return {
        'kind': pair.kind, 'default': _figures(pair, FUSED),
        'weighted': _figures(pair, WEIGHTED_FUSED), 'best peer is': best,
        'best peer': _figures(pair, best),
    }


def _figures(pair: Pair, name: str) -> Figures:
    return [round(100 * pair.scores[name][metric], 2) for metric in METRICS]
