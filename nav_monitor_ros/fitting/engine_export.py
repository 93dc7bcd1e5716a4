"""Export a bundle's network for other backends and measure how well their scores agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import GRAPH, ONNX_WEIGHTS
from nav_monitor_ros.bundle.engines import Approval, Engines, probe_of
from nav_monitor_ros.bundle.networks import configure_for_scores, load_torch_network
from nav_monitor_ros.bundle.saving import save_exported
from nav_monitor_ros.data.batches import Progress, ScoredImages, score_images
from nav_monitor_ros.data.class_matching import require_known_classes
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.fitting.calibration_split import CalibrationSplit
from nav_monitor_ros.fitting.engine_agreement import (
    EngineScores,
    judge_engine,
    require_in_distribution,
)
from nav_monitor_ros.fitting.export_images import calibration_advice, require_images, split_images
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
UNIT_TOLERANCE = 1e-3  # relative difference of two units of features that rounding may cause


class NoEngineApproved(NavMonitorError):
    """Every engine that was tried is refused, so nothing is written."""


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
    """Write a bundle with its network in a form that other backends can run.

    Each engine available here, a backend at a precision, runs the network on the calibration
    images. If no more of them score above the thresholds than the false-alarm budget allows, the
    network's own calibration is used for the engine; otherwise the engine is calibrated separately
    or, if there are too few images for that, refused.

    Args:
        bundle: Bundle read from a folder.
        reference: The bundle's network on the engine of the fit, set up to yield what all scores
            need.
        calibration: Held-out in-distribution images. If the monitor was calibrated on some of them,
            only these are used; otherwise all except those to which it was fitted, unless the
            monitor flags far more of them than its budget allows.
        backends: ``onnxruntime``, ``openvino``; ``torch`` for TensorFloat-32 on a GPU.
        folder: Output folder.
        threads: Number of threads of the backends.
        seed: Random seed for dividing images on which the monitor was not calibrated.
        trusted_packages: Packages whose network code may be imported.
        workers: Threads that read and decode.
        force: Also write to a folder that holds other files.
        progress: Called with the stage, the number of images done and the total.

    Returns:
        The results for the engines.

    Raises:
        NoEngineApproved: Every engine is refused; nothing is written.
        NavMonitorError: The network cannot be exported, no backend is installed, or there are too
            few images, only training images, or images that are not in-distribution.
    """
    engines = engines_here(backends, bundle)
    calibration = calibration.oriented(bundle.preprocess.exif)
    require_known_classes(calibration, bundle.class_names)
    require_images(bundle, calibration.name, len(calibration))
    scored = _scored(bundle, reference, calibration, workers, progress, digests=True)
    split, are_own = split_images(bundle, calibration, scored.digests, seed)
    used = calibration.subset(split.used)
    expected = EngineScores(*split.sets(scored, calibration.groups))
    advice = '' if are_own else calibration_advice(bundle)
    if not are_own:
        require_in_distribution(bundle, expected, calibration.name, advice)
    split = CalibrationSplit(
        None if split.fusion is None else np.searchsorted(split.used, split.fusion),
        np.searchsorted(split.used, split.calibration),
    )
    with scratch_folder() as scratch:
        graph, read = None, None
        if bundle.network.spec == ONNX:
            assert bundle.folder is not None
            read = OnnxGraph.read(bundle.folder / ONNX_WEIGHTS, output=bundle.network.output)
        elif any(engine.backend != TORCH for engine in engines):
            graph = scratch / 'network.onnx'
            read = _written(bundle, reference, graph, progress)
        approvals, probe = _staying(bundle, anew=read is not None)
        if bundle.stored is not None and any(a.engine.backend != TORCH for a in approvals.values()):
            graph = bundle.stored.verified(GRAPH)  # the network that they run
        probe |= {f'reference/{what}': values for what, values in probe_of(reference).items()}
        for engine in engines:
            running = _running(bundle, engine, read, threads, trusted_packages)
            different = _difference(running, reference)
            if different:
                approvals[str(engine)] = Approval(
                    engine, source_label(calibration.name), 0, 0.0, 0, 0, 0, refused=different)
                continue
            configure_for_scores(running, bundle.scores.values())
            # NaN is not the image's fault: the engine is refused for it.
            unchecked = InvalidImages.unchecked()
            scored = _scored(bundle, running, used, workers, progress, invalid=unchecked)
            found = EngineScores(*split.sets(scored, used.groups))
            approvals[str(engine)] = judge_engine(
                bundle, engine, expected, found, calibration.name)
            probe |= {f'{engine}/{what}': values for what, values in probe_of(running).items()}
        _require_one([approvals[str(engine)] for engine in engines], advice)
        result = Engines(approvals, probe)
        save_exported(bundle, result, graph, folder, force=force)
    return result


def engines_here(backends: Sequence[str], bundle: Bundle) -> list[Engine]:
    """Return the engines of these backends that this machine can run.

    Raises:
        NavMonitorError: A backend is unknown, or not installed.
    """
    return engines_for(backends, bundle.reference)


def engines_for(
    backends: Sequence[str], reference: Engine, option: str = '--backend'
) -> list[Engine]:
    """Return the engines of these backends that this machine can run, except the reference.

    Args:
        backends: Names of backends.
        reference: Engine with which the monitor is fitted.
        option: Command line option that named them.

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
            'the backend torch needs a GPU of compute capability 8 or above here, to test '
            'TensorFloat-32; without one there is nothing to export for it'
        )
    missing = [b for b in missing if b not in (TORCH, reference.backend)]
    if missing and (ALL not in backends or not found):
        raise NavMonitorError(
            f"the backend {' and '.join(missing)} is not installed; pip install "
            'nav_monitor_ros[backends]'
        )
    return found


def _staying(
    bundle: Bundle, *, anew: bool
) -> tuple[dict[str, Approval], dict[str, np.ndarray]]:
    """Return the approvals of an earlier export that remain valid, and their probe outputs.

    Those of torch do; the others if the network in ONNX form is not rewritten.
    """
    stored = bundle.stored
    if stored is None or anew and all(s.engine.backend != TORCH for s in stored.summaries()):
        return {}, {}  # nothing is read, since damaged files will be rewritten
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
    """Write a torch network in ONNX form and return it."""
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
    """Return the network on an engine."""
    if engine.backend == TORCH:
        return load_torch_network(bundle, 'cuda', threads, trusted_packages, engine.precision)
    assert graph is not None
    return OnnxClassifier(
        graph, bundle.preprocess, engine=engine, layer=bundle.layer,
        background=bundle.background, threads=threads,
    )


def _difference(running: RunningNetwork, reference: RunningNetwork) -> str:
    """Return why a network's features are not those of the fit, '' if they may be."""
    if running.width != reference.width:
        return (
            f'its monitored layer has {running.width} neurons, and that of {reference.engine} '
            f'{reference.width}'
        )
    if not abs(running.unit - reference.unit) <= UNIT_TOLERANCE * abs(reference.unit):
        return (
            f'its last linear layer is not the one that {reference.engine} uses: it would scale '
            f'the features by {running.unit:.4g} instead of {reference.unit:.4g}'
        )
    return ''


def _require_one(tried: Sequence[Approval], advice: str) -> None:
    """Check that at least one of the engines is approved.

    Raises:
        NoEngineApproved: All of them are refused.
    """
    if not tried or not all(one.refused for one in tried):
        return
    names = ', '.join(str(one.engine) for one in tried)
    others = len({one.refused for one in tried}) - 1
    raise NoEngineApproved(
        f'no engine is approved ({names}): {tried[0].refused}'
        + (f' (and {others} more reason{"s" * (others > 1)})' if others else '')
        + (f'; {advice}' if advice else '')
    )


def _scored(
    bundle: Bundle, network: RunningNetwork, images: ImageSource, workers: int | None,
    progress: Progress, *, digests: bool = False, invalid: InvalidImages | None = None,
) -> ScoredImages:
    """Return the scores of the calibration images."""
    return score_images(
        network, bundle.scores, images, progress,
        f'calibration images on {network.engine.backend}', workers=workers, digests=digests,
        invalid=invalid,
    )
