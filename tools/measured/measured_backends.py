"""Measurements of the backends (docs/measured/backends.json) as Markdown tables."""

from __future__ import annotations

from measured import percent, read, table

NETWORKS = {
    'digits': '`digits`, 28x28', 'traffic_signs': '`traffic_signs`, 32x32',
    'resnet18': 'ResNet-18, 43 classes, 224x224',
}


def backend_scores() -> str:
    """Return how much each engine differs from torch, and its false alarms."""
    rows = []
    for name, figures in read('backends')['scores'].items():
        for engine, found in figures['engines'].items():
            rate, low, high = found['false_alarms']
            rows.append((
                f'`{name}`', f'`{engine}`', f'{percent(found["auroc_fused"], 3)}',
                f'{100 * found["auroc_change_fused"]:.4f}', f'{100 * found["auroc_change"]:.4f}',
                str(found['reclassified']),
                f'{percent(rate)} ({percent(low)} to {percent(high)})',
                percent(figures['budget'], 0), found['calibration'],
            ))
    return table(
        ['bundle', 'engine', 'AUROC of `fused`, %', 'its change', 'largest change, any score',
         'images reclassified', 'false alarms, %', 'budget, %', 'calibration'],
        rows,
    )


def backend_times() -> str:
    """Return the duration of a forward pass of one frame."""
    rows = []
    for name, engines in read('backends')['milliseconds'].items():
        torch = engines['torch']['median']
        for engine, found in engines.items():
            rows.append((
                NETWORKS[name], f'`{engine}`', f'{found["least"]:.2f}', f'{found["median"]:.2f}',
                f'{found["p99"]:.2f}', f'{torch / found["median"]:.1f}',
            ))
    return table(
        ['network', 'engine', 'minimum, ms', 'median, ms', 'p99, ms', 'times as fast as torch'],
        rows,
    )


def backend_machine() -> str:
    """Return the machine and the settings of the measurement."""
    machine = read('backends')['machine']
    versions = ', '.join(
        f'{name} {machine["versions"][name]}' for name in ('torch', 'onnxruntime', 'openvino')
        if name in machine['versions']
    )
    limit = read('backends')['limit']
    images = f'at most {limit} images of each source' if limit else 'all images of each source'
    return (
        f'{machine["cpu"]}, {machine["cores"]} cores, one thread; {versions}; '
        f'{images}; {machine["date"][:10]}.'
    )
