"""Draw docs/images/performance.png from docs/measured/node.json.

    python tools/plot_performance.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools' / 'measured'))

from measured import read  # noqa: E402
from measured_performance import node_label  # noqa: E402

PICTURE = ROOT / 'docs' / 'images' / 'performance.png'
OURS, BARE, THEIRS, REST = '#0072B2', '#999999', '#D55E00', '#E69F00'


def main() -> None:
    """Draw the picture."""
    content = read('node')
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 3.4), layout='constrained')
    _rates(left, content)
    _latencies(right, content)
    machine = content['machine']
    figure.suptitle(
        f'ResNet-18, 640 x 480 over DDS, {machine["cpu"]}, {machine["cores"]} cores, '
        f'load {machine["load_1_min"]}, {machine["date"][:10]}', fontsize=10,
    )
    figure.savefig(PICTURE, dpi=120)
    print(f'{PICTURE.relative_to(ROOT)} written')


def _rates(axes: plt.Axes, content: dict) -> None:
    """Draw the maximum rate of each node."""
    bars = [
        (node_label(what.removeprefix('rate_').replace('_', ' ')), figure['value'])
        for what, figure in content['figures'].items() if figure['unit'] == 'Hz'
    ][::-1]
    colors = [
        THEIRS if name.startswith('baseline') else BARE if name.startswith('bare') else OURS
        for name, _ in bars
    ]
    drawn = axes.barh([name for name, _ in bars], [rate for _, rate in bars], color=colors)
    axes.bar_label(drawn, fmt='%.0f', padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.set_xlabel('maximum images per second', fontsize=9)
    _plain(axes)


def _latencies(axes: plt.Axes, content: dict) -> None:
    """Draw the median and 99th percentile at 30 Hz, and the monitor's time outside the network."""
    timed = content['timed']
    names = [name for name in timed if ':' not in name][::-1]
    for place, name in enumerate(names):
        color = THEIRS if name.startswith('baseline') else BARE if name.startswith('bare') else OURS
        median, p99 = timed[name]['median_ms'], timed[name]['p99_ms']
        axes.barh(place, median, color=color)
        axes.plot([median, p99], [place, place], color='black', linewidth=1)
        axes.plot(p99, place, marker='|', color='black', markersize=10)
        rest = timed.get(f'{name}: the rest')
        if rest:
            axes.barh(place, rest['median_ms'], color=REST, height=0.35)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel('ms from image to reply at 30 Hz\nmedian, and to p99 (line)\n'
                    'yellow: outside the forward pass', fontsize=9)
    _plain(axes)


def _plain(axes: plt.Axes) -> None:
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)


if __name__ == '__main__':
    main()
