"""Export a bundle's network for other backends, and find out what their scores are worth."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import GRAPH
from nav_monitor_ros.bundle.engines import Approval, Engines, probe_of
from nav_monitor_ros.bundle.networks import configure_for_scores, load_torch_network
from nav_monitor_ros.bundle.saving import save_exported
from nav_monitor_ros.data.batches import Progress, ScoredImages, digests_of, score_images
from nav_monitor_ros.data.image_source import ImageSource, split
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.data.labels import require_known_classes
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.decision.calibration import (
    FUSED,
    Calibration,
    CalibrationOptions,
    CalibrationScores,
    calibrate,
)
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.false_alarm_budget import (
    effective_sample_size,
    images_needed,
    p_value_threshold,
)
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.fitting.fit import MARGINAL_SHARE
from nav_monitor_ros.perception.network.backends import (
    BACKENDS,
    ENGINES,
    TORCH,
    Engine,
    usable_here,
)
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import ONNX

ALL = 'all'
# Of a score's standard deviation: what rounding alone may change. A calibration image that stands
# at the threshold would be pushed over it by the last bit of a float.
ROUNDING = 1e-4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """The calibration images as one engine sees them, in the parts that ``fit`` makes."""

    first_scores: dict[str, np.ndarray] | None  # by which members are fused; None for one member
    first_labels: np.ndarray | None
    scores: dict[str, np.ndarray]  # of the other images
    labels: np.ndarray

    def of(self, name: str, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
        """Return a score of the images that calibrate it, and their predicted classes."""
        if name == FUSED:
            return calibration.fused_scores(self.scores), self.labels
        if self.first_scores is None or self.first_labels is None:
            return self.scores[name], self.labels
        return (
            np.concatenate([self.first_scores[name], self.scores[name]]),
            np.concatenate([self.first_labels, self.labels]),
        )


@dataclass(frozen=True)
class Parts:
    """The calibration images in the two parts that ``fit`` makes of them."""

    first: ImageSource | None  # by which members are fused; None for one member
    second: ImageSource

    def __len__(self) -> int:
        """Return the number of images in both."""
        return len(self.second) + (0 if self.first is None else len(self.first))

    @property
    def groups(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return which images of each belong together."""
        return None if self.first is None else self.first.groups, self.second.groups


def export(
    bundle: Bundle,
    reference: RunningNetwork,
    calibration: ImageSource,
    backends: Sequence[str],
    folder: Path,
    *,
    threads: int = 1,
    seed: int = 0,
    trusted_packages: Sequence[str] = (),
    workers: int | None = None,
    force: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Engines:
    """Write a bundle with its network in a form that other backends run.

    Each engine that runs here, a backend at a precision, runs the calibration images. Where no
    more of them score above the thresholds than the false-alarm budget allows, the network's own
    calibration holds for the engine; else it is calibrated anew, and where there are too few images
    for that, refused.

    Args:
        bundle: Read from a folder.
        reference: The bundle's network, run as when the monitor was fitted, with all scores' needs.
        calibration: Held-out in-distribution images. Of those among them that the monitor was
            calibrated on no others are taken, as ``fit`` left out what was trained on.
        backends: ``onnxruntime``, ``openvino``; ``torch`` for TensorFloat-32 on a GPU.
        folder: Where to write.
        threads: Of the backends.
        seed: Of the parts into which images are divided that the monitor was not calibrated on.
        trusted_packages: Whose network code may be imported.
        workers: Threads that read and decode.
        force: Write to a folder that holds other things than a bundle, too.
        progress: Is told how far the work is.

    Returns:
        What was found.

    Raises:
        NavMonitorError: The network cannot be exported, no backend is installed, or there are too
            few images.
    """
    engines = engines_here(backends, bundle)
    calibration = calibration.oriented(bundle.preprocess.exif)
    require_known_classes(calibration, bundle.class_names)
    _require_images(bundle, calibration)
    parts = _parts(bundle, calibration, seed, workers, progress)
    with scratch_folder() as scratch:
        graph, read = None, None
        if bundle.network.spec == ONNX:
            assert bundle.folder is not None
            read = OnnxGraph.read(bundle.folder / 'model.onnx', output=bundle.network.output)
        elif any(engine.backend != TORCH for engine in engines):
            graph = scratch / 'network.onnx'
            read = _written(bundle, reference, graph, progress)
        approvals, probe = _staying(bundle, anew=read is not None)
        if bundle.stored is not None and any(a.engine.backend != TORCH for a in approvals.values()):
            graph = bundle.stored.verified(GRAPH)  # what they run
        expected = _sample(bundle, reference, parts, workers, progress)
        probe |= {f'reference/{what}': values for what, values in probe_of(reference).items()}
        for engine in engines:
            running = _running(bundle, engine, read, threads, trusted_packages)
            configure_for_scores(running, bundle.scores.values())
            # What is no number is not the image's fault: the engine is refused for it.
            unchecked = InvalidImages.unchecked()
            found = _sample(bundle, running, parts, workers, progress, unchecked)
            approvals[str(engine)] = judge_engine(bundle, engine, expected, found, parts)
            probe |= {f'{engine}/{what}': values for what, values in probe_of(running).items()}
        result = Engines(approvals, probe)
        save_exported(bundle, result, graph, folder, force=force)
    return result


def _staying(
    bundle: Bundle, *, anew: bool
) -> tuple[dict[str, Approval], dict[str, np.ndarray]]:
    """Return the approvals of an earlier export that stay, and their part of the probe.

    Those of torch do; the others where the network in ONNX form is not written anew.
    """
    stored = bundle.stored
    if stored is None or anew and all(s.engine.backend != TORCH for s in stored.summaries()):
        return {}, {}  # and nothing is read: what was spoilt is going to be written anew
    before = stored.load()
    approvals = {
        name: approval for name, approval in before.approvals.items()
        if not anew or approval.engine.backend == TORCH
    }
    return approvals, {
        key: values for key, values in before.probe.items() if key.split('/')[0] in approvals
    }


def _written(
    bundle: Bundle, reference: RunningNetwork, path: Path, progress: Progress
) -> OnnxGraph:
    """Write a torch network in ONNX form; return it."""
    from nav_monitor_ros.perception.network.onnx.export import export_onnx
    from nav_monitor_ros.perception.network.torch.classifier import Classifier

    assert isinstance(reference, Classifier)
    passes = max((score.dropout_passes for score in bundle.scores.values()), default=0)
    progress('exporting the network', 0, 1)
    export_onnx(reference, path, passes=passes)
    progress('exporting the network', 1, 1)
    return OnnxGraph.read(path)


def _running(
    bundle: Bundle, engine: Engine, graph: OnnxGraph | None, threads: int,
    trusted_packages: Sequence[str],
) -> RunningNetwork:
    """Return the network run by an engine."""
    if engine.backend == TORCH:
        return load_torch_network(bundle, 'cuda', threads, trusted_packages, engine.precision)
    assert graph is not None
    return OnnxClassifier(
        graph, bundle.preprocess, engine=engine, layer=bundle.layer,
        background=bundle.background, threads=threads,
    )


def engines_here(backends: Sequence[str], bundle: Bundle) -> list[Engine]:
    """Return the engines of these backends that this machine can run.

    Raises:
        NavMonitorError: A backend is unknown, or not installed.
    """
    return engines_for(backends, bundle.reference)


def engines_for(
    backends: Sequence[str], reference: Engine, option: str = '--backend'
) -> list[Engine]:
    """Return the engines of these backends that this machine can run besides another one.

    Args:
        backends: Names.
        reference: What runs the network when the monitor is fitted.
        option: By which they were named.

    Raises:
        NavMonitorError: A backend is unknown, or not installed.
    """
    torch_runs_it = reference.backend == TORCH
    every = [backend for backend in BACKENDS if torch_runs_it or backend != TORCH]
    wanted = every if ALL in backends else list(backends)
    for backend in wanted:
        if backend not in every:
            raise NavMonitorError(f"{option} '{backend}' is not {', '.join(every)} or {ALL}")
    found = [
        engine for engine in ENGINES
        if engine.backend in wanted and engine != reference and usable_here(engine)
    ]
    missing = [b for b in wanted if not any(engine.backend == b for engine in found)]
    if TORCH in missing and ALL not in backends:
        raise NavMonitorError(
            'the backend torch needs a GPU of compute capability 8 or above here, where '
            'TensorFloat-32 is to be tried; without one there is nothing to export for it'
        )
    missing = [b for b in missing if b not in (TORCH, reference.backend)]
    if missing and (ALL not in backends or not found):
        raise NavMonitorError(
            f"the backend {' and '.join(missing)} is not installed; pip install "
            'nav_monitor_ros[backends]'
        )
    return found


def judge_engine(
    bundle: Bundle,
    engine: Engine,
    expected: Sample,
    found: Sample,
    parts: Parts,
) -> Approval:
    """Say whether an engine may run the network, and by which calibration.

    Args:
        bundle: With the calibration of its own engine.
        engine: That is to be judged.
        expected: The calibration images as the bundle's own engine sees them.
        found: As this one does.
        parts: The images.
    """
    groups = parts.groups
    changes = [
        float(np.abs(a - b).max() / (a.std() or 1.0))
        for name, score in bundle.scores.items() if not score.windowed
        for a, b in [(expected.of(name, bundle.calibration)[0],
                      found.of(name, bundle.calibration)[0])]
    ]
    reclassified = int((expected.labels != found.labels).sum())
    if expected.first_labels is not None:
        reclassified += int((expected.first_labels != found.first_labels).sum())
    own, refused = None, ''
    failing = disagreements(bundle, expected, found, groups)
    if failing:
        _log.info('%s is calibrated anew: %s', engine, failing[0])
        try:
            fusion_set = None
            if found.first_scores is not None and found.first_labels is not None:
                fusion_set = CalibrationScores(found.first_scores, found.first_labels, groups[0])
            own = calibrate(
                fusion_set, CalibrationScores(found.scores, found.labels, groups[1]),
                classes=len(bundle.class_names),
                options=CalibrationOptions(
                    fusion_members=bundle.calibration.fusion_members,
                    alpha=bundle.calibration.alpha,
                    confidence=bundle.calibration.confidence,
                    class_images=bundle.calibration.class_images,
                ),
            )
        except NavMonitorError as error:
            refused = f'{failing[0]}, and it cannot be calibrated anew: {error}'
    used = bundle.calibration if own is None else own
    return Approval(
        engine=engine,
        source=source_label(parts.second.name),
        images=len(parts),
        largest_change=max(changes, default=0.0),
        reclassified=reclassified,
        flagged=_flagged(used, found, 0.0),
        flagged_by_reference=_flagged(bundle.calibration, expected, 0.0),
        refused=refused,
        calibration=own,
    )


def disagreements(
    bundle: Bundle,
    expected: Sample,
    found: Sample,
    groups: tuple[np.ndarray | None, np.ndarray | None],
) -> list[str]:
    """Return why a bundle's calibration does not hold for what an engine computes.

    A threshold t keeps the budget with the stated confidence if no more than k of the n calibration
    images score above it, with the k of ``p_threshold``: then the k-th largest of the engine's own
    scores, which keeps it, is not above t.

    Args:
        bundle: With the calibration in question.
        expected: The calibration images as the bundle's own engine sees them.
        found: As the other engine does.
        groups: Of the images, in the two parts.
    """
    calibration = bundle.calibration
    alpha, confidence = calibration.alpha, calibration.confidence
    reasons = []
    for name, limits in calibration.thresholds.items():
        if name in bundle.scores and bundle.scores[name].windowed:
            continue  # promises nothing
        ranked = calibration.fused if name == FUSED else calibration.scores[name]
        scores, labels = found.of(name, calibration)
        before, labels_before = expected.of(name, calibration)
        if not np.isfinite(scores).all():
            reasons.append(f'{name} is not a finite number on some images')
            continue
        rounded = scores - ROUNDING * (before.std() or 1.0)
        p_values = ranked.p_values(rounded, labels)
        together = groups[1] if name == FUSED else _joined(groups)
        cells = ranked.cell_of_class[labels]
        for cell in range(len(ranked.cells)):
            rows = cells == cell
            flagged = int((p_values[rows] <= limits[labels[rows]]).sum())
            allowed = _allowed(
                scores[rows], None if together is None else together[rows], alpha, confidence
            )
            if flagged > allowed:
                reasons.append(
                    f'{name} flags {flagged} of {int(rows.sum())} calibration images, and '
                    f'{max(allowed, 0)} are allowed'
                )
        if name == FUSED:
            odd = int((p_values <= DEFAULT_EVIDENCE_LEVEL).sum())
            p_values_before = ranked.p_values(before, labels_before)
            before_odd = int((p_values_before <= DEFAULT_EVIDENCE_LEVEL).sum())
            if odd > before_odd:
                reasons.append(
                    f'{odd} calibration images are evidence (p <= {DEFAULT_EVIDENCE_LEVEL:g}), '
                    f'and {before_odd} were'
                )
    return reasons


def _allowed(
    scores: np.ndarray, groups: np.ndarray | None, alpha: float, confidence: float
) -> int:
    """Return how many of a cell's images may score above a threshold that keeps the budget."""
    n = len(scores)
    worth = n if groups is None or not n else effective_sample_size(scores, groups)
    if worth < images_needed(alpha, confidence):
        return -1
    return math.floor(p_value_threshold(worth, alpha, confidence) * (n + 1) + 1e-9) - 1


def _flagged(calibration: Calibration, sample: Sample, less: float) -> int:
    scores, labels = sample.of(FUSED, calibration)
    p_values = calibration.fused.p_values(scores - less, labels)
    return int((p_values <= calibration.thresholds[FUSED][labels]).sum())


def _sample(
    bundle: Bundle,
    network: RunningNetwork,
    parts: Parts,
    workers: int | None,
    progress: Progress,
    invalid: InvalidImages | None = None,
) -> Sample:
    """Return the scores that a network gives the calibration images, whose activations go."""

    def scored(part: ImageSource) -> ScoredImages:
        what = f'calibration images on {network.engine.backend}'
        return score_images(
            network, bundle.scores, part, progress, what, workers=workers, invalid=invalid
        )

    second = scored(parts.second)
    if parts.first is None:
        return Sample(None, None, second.scores, second.predicted)
    first = scored(parts.first)
    return Sample(first.scores, first.predicted, second.scores, second.predicted)


def _parts(
    bundle: Bundle,
    calibration: ImageSource,
    seed: int,
    workers: int | None,
    progress: Progress,
) -> Parts:
    """Return the images that the monitor was calibrated on, divided as ``fit`` divided them.

    Where the bundle does not know them, or none of them is there, all images are taken.

    Raises:
        NavMonitorError: There are too few of them.
    """
    known = bundle.calibration_images
    if known is not None:
        digests = digests_of(
            calibration, progress, 'reading the calibration images', workers=workers
        )
        first, second = known.find(digests)
        if len(first) + len(second):
            chosen = calibration.subset(np.sort(np.concatenate([first, second])))
            others = len(calibration) - len(chosen)
            if others:
                _log.warning(
                    '%d of %d images are not taken: the monitor was not calibrated on them, so '
                    'they may be training images', others, len(calibration),
                )
            _require_images(bundle, chosen)
            if len(bundle.calibration.fusion_members) == 1:
                return Parts(None, chosen)
            return Parts(calibration.subset(first), calibration.subset(second))
        _log.warning(
            'the monitor was calibrated on none of these images: nothing tells whether the network '
            'was trained on them'
        )
    if len(bundle.calibration.fusion_members) == 1:
        return Parts(None, calibration)
    rest, part = split(calibration, MARGINAL_SHARE, seed)
    return Parts(part, rest)


def _joined(groups: tuple[np.ndarray | None, np.ndarray | None]) -> np.ndarray | None:
    parts = [part for part in groups if part is not None]
    return np.concatenate(parts) if parts else None


def _require_images(bundle: Bundle, calibration: ImageSource) -> None:
    needed = images_needed(bundle.calibration.alpha, bundle.calibration.confidence)
    if len(calibration) < needed:
        raise NavMonitorError(
            f'{len(calibration)} calibration images ({calibration.name}) are too few to tell '
            f'whether a backend agrees: {needed} are needed; give those that the monitor was '
            'calibrated on'
        )
