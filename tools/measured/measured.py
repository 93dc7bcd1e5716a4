"""Measurements (docs/measured/) as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / 'docs' / 'measured'
NETWORKS = {
    'digits': 'digits',
    'traffic_signs': 'traffic signs',
    'signs_left_out': 'signs, classes left out',
    'fashion': 'Fashion-MNIST, ResNet',
}
MISSED = 'ood_missed_at_95_id_kept'
WINDOWED = ('window_kl',)  # scores computed over ten frames instead of one
SHOWN = 8  # number of scores in the README besides the default


@lru_cache
def read(name: str) -> dict[str, Any]:
    """Return one file of docs/measured/."""
    content: dict[str, Any] = json.loads((FOLDER / f'{name}.json').read_text(encoding='utf-8'))
    return content


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(headings), ['---', *['---:'] * (len(headings) - 1)], *map(list, rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def percent(share: float, digits: int = 2) -> str:
    """Return a share as a percentage."""
    return f'{100 * share:.{digits}f}'


def _pairs(score: str, key: str, networks: Iterable[str] = NETWORKS) -> list[float]:
    """Return one figure of a score for all pairs of network and source; [] if one is missing."""
    values = []
    for network in networks:
        for scores in read(network)['separation'].values():
            if score not in scores:
                return []
            values.append(scores[score][key])
    return values


def _scores(network: str) -> list[str]:
    return list(next(iter(read(network)['separation'].values())))


def _hindsight(network: str, key: str) -> list[float]:
    """Return the figure of the best single score or peer on each source."""
    best = max if key == 'auroc' else min
    return [
        best(f[key] for score, f in scores.items() if score not in ('fused', *WINDOWED))
        for scores in read(network)['separation'].values()
    ]


def overview() -> str:
    """Return the default score beside the best other scores over all pairs."""
    common = [s for s in _scores('digits') if s not in WINDOWED and _pairs(s, 'auroc')]
    order = sorted(common, key=lambda score: -mean(_pairs(score, 'auroc')))
    order = ['fused', *[score for score in order if score != 'fused'][:SHOWN]]
    total = sum(len(read(network)['separation']) for network in NETWORKS)

    def cell(aurocs: list[float], fprs: list[float]) -> str:
        return f'{percent(mean(aurocs))} / {percent(mean(fprs))}'

    rows = []
    for score in order:
        cells = [
            cell(_pairs(score, 'auroc', [network]), _pairs(score, 'fpr_at_95_recall', [network]))
            for network in NETWORKS
        ]
        whole = cell(_pairs(score, 'auroc'), _pairs(score, 'fpr_at_95_recall'))
        missed = percent(mean(_pairs(score, MISSED)))
        name = f'**`{score}`**' if score == 'fused' else f'`{score}`'
        bold = '**' if score == 'fused' else ''
        rows.append([name, *cells, f'{bold}{whole}{bold}', f'{bold}{missed}{bold}'])
    best = [
        (_hindsight(network, 'auroc'), _hindsight(network, 'fpr_at_95_recall'))
        for network in NETWORKS
    ]
    missed = percent(mean(m for network in NETWORKS for m in _hindsight(network, MISSED)))
    rows.append([
        'the best single score or detector on each source, with hindsight',
        *(cell(aurocs, fprs) for aurocs, fprs in best),
        cell([a for aurocs, _ in best for a in aurocs], [f for _, fprs in best for f in fprs]),
        missed,
    ])
    headings = [
        'score (AUROC / FPR at 95 % recall, in %)',
        *(
            f'{title} ({len(read(network)["separation"])})'
            for network, title in NETWORKS.items()
        ),
        f'all {total} pairs',
        f'OOD missed at 95 % ID kept, all {total} pairs',
    ]
    return table(headings, rows)


def evaluation(network: str) -> str:
    """Return all scores and peers on one network's sources."""
    separation = read(network)['separation']
    order = sorted(
        _scores(network), key=lambda score: -mean(s[score]['auroc'] for s in separation.values())
    )
    rows = []
    for score in order:
        cells = [
            f'{percent(s[score]["auroc"])} / {percent(s[score]["fpr_at_95_recall"])}'
            for s in separation.values()
        ]
        average = (
            f'{percent(mean(s[score]["auroc"] for s in separation.values()))} / '
            f'{percent(mean(s[score]["fpr_at_95_recall"] for s in separation.values()))}'
        )
        cost = f'{read(network)["microseconds"][score]:.0f}'
        name = f'**`{score}`**' if score == 'fused' else f'`{score}`'
        missed = percent(mean(s[score][MISSED] for s in separation.values()))
        rows.append([name, *cells, average, missed, cost])
    titles = [name.replace('_', ' ') for name in separation]
    headings = ['score', *titles, 'mean', 'mean OOD missed at 95 % ID kept', 'us per frame']
    return table(headings, rows)


def alarms(network: str) -> str:
    """Return false alarms, detection at the calibrated threshold and coverage of mistakes."""
    content = read(network)
    separation = content['separation']
    rows = []
    for score, alarm in content['false_alarms'].items():
        coverage = content['coverage'][score]
        detected = [percent(s[score]['detected'], 1) for s in separation.values()]
        among = coverage['misclassified_flagged'] / max(1, coverage['flagged'])
        name = f'**`{score}`**' if score == 'fused' else f'`{score}`'
        rows.append([
            name,
            f'{percent(alarm["rate"])} ({percent(alarm["low"])} to {percent(alarm["high"])})',
            f'{coverage["misclassified_flagged"]} of {coverage["misclassified"]}',
            percent(among, 1),
            *detected,
        ])
    titles = [f'{name.replace("_", " ")} flagged' for name in separation]
    headings = [
        'score', 'false alarms (95 % interval)', 'mistakes flagged', 'mistakes among the flagged',
        *titles,
    ]
    return table(headings, rows)


def fusion_path() -> str:
    """Return the order in which scores were added to the fusion."""
    path, singles = read('fusion')['path'], read('fusion')['singles']
    rows = [
        [
            f'`{step["added"]}`' if number < len(path) - 1 else f'(`{step["added"]}`, not taken)',
            f'{singles[step["added"]]["auroc"]:.2f} / {singles[step["added"]]["fpr95"]:.2f}',
            f'{step["auroc"]:.2f} / {step["fpr95"]:.2f}',
        ]
        for number, step in enumerate(path)
    ]
    return table(['added', 'alone', 'fused with those above'], rows)


def pooled_patterns() -> str:
    """Return the AUROCs of patterns at 0 and at the median on pooled features."""
    spread = read('fusion')['thresholds_on_pooled_features']
    rows = [
        [f'`pattern.threshold={rule}`', *(f'{auroc:.1f}' for auroc in spread[f'pattern {rule}'])]
        for rule in ('zero', 'quantile')
    ]
    headings = ['threshold above which a neuron is on', 'lowest AUROC', 'highest AUROC (%)']
    return table(headings, rows)


def cost() -> str:
    """Return the cost of judging one frame."""
    result = read('judge')
    rows = [
        [
            name if ' ' in name else f'`{name}`', f'{1e3 * figures["median_ms"]:.0f} us',
            f'{1e3 * figures["p99_ms"]:.0f} us', f'{100 * figures["ratio"]:.2f} %',
        ]
        for name, figures in result['timed'].items()
    ]
    sizes = (
        'one frame, {features} features, {patterns} patterns for each of {classes} '
        'classes'.format(**result['settings'])
    )
    return table([sizes, 'median', 'p99', 'of the forward pass'], rows)


def fusion_ways() -> str:
    """Return other ways to combine scores."""
    rows = [
        [way, f'{figures["auroc"]:.2f} / {figures["fpr95"]:.2f}']
        for way, figures in read('fusion')['ways'].items()
    ]
    return table(['way', 'AUROC / FPR at 95 % recall'], rows)


def _interval(figure: dict[str, float], digits: int = 2) -> str:
    return f'{percent(figure["mean"], digits)} ± {percent(figure["half_width"], digits)}'


def triangles() -> str:
    """Return how well each method separates triangles from digits."""
    rows = []
    for method, figures in read('study')['triangles'].items():
        kind, _, name = method.partition(': ')
        if 'auroc' not in figures or (kind == 'decoy' and name not in ('decoy', 'fused')):
            continue
        rows.append((figures['auroc']['mean'], [
            f'{name}' + (' (network with a background class)' if kind == 'decoy' else ''),
            _interval(figures['auroc']),
            _interval(figures['fpr95']),
            _interval(figures['detected'], 1) if 'detected' in figures else '',
            _interval(figures['false_alarms']) if 'false_alarms' in figures else '',
        ]))
    rows.sort(key=lambda row: -row[0])
    headings = [
        'method', 'AUROC', 'FPR at 95 % recall', 'triangles flagged', 'digits flagged (budget 1 %)'
    ]
    return table(headings, [cells for _, cells in rows])


def gammas() -> str:
    """Return the results of the paper's decision, distance > gamma, on triangles and digits."""
    rows = []
    for method, figures in read('study')['triangles'].items():
        if method.startswith('plain: pattern, gamma'):
            rows.append([
                method.rpartition(' ')[2], _interval(figures['detected'], 1),
                _interval(figures['false_alarms'], 1),
            ])
    return table(['gamma', 'triangles out of pattern', 'digits out of pattern'], rows)


def columns() -> str:
    """Return the two columns of Cheng et al."""
    patterns = read('study')['patterns']
    rows = []
    for gamma, digits in patterns['digits'].items():
        signs = patterns['traffic_signs'][gamma]
        rows.append([
            gamma,
            _interval(digits['out_of_pattern']), _interval(digits['misclassified_among_them']),
            percent(signs['out_of_pattern']), percent(signs['misclassified_among_them']),
        ])
    headings = [
        'gamma', 'digits: out of pattern', 'misclassified among them',
        'traffic signs: out of pattern', 'misclassified among them',
    ]
    return table(headings, rows)


def budget() -> str:
    """Return how often the false-alarm bound held, and how often it should have."""
    rows = []
    for name, result in read('study')['budget'].items():
        for way, figures in result.items():
            expected = figures['expected_to_hold']
            rows.append([
                f'{name.replace("_", " ")}, {way}',
                f'{figures["calibrated_on"]} / {figures["tested_on"]}',
                f'{percent(figures["budget"], 0)} %',
                f'{percent(figures["bound_held"], 1)} %',
                'unknown' if expected is None else f'{percent(expected, 1)} %',
                f'{percent(figures["mean_rate"])} %', f'{percent(figures["largest_rate"])} %',
            ])
    headings = [
        'calibrated', 'calibration / test images', 'budget', 'splits within',
        'expected for independent images', 'mean rate', 'largest rate',
    ]
    return table(headings, rows)
