"""The tables of an evaluation, as text and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from rich.table import Table

from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.evaluation.pytorch_ood_detectors import PREFIX
from nav_monitor_ros.evaluation.results import Coverage, Evaluation
from nav_monitor_ros.scores.registry import SCORES

_FPR95 = 'share of in-distribution images flagged when 95 % of the out-of-distribution ones are'
_MISSED95 = 'share of out-of-distribution images accepted when 95 % of the in-distribution are'


def text_tables(evaluation: Evaluation) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return tables as (caption, headings, rows of text), names in the first column."""
    inside, *outside = evaluation.images
    scores = list(next(iter(evaluation.separation.values()))) if outside else []
    # Over all sources: the main figure for comparing scores.
    mean = {
        score: np.mean([evaluation.separation[name][score].auroc for name in outside])
        for score in scores
    }
    order = sorted(scores, key=lambda score: -mean[score])
    tables = []
    if len(outside) > 1:
        tables.append((
            f'All {len(outside)} out-of-distribution sources. FPR95: {_FPR95}'
            + _windowed_note(scores),
            ['score', 'mean AUROC', 'mean FPR95', 'worst AUROC', 'us per frame'],
            [
                [
                    score,
                    _percent(mean[score]),
                    _percent(np.mean(
                        [evaluation.separation[n][score].fpr_at_95_ood for n in outside]
                    )),
                    _percent(min(evaluation.separation[n][score].auroc for n in outside)),
                    f'{evaluation.microseconds[score]:.0f}',
                ]
                for score in order
            ],
        ))
    for name in outside:
        tables.append((
            f'{name} ({evaluation.images[name]} images) against '
            f'{inside} ({evaluation.images[inside]}). FPR95: {_FPR95}; missed95: {_MISSED95}; '
            'detected: at the calibrated threshold',
            ['score', 'AUROC', 'AUPR', 'FPR95', 'missed95', 'detected'],
            [
                [score, *map(_percent, asdict(evaluation.separation[name][score]).values())]
                for score in order
            ],
        ))
    tables.append((
        f'False alarms on {inside}, per individual frame',
        ['score', 'measured', '95 % interval', 'budget'],
        [
            [score, _percent(a.rate), f'{_percent(a.low)} .. {_percent(a.high)}',
             _percent(a.budget)]
            for score, a in evaluation.false_alarms.items()
        ],
    ))
    if evaluation.coverage:
        rows: list[tuple[str, Coverage]] = [
            *((f'pattern, gamma {g}', c) for g, c in evaluation.out_of_pattern.items()),
            *evaluation.coverage.items(),
        ]
        wrong = rows[0][1].misclassified
        tables.append((
            f'Mistakes on {inside}: {wrong} of {evaluation.images[inside]} images are '
            'misclassified. Flagged by pattern distances above gamma, and by every score at its '
            'calibrated threshold',
            ['monitor', 'flagged', 'share', 'mistakes', 'of the flagged', 'of all mistakes'],
            [[name, *_coverage_cells(coverage)] for name, coverage in rows],
        ))
    streams = evaluation.streams
    if outside and streams:
        hours = next(iter(streams.values())).hours
        tables.append((
            f'Played as video: false alarms per hour on {inside} ({hours * 60:.1f} min of it), '
            'their 95 % upper bound, and the median number of frames until the alert',
            ['score', 'false alarms', 'at most', *outside],
            [
                [
                    score, f'{s.false_alarms_per_hour:.0f}', f'{s.at_most_per_hour:.0f}',
                    *(_delay(s.frames_to_alert[name]) for name in outside),
                ]
                for score, s in streams.items()
            ],
        ))
    return tables


def tables(evaluation: Evaluation) -> list[Table]:
    """Return ``text_tables`` for the terminal; our default is bold, other libraries' are dim."""
    result = []
    for caption, headings, rows in text_tables(evaluation):
        table = Table(title=caption, title_justify='left')
        for heading in headings:
            first = heading == headings[0]
            table.add_column(
                heading, justify='left' if first else 'right', no_wrap=first, overflow='fold'
            )
        for row in rows:
            fused = row[0].split(',')[0] == FUSED
            style = 'bold' if fused else 'dim' if row[0].startswith(PREFIX) else None
            table.add_row(*row, style=style)
        result.append(table)
    return result


def _windowed_note(scores: Sequence[str]) -> str:
    """Return a note on scores that use more than the image that they are compared on."""
    windowed = [name for name in scores if name in SCORES and SCORES[name].windowed]
    return f'. Scores over several frames: {", ".join(windowed)}' if windowed else ''


def _coverage_cells(coverage: Coverage) -> list[str]:
    found = coverage.misclassified_flagged
    return [
        str(coverage.flagged),
        _percent(coverage.flagged / coverage.images),
        str(found),
        _percent(found / coverage.flagged if coverage.flagged else None),
        _percent(found / coverage.misclassified if coverage.misclassified else None),
    ]


def _percent(share: float | np.floating | None) -> str:
    return '' if share is None else f'{100 * share:.2f} %'


def _delay(frames: float | None) -> str:
    return 'never' if frames is None else f'{frames:g}'
