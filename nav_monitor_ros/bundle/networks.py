"""Build the network of a bundle with its weights, ready to run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import GRAPH, ONNX_WEIGHTS, WEIGHTS
from nav_monitor_ros.bundle.engines import candidates
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import F32, TORCH, Engine
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import ONNX
from nav_monitor_ros.scores.base import Score

_log = logging.getLogger(__name__)


def load_network(
    bundle: Bundle,
    *,
    backend: str | None = None,
    device: str = 'auto',
    threads: int = 1,
    trusted_packages: Sequence[str] = (),
    scores: Iterable[str] | None = None,
) -> RunningNetwork:
    """Return a bundle's network with its weights, ready to run.

    Its scores are ranked by the calibration that ``calibrated_for`` returns for its engine.

    Args:
        bundle: Read from a folder.
        backend: ``torch``, ``onnxruntime``, ``openvino``, ``auto`` for the first one that is
            installed and may run this network, or None for the one with which the monitor was
            fitted.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Number of threads of the backend on the CPU; 0 for the backend's default.
        trusted_packages: Packages whose network code may be imported.
        scores: Names of the scores whose inputs each forward pass must yield; None for all.

    Raises:
        NavMonitorError: The network cannot be built, does not match the monitor, or was not
            exported for this backend.
    """
    if bundle.folder is None:
        raise NavMonitorError(f"bundle '{bundle.name}' was not read from a folder")
    engines = [bundle.reference]
    if backend is not None:
        engines = candidates(backend, device, bundle.reference, bundle.stored, bundle.name)
    for engine in engines:
        try:
            return _start(bundle, engine, device, threads, trusted_packages, scores)
        except NavMonitorError as error:
            if engine == engines[-1]:
                raise
            _log.warning('the backend %s is not used: %s', engine.backend, error)
    raise AssertionError


def load_torch_network(
    bundle: Bundle,
    device: str,
    threads: int,
    trusted_packages: Sequence[str],
    precision: str = F32,
) -> RunningNetwork:
    """Return a bundle's network run by torch, without the scores' additional outputs.

    Args:
        bundle: Read from a folder.
        device: As for ``load_network``.
        threads: As for ``load_network``.
        trusted_packages: As for ``load_network``.
        precision: On a GPU, ``f32`` or ``tf32``.

    Raises:
        NavMonitorError: The network cannot be built.
    """
    # Imported here since torch takes seconds to load and other backends do not need it.
    from nav_monitor_ros.perception.network.torch.classifier import Classifier
    from nav_monitor_ros.perception.network.torch.device import select_device

    assert bundle.folder is not None
    return Classifier(
        bundle.network.build(trusted_packages, bundle.folder / WEIGHTS),
        bundle.preprocess,
        layer=bundle.layer,
        background=bundle.background,
        device=select_device(device),
        threads=threads,
        precision=precision,
    )


def _start(
    bundle: Bundle,
    engine: Engine,
    device: str,
    threads: int,
    trusted_packages: Sequence[str],
    scores: Iterable[str] | None,
) -> RunningNetwork:
    classifier = (
        load_torch_network(bundle, device, threads, trusted_packages, engine.precision)
        if engine.backend == TORCH
        else _exported(bundle, engine, threads)
    )
    wanted = bundle.scores if scores is None else scores
    configure_for_scores(classifier, [bundle.scores[name] for name in wanted])
    if classifier.classes != len(bundle.class_names):
        raise NavMonitorError(
            f'bundle {bundle.folder} names {len(bundle.class_names)} classes, but its network has '
            f'{classifier.classes}; fit the monitor again'
        )
    width = next(iter(bundle.scores.values())).width
    if classifier.width != width:
        raise NavMonitorError(
            f'bundle {bundle.folder} was fitted to {width} neurons, but layer {bundle.layer} of '
            f'its network has {classifier.width}; fit the monitor again'
        )
    if bundle.stored is not None and (
        engine != bundle.reference or str(classifier.device) != 'cpu'
    ):
        bundle.stored.check_probe(classifier, bundle.reference)
    if bundle.stored is not None and engine != bundle.reference:
        bundle.stored.approval(engine)  # an unreadable calibration is detected here
    return classifier


def _exported(bundle: Bundle, engine: Engine, threads: int) -> RunningNetwork:
    assert bundle.folder is not None
    own = bundle.network.spec == ONNX
    if own:
        path = bundle.folder / ONNX_WEIGHTS  # verified when the bundle was read
    else:
        assert bundle.stored is not None
        path = bundle.stored.verified(GRAPH)
    return OnnxClassifier(
        OnnxGraph.read(path, output=bundle.network.output if own else None),
        bundle.preprocess,
        engine=engine,
        layer=bundle.layer,
        background=bundle.background,
        threads=threads,
    )


def configure_for_scores(classifier: RunningNetwork, scores: Iterable[Score]) -> None:
    """Configure a network so that every forward pass yields what the scores need.

    Raises:
        NavMonitorError: The network cannot provide it.
    """
    scores = list(scores)
    for score in scores:
        score.check_layers({
            layer.name: layer.channels for layer in (*classifier.inputs, *classifier.layers)
        })
    classifier.watch(layer for score in scores for layer in score.channel_mean_layers)
    classifier.sample_dropout(max((score.dropout_passes for score in scores), default=0))
