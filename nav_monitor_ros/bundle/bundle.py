"""A bundle: a network with the monitor fitted to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nav_monitor_ros.bundle.engines import StoredEngines
from nav_monitor_ros.bundle.used_images import CalibrationImages, TrainingImages
from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.perception.network.backends import TORCH, Engine
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.scores.base import Score

# Parts of the provenance that the notes tell.
_NOTED = ('left_out', 'degenerate')


@dataclass(frozen=True)
class Bundle:
    """A network with everything that was fitted to it."""

    name: str
    network: NetworkSpec
    preprocess: Preprocess
    layer: str  # the monitored one
    class_names: tuple[str, ...]
    scores: Mapping[str, Score]
    calibration: Calibration
    layer_ranges: Mapping[str, tuple[float, float]]  # 1st and 99th percentile in training
    provenance: Mapping[str, Any]
    background: int | None = None  # index of the background class's output
    folder: Path | None = None  # folder that it was read from
    reference: Engine = Engine(TORCH)  # engine with which the monitor was fitted
    stored: StoredEngines | None = None  # other engines for which it was exported
    # None if an earlier version fitted it:
    calibration_images: CalibrationImages | None = None
    training_images: TrainingImages | None = None

    @property
    def degenerate(self) -> Mapping[str, str]:
        """Return the scores that carry no information of their own, with the reason."""
        found = self.provenance.get('degenerate')
        return found if isinstance(found, dict) else {}

    @property
    def is_labelled(self) -> bool:
        """Return whether the training images had labels, instead of the network's predictions."""
        return bool(self.provenance.get('labels') == 'data')

    @property
    def runs_without_code(self) -> bool:
        """Return whether a backend other than torch, where installed, can run the network."""
        return self.stored is not None and any(
            one.engine.backend != TORCH and not one.refused for one in self.stored.summaries()
        )

    @property
    def shown_provenance(self) -> Mapping[str, Any]:
        """Return the provenance without what the notes tell.

        Without labels, the predictions count as correct, which says nothing.
        """
        hidden = {*_NOTED, *(() if self.is_labelled else ('correctly_classified',))}
        return {key: value for key, value in self.provenance.items() if key not in hidden}

    def calibrated_for(self, engine: Engine) -> Bundle:
        """Return this bundle with the calibration that is valid for an engine.

        Raises:
            NavMonitorError: The calibration file is missing, was changed, or is malformed.
        """
        if engine == self.reference or self.stored is None:
            return self
        own = self.stored.approval(engine).calibration
        return self if own is None else replace(self, calibration=own)

    def notes(self) -> list[str]:
        """Return notes on the fitted monitor, one line each."""
        left_out = self.provenance.get('left_out') or {}
        fused = self.calibration.fusion_members
        return [
            *(note for score in self.scores.values() for note in score.notes(self.class_names)),
            *(f'{name} is left out: {reason}' for name, reason in left_out.items()),
            *(
                f'warning: {name} is fused as requested, but it is degenerate: {reason}'
                if name in fused else f'{name} is degenerate and not fused: {reason}'
                for name, reason in self.degenerate.items()
            ),
        ]

    def judge(
        self,
        *,
        decisive: str = FUSED,
        also: Sequence[str] = (),
        top: int = 3,
        evidence_level: float = DEFAULT_EVIDENCE_LEVEL,
    ) -> Judge:
        """Return the fitted scores with their calibration, ready to judge images.

        Args:
            decisive: The score whose p-value decides.
            also: Further scores that verdicts list, ``all`` for all of them.
            top: Number of classes that a verdict lists.
            evidence_level: P-value at or below which a frame counts as evidence.

        Raises:
            NavMonitorError: A score is not in this bundle, or the level is out of range.
        """
        return Judge(
            self.scores, self.calibration, self.class_names,
            decisive=decisive, also=also, top=top, evidence_level=evidence_level,
        )
