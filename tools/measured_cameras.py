"""Measurements of several cameras (docs/measured/) as Markdown tables."""

from __future__ import annotations

from measured import read, table


def cameras() -> str:
    """Return the rate of each camera, and the effect of the loss of one camera."""
    content = read('cameras')
    settings, machine = content['settings'], content['machine']
    rows = []
    for name, figure in content['figures'].items():
        sign = '>=' if figure['better'] == 'higher' else '<='
        target = figure['target']
        rows.append([
            name, f'{figure["value"]:.4g} {figure["unit"]}'.rstrip(),
            '' if target is None else f'{sign} {target:g} {figure["unit"]}'.rstrip(),
        ])
    told = (
        f'{settings["seconds"]:g} s at {settings["camera_hz"]:g} Hz a camera, '
        f'{settings["kills"]} kills, {machine["cores"]} cores, '
        f'load {machine["load_1_min"]:g} at the end:'
    )
    return f'{told}\n\n{table(["figure", "value", "target"], rows)}'
