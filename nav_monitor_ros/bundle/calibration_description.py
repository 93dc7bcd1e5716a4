"""A calibration as stored in a bundle: human-readable numbers, and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.decision.class_conditional_p_values import ClassConditionalPValues
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.decision.false_alarm_budget import check_budget
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.scores.base import Score

_LONGEST_RUN = 100  # classes listed individually


def describe_calibration(calibration: Calibration) -> dict[str, Any]:
    """Return the description of a calibration for ``bundle.yaml``."""
    return {
        'false_alarm_rate': calibration.alpha,
        'confidence': calibration.confidence,
        'fuse': list(calibration.fusion_members),
        **({'fusion_weights': dict(calibration.fusion_weights)}
           if calibration.fusion_weights else {}),
        **({} if calibration.class_images is None else {'class_images': calibration.class_images}),
        'scores': _describe_cells(next(iter(calibration.scores.values()))),
        'fused': {
            **_describe_cells(calibration.fused),
            'independent_images': calibration.effective_size,
        },
        'p_thresholds': {
            name: _per_cell({**calibration.scores, FUSED: calibration.fused}[name], per_class)
            for name, per_class in calibration.thresholds.items()
        },
    }


def read_calibration(
    described: Mapping[str, Any], tensors: Mapping[str, np.ndarray], scores: Mapping[str, Score]
) -> Calibration:
    """Return a calibration from its description and its tensors.

    Args:
        described: Its part of ``bundle.yaml``, from ``describe_calibration``.
        tensors: Arrays by the names that ``Calibration.tensors`` gives them.
        scores: The calibrated scores.

    Raises:
        KeyError, TypeError, ValueError: It is malformed, or contradicts itself.
        NavMonitorError: The budget is invalid, or a score is NaN.
    """
    fuse = tuple(described['fuse'])
    alpha, confidence = float(described['false_alarm_rate']), float(described['confidence'])
    check_budget(alpha, confidence)
    members = {
        name: ClassConditionalPValues.from_tensors(part(tensors, f'{name}/')) for name in scores
    }
    fused = ClassConditionalPValues.from_tensors(part(tensors, f'{FUSED}/'))
    classes = next(iter(scores.values())).classes
    if not fuse or len(set(fuse)) < len(fuse) or not set(fuse) <= set(scores):
        raise ValueError('fuse names unknown scores, or one of them twice')
    if any(scores[name].windowed for name in fuse):
        raise ValueError('fuse names a score that looks at more than one frame')
    # The fused score was calibrated with exactly these members.
    if {key for key in tensors if key.endswith('/marginal')} != {f'{n}/marginal' for n in fuse}:
        raise ValueError('fuse names other scores than the fused one was calibrated with')
    weights = {name: float(w) for name, w in described.get('fusion_weights', {}).items()}
    # A weight of 0 or NaN would silently disable a member, or the monitor.
    if weights and set(weights) != set(fuse) or not all(0 < w < 1e6 for w in weights.values()):
        raise ValueError('fusion_weights are not one positive number for each member of fuse')
    fusion_p_values = {name: ConformalPValues(tensors[f'{name}/marginal']) for name in fuse}
    listed = described['p_thresholds']
    if FUSED not in listed or not set(listed) <= {*scores, FUSED}:
        raise ValueError('p_thresholds names unknown scores, or lacks the fused one')
    class_images = described.get('class_images')
    if class_images is not None and int(class_images) < 1:
        raise ValueError('class_images is below 1')
    thresholds = {}
    for name, ranked in {**members, FUSED: fused}.items():
        if len(ranked.cell_of_class) != classes:
            raise ValueError(f'the calibration of {name} has other classes')
        if name not in listed:
            continue
        per_cell = np.array([float(p) for p in listed[name]])
        # A threshold that no p-value reaches, such as NaN, would silently disable the monitor.
        sizes = np.array([len(cell) for cell in ranked.cells])
        if len(per_cell) != len(sizes) or not (
            (per_cell >= 1 / (sizes + 1)) & (per_cell < 1)
        ).all():
            raise ValueError(
                f'p_thresholds of {name} are {listed[name]}, not one attainable threshold for '
                f'each of {len(sizes)} cells'
            )
        thresholds[name] = per_cell[ranked.cell_of_class]
    return Calibration(
        alpha=alpha,
        confidence=confidence,
        fusion_members=fuse,
        scores=members,
        fusion_p_values=fusion_p_values,
        fused=fused,
        thresholds=thresholds,
        effective_size=int(described['fused']['independent_images']),
        class_images=None if class_images is None else int(class_images),
        fusion_weights=weights,
    )


def _per_cell(ranked: ClassConditionalPValues, per_class: np.ndarray) -> list[float]:
    cells = ranked.cell_of_class
    return [float(per_class[np.flatnonzero(cells == n)[0]]) for n in range(len(ranked.cells))]


def _describe_cells(ranked: ClassConditionalPValues) -> dict[str, Any]:
    """Return the number of images of a calibration, and the cells of its classes."""
    cells = ranked.cell_of_class
    return {
        'images': len(ranked),
        'cells': [_in_runs(np.flatnonzero(cells == n)) for n in range(len(ranked.cells))],
        'cell_images': [len(cell) for cell in ranked.cells],
    }


def _in_runs(classes: np.ndarray) -> list[int | str]:
    """Return ascending numbers, with long runs abbreviated as ``first..last``."""
    runs = np.split(classes, np.flatnonzero(np.diff(classes) != 1) + 1)
    listed: list[int | str] = []
    for run in runs:
        listed += [f'{run[0]}..{run[-1]}'] if len(run) > _LONGEST_RUN else run.tolist()
    return listed


def part(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    return {key[len(prefix):]: t for key, t in tensors.items() if key.startswith(prefix)}
