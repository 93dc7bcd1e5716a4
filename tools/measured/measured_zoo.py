"""The zoo's measurements (docs/measured/zoo.json) as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import mean
from typing import Any

from measured import read, table

BEHIND = 1.0  # points of AUROC below the best peer, from which a pair is listed
FAILED, EASY = 80.0, 95.0  # AUROC of the default and of a peer
ROWS = {
    'default': '`fused`, the default',
    'weighted': '`fused` with learned weights (`fit --fusion weighted`)',
    'best peer': 'best single detector: {best peer is}',
    'best score': 'best single score: {best score is}',
    'peers with hindsight': 'best detector of each pair, with hindsight',
    'all with hindsight': 'best detector or score of each pair, with hindsight',
}


def means(half: str) -> str:
    """Return the means over all, near and far pairs of one half."""
    found = read('zoo')['means'][half]
    rows = [
        [_named(text, found['all']), *(_figures(found[kind][key]) for kind in found)]
        for key, text in ROWS.items()
    ]
    headings = ['AUROC / OOD missed', *(f'{kind} ({found[kind]["pairs"]} pairs)' for kind in found)]
    return table(headings, rows)


def networks() -> str:
    """Return the figures of each network: the default, and the best detector of each pair."""
    rows = []
    for network in sorted(read('zoo')['networks'], key=lambda one: one['half']):
        cells = []
        for kind in ('near', 'far'):
            pairs = [pair for pair in network['pairs'].values() if pair['kind'] == kind]
            cells += [_figures([mean(pair[key][i] for pair in pairs) for i in (0, 1)])
                      for key in ('default', 'best peer')]
        accuracy = network['accuracy']
        rows.append([
            f'`{network["network"]}`', network['half'],
            '' if accuracy is None else f'{100 * accuracy:.1f}', *cells])
    return table(
        ['network', 'half', 'accuracy', 'near: default', 'hindsight', 'far: default', 'hindsight'],
        rows)


def behind(half: str) -> str:
    """Return the pairs of one half where the default is below the best detector."""
    rows = sorted(_behind(half), key=lambda row: row[4] - row[5])
    return table(
        ['network', 'source', 'kind', 'best detector', 'default', 'best'],
        [[f'`{network}`', source.replace('_', ' '), kind, peer, f'{own:.2f}', f'{other:.2f}']
         for network, source, kind, peer, own, other in rows])


def behind_count(half: str) -> str:
    """Return how many pairs of one half those are, in one sentence."""
    count = read('zoo')['means'][half]['all']['pairs']
    rows = list(_behind(half))
    failed = sum(row[4] < FAILED and row[5] > EASY for row in rows)
    return (
        f'On {len(rows)} of the {count} pairs of half {half} ({100 * len(rows) / count:.0f} %), '
        f'the default is more than one point below the best detector of that pair; on {failed} of '
        f'them it is below {FAILED:.0f} % where a detector is above {EASY:.0f} %.'
    )


def _behind(half: str) -> Iterator[tuple[str, str, str, str, float, float]]:
    for network in read('zoo')['networks']:
        for source, pair in network['pairs'].items():
            own, other = pair['default'][0], pair['best peer'][0]
            if network['half'] == half and other - own > BEHIND:
                peer = pair['best peer is'].removeprefix('pytorch-ood ')
                yield network['network'], source, pair['kind'], peer, own, other


def _named(text: str, found: Mapping[str, Any]) -> str:
    for key in ('best peer is', 'best score is'):
        text = text.replace(f'{{{key}}}', str(found[key]))
    return text


def _figures(pair: list[float]) -> str:
    return f'{pair[0]:.2f} / {pair[1]:.2f}'
