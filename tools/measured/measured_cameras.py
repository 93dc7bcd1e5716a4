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
            _label(name), f'{figure["value"]:.4g} {figure["unit"]}'.rstrip(),
            '' if target is None else f'{sign} {target:g} {figure["unit"]}'.rstrip(),
        ])
    told = (
        f'{settings["seconds"]:g} s at {settings["camera_hz"]:g} Hz per camera, '
        f'{settings["kills"]} kills, {machine["cores"]} cores, '
        f'load {machine["load_1_min"]:g} at the end:'
    )
    return f'{told}\n\n{table(["figure", "value", "target"], rows)}'


def _label(name: str) -> str:
    """Return the name of a figure in words."""
    words = {
        'received of the slowest camera': 'images received from the slowest camera',
        'flood that the node receives': 'images received from a camera that publishes too fast',
        'judged of the slowest other during the flood':
            'images of the slowest other camera judged meanwhile',
        "True of the others' alerts after a kill":
            'True messages on the alerts of other cameras after a kill',
        'judged of the slowest other after a kill':
            'images of the slowest other camera judged after a kill',
        'longest gap of an other after a kill':
            'longest gap between two verdicts of another camera after a kill',
    }
    if name in words:
        return words[name]
    camera = name.removeprefix('judged of ')
    return f'images of `{camera}` judged' if camera != name else name
