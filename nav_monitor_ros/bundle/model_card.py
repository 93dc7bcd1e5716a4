"""The model card of a bundle."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle

_USE = """\
## Intended use

Judging, frame by frame, whether an image is similar to those on which the network was trained and
the monitor was fitted. A p-value of 0.001 means: one in a thousand training-like images is as
unusual as this one. It is not a safety certificate, it does not tell whether a prediction is right,
and it cannot detect inputs that activate the same neurons as the training images.
"""


def model_card(bundle: Bundle, *, about: str = '') -> str:
    """Return a bundle's model card, Markdown.

    Args:
        bundle: The fitted bundle.
        about: Paragraphs on the network, its data and their licences.
    """
    calibration = bundle.calibration
    provenance = bundle.provenance
    sections = [
        f'# {bundle.name}',
        about or f"A user's network ({bundle.network.spec}), fitted by `nav_monitor fit`.",
        _USE,
        '## Monitor',
        '\n'.join(
            [
                f'- monitored layer: {bundle.layer}, '
                f'{next(iter(bundle.scores.values())).width} neurons',
                f'- scores: {", ".join(bundle.scores)}; fused: '
                f'{", ".join(calibration.fusion_members)}',
                *(f'- {note}' for note in bundle.notes()),
                f'- labels: {provenance.get("labels", "unknown")}',
            ]
        ),
        '## Calibration',
        f'False alarms among individual in-distribution frames: at most '
        f'{calibration.alpha:.2%} with {calibration.confidence:.0%} confidence, if they are '
        f'exchangeable with the calibration images ({len(calibration.fused)} for the fused score'
        f'{_worth(bundle)}, {len(next(iter(calibration.scores.values())))} for the single ones). '
        f'{_cells(bundle)}',
        '## Provenance',
        '\n'.join(
            f'- {key}: {_line(value)}' for key, value in bundle.shown_provenance.items()
        ),
    ]
    return '\n\n'.join(section.strip() for section in sections) + '\n'


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{key} {item}' for key, item in value.items())
    return str(value)


def _worth(bundle: Bundle) -> str:
    calibration = bundle.calibration
    if calibration.effective_size == len(calibration.fused):
        return ''
    return (
        f', equivalent to {calibration.effective_size} independent ones since images of one group '
        'are similar'
    )


def _cells(bundle: Bundle) -> str:
    mondrian, thresholds = bundle.calibration.fused, bundle.calibration.thresholds['fused']
    if len(mondrian.cells) == 1:
        return (
            'A frame counts as out-of-distribution if the fused p-value is at most '
            f'{thresholds[0]:.5f}.'
        )
    counts = np.bincount(mondrian.cell_of_class)
    own = int((counts == 1).sum())
    return (
        f'{own} classes have enough images for p-values of their own, the other '
        f'{len(thresholds) - own} share them.'
    )
