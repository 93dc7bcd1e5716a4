"""Results of the benchmarks (docs/measured/) as Markdown tables."""

from __future__ import annotations

from typing import Any

from measured import FOLDER, read, table

PICTURE = FOLDER.parent / 'images' / 'performance.png'
NAMES = ('node', 'judge', 'patterns', 'startup', 'fit', 'replay', 'gpu')
_MISSING = '*not measured yet*'


def picture(folder: str) -> str:
    """Return the picture with its caption, or '' if it has not been drawn.

    Args:
        folder: Folder of the pictures, relative to the page.
    """
    if not PICTURE.exists():
        return ''
    return (
        '![Rates and times of the monitor, a hand-written baseline node and a bare node]'
        f'({folder}/performance.png)\n\n'
        '*Drawn by `python tools/plot_performance.py` from the results of `nav_monitor benchmark '
        'node`.*'
    )


def node_label(name: str) -> str:
    """Return the label of a node, which the names of figures call ``peer``."""
    return name.replace('peer', 'baseline node')


def machine() -> str:
    """Return the machine and the date of each benchmark."""
    rows = []
    for name in filter(_measured, NAMES):
        facts: dict[str, Any] = read(name).get('machine', {})
        if not facts:
            continue  # measured before benchmarks recorded the machine
        versions = facts.get('versions', {})
        rows.append([
            f'`{name}`', facts.get('date', '')[:10], str(facts.get('commit') or ''),
            facts.get('cpu', ''), str(facts.get('cores', '')),
            str(facts.get('load_1_min', '')), facts.get('gpu') or 'none',
            facts.get('python', ''),
            ', '.join(
                f'{package} {versions[package]}' for package in ('torch', 'openvino', 'onnxruntime')
                if package in versions
            ),
        ])
    headings = [
        'benchmark', 'date', 'commit', 'processor', 'cores', 'load at the end', 'GPU', 'Python',
        'versions',
    ]
    return table(headings, rows)


def times(name: str) -> str:
    """Return the median, 99th percentile and ratio of each timing of a benchmark."""
    if not _measured(name):
        return _MISSING
    content = read(name)
    rows = [
        [node_label(what), _time(t['median_ms']), _time(t['p99_ms']), f'{t["ratio"]:.3g}']
        for what, t in content['timed'].items()
    ]
    return table([content['title'], 'median', 'p99', f'median / {content["reference"]}'], rows)


def figures(name: str) -> str:
    """Return the figures of a benchmark, with their targets."""
    if not _measured(name):
        return _MISSING
    rows = []
    for what, figure in read(name)['figures'].items():
        if what.startswith('rate_monitor') or what in ('rate_peer', 'rate_peer_maps_watched'):
            continue  # in the table of rates
        target = figure['target']
        sign = '<=' if figure['better'] == 'lower' else '>='
        reached = '' if target is None else (
            'yes' if (figure['value'] <= target) == (figure['better'] == 'lower') else 'no')
        unit = f' {figure["unit"]}'.rstrip()
        rows.append([
            f'`{what}`', f'{figure["value"]:.3g}{unit}',
            '' if target is None else f'{sign} {target:g}{unit}', reached,
        ])
    return table(['figure', 'measured', 'target', 'reached'], rows)


def rates() -> str:
    """Return the maximum rate of each node, images per second."""
    if not _measured('node'):
        return _MISSING
    content = read('node')
    peer = content['rate_peer']
    rows = [
        [node_label(what.removeprefix('rate_').replace('_', ' ')), f'{figure["value"]:.1f} Hz',
         f'{figure["value"] / peer:.2f}']
        for what, figure in content['figures'].items() if figure['unit'] == 'Hz'
    ]
    return table(['node', 'maximum rate', "times the baseline node's rate"], rows)


def gpu_scores() -> str:
    """Return how the verdicts of a GPU differ from those of the same machine's CPU."""
    if not _measured('gpu'):
        return _MISSING
    rows = [
        [
            f'`{one["bundle"]}`', f'`{one["engine"]}`', str(one['images']),
            str(one['reclassified']), f'{one["largest_change"]:.1g}',
            f'{one["flagged"]} ({one["flagged_by_cpu"]})', one['calibration'],
        ]
        for one in read('gpu')['details']['scores']
    ]
    return table(
        ['bundle', 'engine on the GPU', 'images', 'reclassified',
         'largest change of a score, standard deviations', 'flagged (by the CPU)', 'calibration'],
        rows,
    )


def bdds() -> str:
    """Return the cost of BDDs of random patterns."""
    if not _measured('patterns'):
        return _MISSING
    rows = [
        [
            str(bdd['neurons']), f'{bdd["stored"]} of {bdd["patterns"]}', str(bdd['nodes']),
            f'{bdd["build_seconds"]:.2f} s', f'{bdd["query_us"]:.0f} us',
            f'{bdd["distance_1_seconds"]:.1f} s'
            + ('' if bdd.get('nodes_distance_1') else ', given up'),
            str(bdd.get('nodes_distance_1') or ''),
        ]
        for bdd in read('patterns').get('details', {}).get('bdd', [])
    ]
    return table(
        ['neurons', 'patterns stored', 'nodes', 'time to build', 'time of one query',
         'time to add distance 1', 'nodes afterwards'], rows)


def _measured(name: str) -> bool:
    return (FOLDER / f'{name}.json').exists()


def _time(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f'{round(milliseconds, -1):.0f} ms'
    return f'{1e3 * milliseconds:.3g} us' if milliseconds < 1 else f'{milliseconds:.3g} ms'
