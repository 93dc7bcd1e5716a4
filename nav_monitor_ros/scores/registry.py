"""All scores by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nav_monitor_ros.errors import NavMonitorError, did_you_mean
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.scores.ash import ActivationShaping
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.box import Box
from nav_monitor_ros.scores.channel_means import ChannelMeans
from nav_monitor_ros.scores.decoy import Decoy
from nav_monitor_ros.scores.energy import Energy
from nav_monitor_ros.scores.fdbd import DecisionBoundaryDistance
from nav_monitor_ros.scores.gaussian import Gaussian
from nav_monitor_ros.scores.gen import GeneralisedEntropy
from nav_monitor_ros.scores.knn import NearestNeighbours
from nav_monitor_ros.scores.layer_mahalanobis import LayerMahalanobis
from nav_monitor_ros.scores.mahalanobis import Mahalanobis
from nav_monitor_ros.scores.max_logit import MaximumLogit
from nav_monitor_ros.scores.mc_dropout import MonteCarloDropout
from nav_monitor_ros.scores.msp import MaximumSoftmaxProbability
from nav_monitor_ros.scores.pattern import Pattern
from nav_monitor_ros.scores.pattern_soft import SoftPattern
from nav_monitor_ros.scores.react import React
from nav_monitor_ros.scores.relative_mahalanobis import RelativeMahalanobis
from nav_monitor_ros.scores.scale import Scale
from nav_monitor_ros.scores.score_options import checked
from nav_monitor_ros.scores.she import SimplifiedHopfieldEnergy
from nav_monitor_ros.scores.vim import VirtualLogitMatching
from nav_monitor_ros.scores.window_kl import WindowDivergence

SCORES: dict[str, type[Score]] = {
    score.name: score
    for score in (
        Pattern, SoftPattern, Gaussian, WindowDivergence, Box, Mahalanobis, RelativeMahalanobis,
        NearestNeighbours, ChannelMeans, LayerMahalanobis, VirtualLogitMatching,
        SimplifiedHopfieldEnergy, MaximumSoftmaxProbability, MaximumLogit, Energy,
        GeneralisedEntropy, DecisionBoundaryDistance, React, ActivationShaping, Scale,
        MonteCarloDropout, Decoy,
    )
}


def make_score(
    name: str,
    settings: Mapping[str, Any],
    *,
    classes: int,
    width: int,
    head: Head | None,
) -> Score:
    """Return an empty score.

    Args:
        name: One of ``SCORES``.
        settings: The score's keyword options.
        classes: C, the number of classes.
        width: D, the number of monitored neurons.
        head: The head's weights on the monitored features, if they act on them.

    Raises:
        NavMonitorError: No score has this name, it has no such option, or an option's value has
            another type or is out of range.
    """
    if name not in SCORES:
        raise NavMonitorError(
            f"there is no score '{name}'; there are {', '.join(SCORES)}"
            f'{did_you_mean(name, SCORES)}'
        )
    checked(name, SCORES[name].options_type, settings)  # before they become keywords
    return SCORES[name](classes=classes, width=width, head=head, **settings)
