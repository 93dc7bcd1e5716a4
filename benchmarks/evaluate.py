"""Evaluate the shipped bundles and two more networks on all pairs of sources, with all peers.

Trains the networks that are not shipped (once, into --work), runs `nav_monitor evaluate` for each
network, and writes the metrics.json of each to docs/measured/, from which tools/write_docs.py
generates the tables.

    python benchmarks/evaluate.py --data DIR [--work DIR] [--only digits,...]

DIR contains mnist.npz, gtsrb.npz, cifar10/ and images/, as listed in docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / 'docs' / 'measured'
# Signs excluded from the training of one network: of every colour and shape, no whole family.
LEFT_OUT = '0,6,16,19,21,24,27,32,39,41'


def main() -> None:
    """Run all evaluations."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True)
    parser.add_argument('--work', type=Path, default=ROOT / 'build' / 'evaluate')
    parser.add_argument('--only', default='', help='comma-separated names; default: all')
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    known = evaluations(options.data, options.work)
    for name in options.only.split(',') if options.only else known:
        run(name, options.data, options.work)


def evaluations(data: Path, work: Path) -> dict[str, dict]:
    """Return the bundle and the sources of each evaluation."""
    signs = data / 'gtsrb.npz'
    images = data / 'images'
    far = {
        'tiny_imagenet': f'{images}/tiny_imagenet',
        'cifar10': str(work / 'cifar10.npz'),
        'imagenet_photos': f'{images}/imagenet_photos',
        'digits': 'sample:digits?limit=2000',
        'noise': 'sample:noise?count=1000',
    }
    return {
        'digits': {
            'bundle': 'digits',
            'inside': 'sample:digits',
            'peers': f'{data}/mnist.npz?split=train',
            'ood': {
                'triangles': 'sample:triangles?count=5000',
                'fashion_mnist': 'sample:fashion_mnist',
                'inverted': 'sample:digits?transform=invert',
                'rotated': 'sample:digits?transform=rotate90',
                'noise': 'sample:noise?count=1000',
                'photographs': 'sample:photos?count=1000',
            },
        },
        'traffic_signs': {
            'bundle': 'traffic_signs',
            'inside': f'{signs}?is_val=1',
            'peers': f'{signs}?is_val=0',
            'ood': far,
        },
        'signs_left_out': {
            'bundle': str(work / 'signs_left_out'),
            'train': [
                'traffic_signs', '--data', f'{signs}?is_val=0&group=y,track&without={LEFT_OUT}'
            ],
            'inside': f'{signs}?is_val=1&without={LEFT_OUT}',
            'peers': f'{signs}?is_val=0&without={LEFT_OUT}',
            'ood': {'left_out_signs': f'{signs}?classes={LEFT_OUT}'},
        },
        'fashion': {
            'bundle': str(work / 'fashion'),
            'train': ['fashion', '--data', 'sample:fashion_mnist?split=train'],
            'inside': 'sample:fashion_mnist?split=test',
            'peers': 'sample:fashion_mnist?split=train',
            'ood': {
                'digits': 'sample:digits',
                'triangles': 'sample:triangles?count=2000',
                'inverted': 'sample:fashion_mnist?split=test&transform=invert',
                'rotated': 'sample:fashion_mnist?split=test&transform=rotate90',
                'noise': 'sample:noise?count=1000',
                'photographs': 'sample:photos?count=1000',
            },
        },
    }


def run(name: str, data: Path, work: Path) -> None:
    """Run one evaluation and store its metrics."""
    what = evaluations(data, work)[name]
    if 'train' in what and not (Path(what['bundle']) / 'bundle.yaml').exists():
        nav_monitor('train', *what['train'], '--output', what['bundle'])
    if 'cifar10' in what['ood']:
        unpack_cifar10(data / 'cifar10', work / 'cifar10.npz')
    sources = [part for ood, spec in what['ood'].items() for part in ('--ood', f'{ood}={spec}')]
    output = work / f'evaluate_{name}'
    nav_monitor(
        'evaluate', what['bundle'], '--inside', what['inside'], '--peers', what['peers'],
        *sources, '--output', str(output), '--force',
    )
    MEASURED.mkdir(parents=True, exist_ok=True)
    metrics = json.loads((output / 'metrics.json').read_text())
    # Paths of the measuring machine are not published.
    first, *others = metrics['images'].items()
    metrics['images'] = {'inside': first[1], **dict(others)}
    metrics['evidence_kinds'] = {
        'inside': metrics['evidence_kinds'].pop(first[0]), **metrics['evidence_kinds']
    }
    metrics['inside'] = what['inside'].replace(f'{data}/', '')
    metrics['bundle'] = name
    del metrics['out_of_pattern_of_class']
    (MEASURED / f'{name}.json').write_text(json.dumps(rounded(metrics), indent=1) + '\n')


def rounded(value: object) -> object:
    """Return the value with floats rounded to six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f'{value:.6g}') if isinstance(value, float) else value


def unpack_cifar10(folder: Path, target: Path) -> None:
    """Write CIFAR-10 images, stored in PNG files with one image per row, as an .npz."""
    if target.exists():
        return
    rows = [cv2.imread(str(file)) for file in sorted(folder.glob('cifar10_batch_*.png'))]
    np.savez(target, x=np.concatenate(rows).reshape(-1, 32, 32, 3)[..., ::-1])


def nav_monitor(*arguments: str) -> None:
    """Print and run one command of the package."""
    command = [shutil.which('nav_monitor') or sys.exit('source env.sh first'), *arguments]
    print('+', shlex.join(['nav_monitor', *arguments]), flush=True)
    subprocess.run(command, check=True)


if __name__ == '__main__':
    main()
