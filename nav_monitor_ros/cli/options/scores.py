"""Scores on the command line: their names and options."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nav_monitor_ros.cli.options.bundle import listed
from nav_monitor_ros.cli.options.network import key_value
from nav_monitor_ros.errors import NavMonitorError, did_you_mean


def scores_to_fit(
    text: str | None, options: list[str]
) -> tuple[dict[str, dict[str, Any]] | None, frozenset[str]]:
    """Return the scores to fit, each with its options, and the names of those that must apply.

    The scores are None for all with their defaults. Those named by either option must apply to the
    network.

    Args:
        text: Value of ``--scores``: comma-separated names.
        options: Values of ``--option``: ``SCORE.KEY=VALUE`` each.

    Raises:
        NavMonitorError: There is no such score or option, or a value is invalid.
    """
    from nav_monitor_ros.decision.score_fusion import FUSED
    from nav_monitor_ros.scores.registry import SCORES
    from nav_monitor_ros.scores.score_options import checked

    names = listed(text)
    if FUSED in names:
        raise NavMonitorError(
            f"--scores {text}: '{FUSED}' combines other scores, which --fuse names; the scores "
            f'that can be fitted are {", ".join(SCORES)}'
        )
    _require_known('--scores', names, SCORES)
    scores: dict[str, dict[str, Any]] = {name: {} for name in names or SCORES}
    for given in options:
        key, value = key_value(given)
        score, dot, name = key.partition('.')
        if not dot or score not in scores:
            raise NavMonitorError(
                f'--option {given}: write SCORE.KEY=VALUE for one of {", ".join(scores)}'
                f'{did_you_mean(score, scores)}'
            )
        scores[score][name] = value
    for name, values in scores.items():
        checked(name, SCORES[name].options_type, values)
    named = names or {given.partition('.')[0] for given in options}
    return scores if names or options else None, frozenset(named)


def add_fusion(group: Any) -> None:
    """Add the option for the weights of the members of the fused score."""
    group.add_argument(
        '--fusion', choices=('equal', 'weighted'), default='equal',
        help='weights of the members: equal, or learned from images made of calibration images to '
        'resemble no class (default: equal)',
    )


def scores_to_fuse(text: str | None) -> tuple[str, ...] | None:
    """Return the members of the fused score that ``--fuse`` names; None for the default.

    Raises:
        NavMonitorError: There is no such score.
    """
    from nav_monitor_ros.scores.registry import SCORES

    names = listed(text)
    _require_known('--fuse', names, SCORES)
    return names or None


def _require_known(option: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise NavMonitorError(
                f"{option}: there is no score '{name}'; the scores are {', '.join(known)}"
                f'{did_you_mean(name, known)}'
            )
