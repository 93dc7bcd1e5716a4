"""The main result of an evaluation: what the deciding score makes of each source."""

from __future__ import annotations

from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.evaluation.results import Evaluation

EXPECTED_ACCURACY = 0.5  # share of correctly classified images below which a warning is due
_ROUNDING = 1e-9  # of two shares that are equal


def result_lines(evaluation: Evaluation) -> list[str]:
    """Return the result of the score that decides, one line for each source.

    The out-of-distribution sources come first, in their order; the last line is that of the
    in-distribution source.
    """
    alarms = evaluation.false_alarms.get(FUSED)
    if alarms is None:
        return []
    inside, *outside = evaluation.images
    lines = []
    for name in outside:
        detected = evaluation.separation[name][FUSED].detected
        lines.append(
            f'{name}: {_flagged(detected or 0.0, evaluation.images[name])}'
            f'{_alert(evaluation, name)}'
        )
    lines.append(
        f'false alarms on {inside}: {_flagged(alarms.rate, evaluation.images[inside])} '
        f'(budget {100 * alarms.budget:.3g} %){_false_alerts(evaluation)}'
    )
    return lines


def accuracy_warning(evaluation: Evaluation) -> str:
    """Return a sentence if the network is hardly right on the in-distribution images, or ''."""
    accuracy, chance = evaluation.accuracy, evaluation.chance
    if accuracy is None or chance is None:
        return ''
    if accuracy >= EXPECTED_ACCURACY and accuracy >= chance - _ROUNDING:
        return ''
    return (
        f'the network classifies {100 * accuracy:.1f} % of the labelled images of '
        f'{next(iter(evaluation.images))} correctly ({100 * chance:.1f} % by chance): check the '
        'labels, the class names, the weights and the preprocessing before using this result'
    )


def _flagged(share: float, images: int) -> str:
    return f'{100 * share:.2f} % of {images} images flagged'


def _alert(evaluation: Evaluation, name: str) -> str:
    """Return when the source raises the alert if it is played as video, with a comma before it."""
    stream = evaluation.streams.get(FUSED)
    if stream is None:
        return ''
    frames, never = stream.frames_to_alert[name], stream.never_alerted[name]
    if never == 1:
        return f', alert never (within {evaluation.ood_seconds:g} s)'
    missed = f'never in {100 * never:.0f} % of the streams of {evaluation.ood_seconds:g} s'
    if frames is None:
        return f', alert {missed}'
    return (
        f', alert after {frames:g} frame{"s" * (frames != 1)} (median)'
        + (f', {missed}' if never else '')
    )


def _false_alerts(evaluation: Evaluation) -> str:
    stream = evaluation.streams.get(FUSED)
    if stream is None:
        return ''
    seconds = 3600 * stream.hours
    duration = (
        f'{seconds:.0f} s' if seconds < 120 else
        f'{seconds / 60:.1f} min' if seconds < 7200 else f'{stream.hours:.4g} h'
    )
    count = stream.false_alarms
    return f', alert raised {count} time{"s" * (count != 1)} in {duration} of video'
