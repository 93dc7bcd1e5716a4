"""Which engines may run a bundle's network, and what their scores were found to be worth."""

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

PROBED = 4  # images of the probe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Approval:
    """What became of the calibration images when an engine ran the network on them."""

    engine: Engine
    source: str  # of the images
    images: int
    largest_change: float  # of a score, in standard deviations of that score on these images
    reclassified: int  # images that it gives another class than the network's own engine
    flagged: int  # by the fused score, with the calibration that it is used with
    flagged_by_reference: int  # by the network's own engine
    refused: str = ''  # why it may not run the network; empty if it may
    calibration: Calibration | None = None  # its own; None where the network's holds for it, too


@dataclass(frozen=True)
class Engines:
    """The engines that a network was exported for."""

    approvals: Mapping[str, Approval] = field(default_factory=dict)  # by the engine's name
    probe: Mapping[str, np.ndarray] = field(default_factory=dict)
    # outputs for the probe: 'torch/logits', 'openvino_f32/features', ... float32

    def allows(self, engine: Engine) -> bool:
        """Return whether an engine was tried and not refused."""
        approval = self.approvals.get(str(engine))
        return approval is not None and not approval.refused

    def describe(self) -> dict[str, Any]:
        """Return what ``bundle.yaml`` says of them."""
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
                # Which one its scores are ranked by: the network's, or this one.
                'calibration': 'network' if own is None else describe_calibration(own),
            }
        return described


@dataclass(frozen=True)
class StoredEngines:
    """Engines as a bundle has them on disk; their files are read, and checked, when one is used."""

    folder: Path
    described: Mapping[str, Any]
    hashes: Mapping[str, Any]
    scores: Mapping[str, Score]

    def __post_init__(self) -> None:
        """Check what is described.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: It is malformed.
        """
        known = {str(engine) for engine in ENGINES if engine != Engine(TORCH)}
        if not set(self.described) <= known:
            raise ValueError('it was exported for engines that this version does not know')
        for name in self.described:
            self._summary(name)

    def summaries(self) -> list[Approval]:
        """Return what the description says, without the calibrations of their own."""
        return [self._summary(name) for name in self.described]

    def own_calibration(self, engine: Engine) -> bool:
        """Return whether an engine has a calibration of its own."""
        return self.described[str(engine)]['calibration'] != 'network'

    def load(self) -> Engines:
        """Return all of it.

        Raises:
            NavMonitorError: A file is missing, was changed, or is malformed.
        """
        approvals = {name: self.approval(summary.engine)
                     for name, summary in zip(self.described, self.summaries(), strict=True)}
        return Engines(approvals, self._arrays(PROBE))

    def approval(self, engine: Engine) -> Approval:
        """Return what is known of an engine, with its calibration.

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
        """Check that a network computes on this machine what it did where it was exported.

        Args:
            network: In service.
            reference: That the monitor was fitted with.

        Raises:
            NavMonitorError: It does not: the processor or the backend's version is another one.
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
            NavMonitorError: It is missing, or not the one that was written.
        """
        return require_unchanged_file(
            self.folder, name, self.hashes.get(name), self._remedy
        )

    @property
    def _remedy(self) -> str:
        return 'copy the bundle again, or write it anew with `nav_monitor export`'

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
    """Return the logits and features of the probe, images that only arithmetic makes."""
    shape = (PROBED, *network.input_shape)
    numbers = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(2654435761)
    images = (numbers % np.uint64(1 << 32)) / (1 << 30) - 2  # -2 to 2
    found = network(images.astype(np.float32).reshape(shape))
    return {'logits': found.logits, 'features': found.features}


def candidates(
    backend: str, device: str, reference: Engine, stored: StoredEngines | None, bundle: str
) -> list[Engine]:
    """Return the engines that may run a bundle's network here, the fastest first.

    Args:
        backend: ``auto`` or the name of one.
        device: Where it shall run: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reference: That the monitor was fitted with.
        stored: What the network was exported for, None for nothing.
        bundle: Name for messages.

    Raises:
        NavMonitorError: There is none.
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
                'choose onnxruntime or openvino (gradient views need torch, too)'
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
    """Return whether torch is to run on a GPU, without importing it where there is none."""
    if device != 'auto':
        return device.startswith('cuda')
    places = ('nvidia[0-9]*', 'nvgpu*', 'nvhost-gpu', 'dxg')  # cards, Jetsons, Windows' Linux
    if not any(True for place in places for _ in Path('/dev').glob(place)):
        return False
    import torch

    return torch.cuda.is_available()
