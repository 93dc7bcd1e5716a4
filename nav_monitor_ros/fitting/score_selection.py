"""Selection of the scores to fit, and of those that apply to a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from nav_monitor_ros.bundle.networks import configure_for_scores
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS, FitOptions
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.layers import early_layers, names_of, watched_inputs
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.base import NotApplicableError, Score
from nav_monitor_ros.scores.registry import SCORES, make_score


def empty_scores(classifier: RunningNetwork, options: FitOptions) -> dict[str, Score]:
    """Return the selected scores, not yet fitted.

    Raises:
        NavMonitorError: A score or option does not exist.
    """
    # A network whose weights are not in modules has no known inputs.
    watched = watched_inputs(classifier.inputs) or early_layers(classifier.layers)
    # All by default; those that do not apply to the network are removed later.
    wanted = {name: {} for name in SCORES} if options.scores is None else options.scores
    scores = {}
    for name, settings in wanted.items():
        chosen = dict(settings)
        if name in SCORES and hasattr(SCORES[name].options_type(), 'layers'):
            # The score reads the means by the names of their layers.
            named = names_of(classifier.layers, chosen.get('layers') or (), classifier.inputs)
            chosen['layers'] = named or watched
        scores[name] = make_score(
            name, chosen, classes=classifier.classes, width=classifier.width, head=classifier.head
        )
    return scores


def fusion_members(
    scores: Mapping[str, Score], options: FitOptions, degenerate: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the names of the fused scores.

    Args:
        scores: Scores that are fitted.
        options: Options of the fit; members that are named there are fused in any case.
        degenerate: Names of scores that carry no information.
    """
    if options.fuse is not None:
        return options.fuse
    informative = [
        name for name, score in scores.items() if not score.windowed and name not in degenerate
    ]
    members = tuple(name for name in FUSED_MEMBERS if name in informative)
    return members or tuple(informative)


def require_fusion_members(
    scores: Mapping[str, Score], options: FitOptions, left_out: Mapping[str, str]
) -> None:
    """Check that the scores to be fused are fitted, before the images go through the network.

    Args:
        scores: That are fitted.
        options: Of the fit.
        left_out: Why other scores are not fitted, by name.

    Raises:
        NavMonitorError: There is none, one is not fitted, or one is named twice.
    """
    members, fitted = fusion_members(scores, options), ', '.join(scores) or 'none'
    if not members:
        raise NavMonitorError(
            f'the fused score needs a score that looks at one frame alone; fitted are {fitted}'
        )
    for place, name in enumerate(members):
        if name not in scores:
            why = f' ({left_out[name]})' if name in left_out else ''
            raise NavMonitorError(f"--fuse: '{name}' is not fitted{why}; fitted are {fitted}")
        if name in members[:place]:
            raise NavMonitorError(f"--fuse: '{name}' is named twice; name each score once")


def configure_for_supported_scores(
    classifier: RunningNetwork, scores: dict[str, Score], *, required: Collection[str]
) -> dict[str, str]:
    """Configure every forward pass for the scores, removing those that do not apply.

    Args:
        classifier: The network.
        scores: Scores; those that do not apply to the network are removed.
        required: Names of scores for which to raise instead of removing them.

    Returns:
        Reasons for removed scores, by name.

    Raises:
        NavMonitorError: A score of ``required`` does not apply to the network.
    """
    left_out = {}
    for name, score in list(scores.items()):
        try:
            configure_for_scores(classifier, [score])
        except NavMonitorError as error:
            if name in required:
                raise
            del scores[name]
            left_out[name] = _reason(error)
    configure_for_scores(classifier, scores.values())
    return left_out


def prepare_scores(
    scores: dict[str, Score], sample: Activations, labels: np.ndarray | None, *,
    required: Collection[str],
) -> dict[str, str]:
    """Prepare the scores with a sample of the training images.

    Args:
        scores: Scores; those that do not apply to the network are removed.
        sample: N images.
        labels: int64 (N,); None for the network's predictions.
        required: Names of scores for which to raise instead of removing them.

    Returns:
        Reasons for removed scores, by name.

    Raises:
        NotApplicableError: A score of ``required`` does not apply to the network.
        NavMonitorError: The layer is not suitable for monitoring.
    """
    left_out = {}
    for name, score in list(scores.items()):
        try:
            score.prepare(sample, sample.predicted if labels is None else labels)
        except NotApplicableError as error:
            if name in required:
                raise
            del scores[name]
            left_out[name] = _reason(error)
    return left_out


def _reason(error: NavMonitorError) -> str:
    """Return why a score cannot be fitted, without its name and the remedy."""
    return str(error).partition(': ')[2].partition('; ')[0]
