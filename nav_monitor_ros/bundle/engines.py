"""Engines that may run a bundle's network, and how far their scores agree with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nav_monitor_ros.bundle.bundle_files import PROBE, require_unchanged_file
from nav_monitor_ros.bundle.calibration_description import describe_calibration, read_calibration
from nav_monitor_ros.decision.calibration import Calibration
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.backends import (
    AUTO,
    ENGINES,
    TF32,
    TORCH,
    Engine,
    check_backend,
    installed,
    usable_here,
)
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.base import Score

PROBED = 4  # number of probe images

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Approval:
    """Result of running the network on the calibration images with an engine."""

    engine: Engine
    source: str  # number of images
    images: int  # 0 if it was refused before it ran
    # Largest change of a score, in standard deviations of that score on these images.
    largest_change: float
    reclassified: int  # images classified differently than by the network's own engine
    flagged: int  # images flagged by the fused score, with the calibration in use
    flagged_by_reference: int  # images flagged with the network's own engine
    refused: str = ''  # reason for refusing it; empty if it was approved
    # Its own calibration; None if the one made at fit is valid for it.
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Engines:
    """Engines for which a network was exported."""

    approvals: Mapping[str, Approval] = field(default_factory=dict)  # by the engine's name
    probe: Mapping[str, np.ndarray] = field(default_factory=dict)
    # outputs for the probe images: 'torch/logits', 'openvino_f32/features', ... float32

    def allows(self, engine: Engine) -> bool:
        """Return whether an engine was tested and not refused."""
        approval = self.approvals.get(str(engine))
        return approval is not None and not approval.refused

    def describe(self) -> dict[str, Any]:
        """Return their description for ``bundle.yaml``."""
        described = {}
        for name, approval in self.approvals.items():
            own = approval.calibration
            described[name] = {
                'source': approval.source,
                'images': approval.images,
                'largest_change': float(f'{approval.largest_change:.3g}'),
                'reclassified': approval.reclassified,
                'flagged': approval.flagged,
                'flagged_by_reference': approval.flagged_by_reference,
                'refused': approval.refused,
                # Calibration that ranks its scores: the one made at fit, or this one.
                'calibration': 'network' if own is None else describe_calibration(own),
            }
        return described


@dataclass(frozen=True)
class StoredEngines:
    """Engines of a bundle on disk; their files are read and verified when one is used."""

    folder: Path
    described: Mapping[str, Any]
    hashes: Mapping[str, Any]
    scores: Mapping[str, Score]

    def __post_init__(self) -> None:
        """Check the description.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: It is malformed.
        """
        known = {str(engine) for engine in ENGINES if engine != Engine(TORCH)}
        if not set(self.described) <= known:
            raise ValueError('it was exported for engines unknown to this version')
        for name in self.described:
            self._summary(name)

    def summaries(self) -> list[Approval]:
        """Return the approvals from the description, without separate calibrations."""
        return [self._summary(name) for name in self.described]

    def own_calibration(self, engine: Engine) -> bool:
        """Return whether an engine has a separate calibration."""
        return self.described[str(engine)]['calibration'] != 'network'

    def load(self) -> Engines:
        """Read all engines.

        Raises:
            NavMonitorError: A file is missing, was changed, or is malformed.
        """
        approvals = {name: self.approval(summary.engine)
                     for name, summary in zip(self.described, self.summaries(), strict=True)}
        return Engines(approvals, self._arrays(PROBE))

    def approval(self, engine: Engine) -> Approval:
        """Return the approval of an engine, with its calibration.

        Raises:
            NavMonitorError: Its file is missing, was changed, or is malformed.
        """
        summary = self._summary(str(engine))
        if not self.own_calibration(engine):
            return summary
        name = f'exported/{engine}.safetensors'
        described = self.described[str(engine)]['calibration']
        try:
            own = read_calibration(described, self._arrays(name), self.scores)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise NavMonitorError(
                f'{self.folder / name} is malformed: {error}; {self._remedy}'
            ) from None
        return replace(summary, calibration=own)

    def check_probe(self, network: RunningNetwork, reference: Engine) -> None:
        """Check that a network gives the same outputs here as on the machine that exported it.

        Args:
            network: Network in use.
            reference: Engine with which the monitor was fitted.

        Raises:
            NavMonitorError: It does not, since the processor or the backend's version differs.
        """
        arrays, name = self._arrays(PROBE), str(network.engine)
        stored = 'reference' if network.engine == reference else name
        found = probe_of(network)
        for what, values in found.items():
            expected, true = (arrays.get(f'{who}/{what}') for who in (stored, 'reference'))
            if expected is None or true is None or expected.shape != values.shape or (
                true.shape != values.shape
            ):
                raise NavMonitorError(f'{self.folder / PROBE} is malformed; {self._remedy}')
            allowed = 1e-4 * np.abs(true).max() + 4 * np.abs(expected - true).max()
            change = np.abs(values - expected).max()
            if not change <= allowed:
                raise NavMonitorError(
                    f'{name} gives other {what} on this machine than where {self.folder} was '
                    f'exported (by up to {change:.2g}, {allowed:.2g} is allowed); {self._remedy}'
                )

    def verified(self, name: str) -> Path:
        """Return a file's path.

        Raises:
            NavMonitorError: It is missing or was changed.
        """
        return require_unchanged_file(
            self.folder, name, self.hashes.get(name), self._remedy
        )

    @property
    def _remedy(self) -> str:
        return 'copy the bundle again, or recreate it with `nav_monitor export`'

    def _summary(self, name: str) -> Approval:
        one = self.described[name]
        backend, _, precision = name.rpartition('_')
        return Approval(
            Engine(backend, precision), str(one['source']), int(one['images']),
            float(one['largest_change']), int(one['reclassified']), int(one['flagged']),
            int(one['flagged_by_reference']), str(one['refused'] or ''),
        )

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        path = self.verified(name)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise NavMonitorError(
                f'{path} is unreadable: {one_line(error)}; {self._remedy}'
            ) from None


def probe_of(network: RunningNetwork) -> dict[str, np.ndarray]:
    """Return the logits and features of the probe, whose images are computed by a formula."""
    shape = (PROBED, *network.input_shape)
    numbers = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(2654435761)
    images = (numbers % np.uint64(1 << 32)) / (1 << 30) - 2  # -2 to 2
    found = network(images.astype(np.float32).reshape(shape))
    return {'logits': found.logits, 'features': found.features}


def candidates(
    backend: str, device: str, reference: Engine, stored: StoredEngines | None, bundle: str
) -> list[Engine]:
    """Return the engines that may run a bundle's network here, in order of preference.

    Args:
        backend: ``auto`` or the name of a backend.
        device: Device to run on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reference: Engine with which the monitor was fitted.
        stored: Engines for which the network was exported, None if there are none.
        bundle: Name of the bundle, for messages.

    Raises:
        NavMonitorError: No engine can be used.
    """
    check_backend(backend)
    approved = {summary.engine: summary.refused for summary in stored.summaries()} if stored else {}
    gpu = reference.backend == TORCH and backend in (AUTO, TORCH) and _on_cuda(device)
    known = [
        e for e in ENGINES
        if (e == reference or (e in approved and not approved[e]))
        and (e.backend == TORCH if gpu else e.precision != TF32)
    ]
    wanted = [engine for engine in known if backend in (AUTO, engine.backend)]
    if backend != AUTO and not wanted:
        if backend == TORCH:
            raise NavMonitorError(
                f"bundle '{bundle}' holds its network in ONNX form, which torch does not run; "
                'choose onnxruntime or openvino (gradient views also need torch)'
            )
        refused = [why for engine, why in approved.items() if engine.backend == backend]
        raise NavMonitorError(
            f"backend '{backend}' may not run bundle '{bundle}': " + (
                f'it was refused, {refused[0]}' if refused else
                f'it was not exported for it; nav_monitor export {bundle} --backend {backend} '
                '--calibration SOURCE'
            )
        )
    usable = [engine for engine in wanted if usable_here(engine)]
    if not usable:
        names = ', '.join(dict.fromkeys(engine.backend for engine in wanted))
        raise NavMonitorError(
            f"bundle '{bundle}' needs one of the backends {names}, and none is installed; "
            'pip install nav_monitor_ros[backends]'
        )
    if backend == AUTO:
        missing = {e.backend for e in wanted if not installed(e.backend)}
        for name in sorted(missing):
            _log.info('backend %s is not installed', name)
    return usable


def _on_cuda(device: str) -> bool:
    """Return whether torch is to run on a GPU, without importing it if there is none."""
    if device != 'auto':
        return device.startswith('cuda')
    places = ('nvidia[0-9]*', 'nvgpu*', 'nvhost-gpu', 'dxg')  # discrete GPUs, Jetson, WSL
    if not any(True for place in places for _ in Path('/dev').glob(place)):
        return False
    import torch

    return torch.cuda.is_available()
