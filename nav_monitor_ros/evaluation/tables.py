"""The tables of an evaluation, as text and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.evaluation.pytorch_ood_detectors import PREFIX
from nav_monitor_ros.evaluation.results import Coverage, Evaluation
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.registry import SCORES

_SOURCE = 'source'  # heading of a column with the names of sources
_SOURCES_PER_TABLE = 6
DECIDES = '(decides)'  # mark of the score that decides
_WIDEST_WORD = 12  # of a heading; longer ones, such as names of sources, are folded

Row = list[str]
TextTable = tuple[str, list[str], list[Row]]  # caption, headings, rows

FPR = 'FPR at 95 % recall'
MISSED = 'OOD missed at 95 % ID kept'
# Explanations of the terms, for people; docs/evaluation.md has them too.
TERMS = {
    'AUROC': 'the probability that an out-of-distribution (OOD) image scores higher than an '
    'in-distribution (ID) one; 50 % corresponds to random guessing',
    FPR: 'the share of in-distribution images that are flagged at the threshold that flags 95 % of '
    'the out-of-distribution images; lower is better',
    MISSED: 'the share of out-of-distribution images that are not flagged at the threshold that '
    'keeps 95 % of the in-distribution images; lower is better',
}


def text_tables(evaluation: Evaluation) -> list[TextTable]:
    """Return tables as (caption, headings, rows of text), names in the first column.

    Shares are in per cent, without the sign, so that the tables fit a terminal of 80 columns.
    """
    inside, *outside = evaluation.images
    scores = list(next(iter(evaluation.separation.values()))) if outside else []
    # Over all sources: the main figure for comparing scores.
    order = sorted(scores, key=lambda score: -evaluation.means[score].auroc)
    tables = []
    if len(outside) > 1:
        tables.append(_means(evaluation, order))
    tables += [_source(evaluation, name, order) for name in outside]
    if outside and evaluation.evidence_kinds:
        tables.append(_kinds(evaluation))
    tables.append(_false_alarms(evaluation))
    if evaluation.coverage:
        tables.append(_mistakes(evaluation))
    if outside and evaluation.streams:
        tables += [_stream(evaluation), *_delays(evaluation)]
    return tables


def tables(evaluation: Evaluation) -> list[Table]:
    """Return ``text_tables`` for the terminal.

    The score that decides is marked in words, too, since files and pipes show no bold type; the
    detectors of other libraries are dim.
    """
    result = []
    for caption, headings, rows in text_tables(evaluation):
        table = Table(
            title=caption, title_justify='left', title_style='italic', box=SIMPLE_HEAD,
            pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True,
        )
        rows = [
            [f'{name} {DECIDES}' if _decides(name, headings) else name, *cells]
            for name, *cells in rows
        ]
        for place, heading in enumerate(headings):
            # Names of scores are short; those of sources may be long paths, which are folded.
            table.add_column(
                heading, justify='right' if place else 'left',
                no_wrap=not place and heading != _SOURCE, overflow='fold', vertical='bottom',
                min_width=_widest(heading, [row[place] for row in rows]) if place else None,
            )
        for row in rows:
            default = row[0].endswith(DECIDES)
            style = 'bold' if default else 'dim' if row[0].startswith(PREFIX) else None
            table.add_row(*row, style=style)
        result.append(table)
    return result


def _decides(name: str, headings: Sequence[str]) -> bool:
    return headings[0] != _SOURCE and name.split(',')[0] == FUSED


def term_lines() -> list[str]:
    """Return one line for each term of the tables."""
    return [f'{term}: {meaning}.' for term, meaning in TERMS.items()]


def _means(evaluation: Evaluation, order: Sequence[str]) -> TextTable:
    outside = list(evaluation.separation)
    rows = []
    for score in order:
        mean = evaluation.means[score]
        worst = min(evaluation.separation[name][score].auroc for name in outside)
        rows.append([
            score,
            *map(_percent, (mean.auroc, mean.fpr_at_95_recall, mean.ood_missed_at_95_id_kept)),
            _percent(worst), f'{evaluation.microseconds[score]:.0f}',
        ])
    return (
        f'Means over all {len(outside)} out-of-distribution sources, in %'
        + _windowed_note(order),
        ['score', 'AUROC', FPR, MISSED, 'worst AUROC', 'us per frame'],
        rows,
    )


def _source(evaluation: Evaluation, name: str, order: Sequence[str]) -> TextTable:
    inside = next(iter(evaluation.images))
    rows = []
    for score in order:
        found = evaluation.separation[name][score]
        rows.append([score, *map(_percent, (
            found.auroc, found.fpr_at_95_recall, found.ood_missed_at_95_id_kept, found.aupr,
            found.detected,
        ))])
    return (
        f'{name} ({evaluation.images[name]} images) against {inside} '
        f'({evaluation.images[inside]}), in %. Flagged: at the calibrated threshold',
        ['score', 'AUROC', FPR, MISSED, 'AUPR', 'flagged'],
        rows,
    )


def _kinds(evaluation: Evaluation) -> TextTable:
    kinds = list(next(iter(evaluation.evidence_kinds.values())).strongest)
    rows = []
    for name, found in evaluation.evidence_kinds.items():
        shares = [*found.strongest.values(), found.none_at_threshold]
        rows.append([
            name, str(found.flagged),
            *(_percent(count / found.flagged if found.flagged else None) for count in shares),
        ])
    meanings = '; '.join(EvidenceKind(kind).sentence_part for kind in kinds)
    return (
        f'Kind of the strongest evidence on the images that {FUSED} flags, in % of them. '
        f'{meanings}. None alone: no kind of evidence is at or below the threshold by itself',
        [_SOURCE, 'flagged', *(EvidenceKind(kind).label for kind in kinds), 'none alone'],
        rows,
    )


def _false_alarms(evaluation: Evaluation) -> TextTable:
    inside = next(iter(evaluation.images))
    known = any(found.expected_within is not None for found in evaluation.false_alarms.values())
    rows = [
        [
            score, _percent(found.rate), f'{_percent(found.low)} to {_percent(found.high)}',
            _percent(found.budget),
            *([_percent(found.expected_within)] if known else []),
        ]
        for score, found in evaluation.false_alarms.items()
    ]
    headings = ['score', 'measured', '95 % interval', 'budget']
    return (
        f'False alarms on {inside}, per individual frame, in %. {bound_sentence(evaluation)}',
        [*headings, 'splits within'] if known else headings,
        rows,
    )


def bound_sentence(evaluation: Evaluation) -> str:
    """Return in how many splits the default score's bound should be met, or why none can tell."""
    images = next(iter(evaluation.images.values()))
    found = evaluation.false_alarms.get(FUSED)
    if found is None:
        return ''
    measured = f'{FUSED} flagged {_percent(found.rate)} % of {images}'
    bound = f'a bound of {100 * found.budget:.3g} % at {100 * found.confidence:.3g} % confidence'
    if found.expected_within is None:
        return (
            f'{measured}. In how many splits {bound} should be met is unknown: the '
            f'{evaluation.grouped} images come in groups, such as tracks, and are not exchangeable'
        )
    return (
        f'{measured}; {bound} over all frames should be met in {100 * found.expected_within:.1f} % '
        f'of the random splits into {found.calibrated} calibration and {images} test images '
        '(splits within)'
    )


def _mistakes(evaluation: Evaluation) -> TextTable:
    inside = next(iter(evaluation.images))
    rows: list[tuple[str, Coverage]] = [
        *((f'pattern, gamma {g}', c) for g, c in evaluation.out_of_pattern.items()),
        *evaluation.coverage.items(),
    ]
    wrong = rows[0][1].misclassified
    return (
        f'Mistakes on {inside}: {wrong} of {evaluation.images[inside]} images are misclassified. '
        'Flagged by pattern distances above gamma, and by every score at its calibrated threshold; '
        'shares in %',
        ['monitor', 'flagged', 'share', 'mistakes', 'of the flagged', 'of all mistakes'],
        [[name, *_coverage_cells(coverage)] for name, coverage in rows],
    )


def _stream(evaluation: Evaluation) -> TextTable:
    inside = next(iter(evaluation.images))
    hours = next(iter(evaluation.streams.values())).hours
    duration = f'{hours:.4g} h' if hours >= 1 else f'{hours * 60:.1f} min'
    how = 'each image once, in order'
    if evaluation.stream_seed is not None:
        how = f'drawn at random with seed {evaluation.stream_seed}'
    return (
        f'Played as video: {duration} of {inside}, {how}. At most: 95 % upper bound of the false '
        'alarms per hour; alert raised: share of the time, in %',
        ['score', 'false alarms', 'per hour', 'at most', 'alert raised'],
        [
            [
                score, str(found.false_alarms), _rate(found.false_alarms_per_hour),
                _rate(found.at_most_per_hour), f'{100 * found.share_alerted:.3g}',
            ]
            for score, found in evaluation.streams.items()
        ],
    )


def _delays(evaluation: Evaluation) -> list[TextTable]:
    """Return the frames until the alert, a few sources per table."""
    outside = list(evaluation.separation)
    found = []
    for start in range(0, len(outside), _SOURCES_PER_TABLE):
        names = outside[start : start + _SOURCES_PER_TABLE]
        found.append((
            'Played as video: median number of frames until the alert, and in brackets the share '
            f'of the streams of {evaluation.ood_seconds:g} s that never raise it, in %',
            ['score', *names],
            [
                [score, *(
                    f'{_delay(stream.frames_to_alert[name])} '
                    f'({100 * stream.never_alerted[name]:.0f})' for name in names
                )]
                for score, stream in evaluation.streams.items()
            ],
        ))
    return found


def _widest(heading: str, cells: Sequence[str]) -> int:
    """Return the width at which neither a number nor a word of the heading is broken."""
    words = [min(len(word), _WIDEST_WORD) for word in heading.split()]
    return max([*words, *map(len, cells)])


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
    return '' if share is None else f'{100 * share:.2f}'


def _rate(per_hour: float) -> str:
    return f'{per_hour:.0f}' if per_hour >= 100 else f'{per_hour:.3g}'


def _delay(frames: float | None) -> str:
    return 'never' if frames is None else f'{frames:g}'
