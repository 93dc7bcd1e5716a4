"""Load a network that the user specifies: code with weights, or an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import (
    ENGINES,
    F32,
    ONNXRUNTIME,
    OPENVINO,
    Engine,
    installed,
)
from nav_monitor_ros.perception.network.layers import PENULTIMATE, LayerId
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import ONNX, NetworkSpec, load_weights
from nav_monitor_ros.perception.preprocess import Preprocess

ANY_LAYER = ''  # the head's input, or the last layer if there is no head


def start_network(
    spec: NetworkSpec,
    weights: Path,
    preprocess: Preprocess,
    *,
    layer: LayerId = PENULTIMATE,
    background: int | None = None,
    device: str = 'auto',
    threads: int = 1,
    trusted_packages: Sequence[str] | None = None,
) -> RunningNetwork:
    """Return a network ready to run.

    Args:
        spec: Specification of the network; ``onnx`` for an ONNX file.
        weights: File of its weights, or the ONNX file.
        preprocess: Preprocessing of the network's input.
        layer: The monitored layer; ``ANY_LAYER`` if nothing is monitored.
        background: Index of the output for images of none of the classes.
        device: ``auto``, ``cpu`` or ``cuda:N``; ONNX files run on the CPU.
        threads: Number of threads on the CPU; 0 for the backend's default.
        trusted_packages: Packages whose network code may be imported; by default the spec's own,
            since typing a package's name on the command line means trusting it.

    Raises:
        NavMonitorError: The network cannot be built or run.
    """
    if spec.spec == ONNX:
        return _onnx(spec, weights, preprocess, layer, background, threads)
    # Imported here since torch takes seconds to load and ONNX files do not need it.
    from nav_monitor_ros.perception.network.torch.classifier import Classifier
    from nav_monitor_ros.perception.network.torch.device import select_device
    from nav_monitor_ros.perception.network.torch.structure import probe_structure

    network = spec.build([spec.package] if trusted_packages is None else trusted_packages)
    shape = (len(preprocess.mean), preprocess.height, preprocess.width)
    load_weights(network, weights, shape)
    if layer == ANY_LAYER:
        layer = PENULTIMATE if probe_structure(network.eval(), shape).head is not None else '-1'
    return Classifier(
        network, preprocess, layer=layer, background=background, device=select_device(device),
        threads=threads,
    )


def onnx_engine() -> Engine:
    """Return the engine for a network in an ONNX file.

    ONNX Runtime is the reference runtime of the format, with which other engines are compared.

    Raises:
        NavMonitorError: No suitable package is installed.
    """
    for backend in (ONNXRUNTIME, OPENVINO):
        if installed(backend):
            return next(e for e in ENGINES if e == Engine(backend, F32))
    raise NavMonitorError(
        'a network in ONNX form needs onnx with onnxruntime or openvino; pip install '
        'nav_monitor_ros[backends]'
    )


def _onnx(
    spec: NetworkSpec, path: Path, preprocess: Preprocess, layer: LayerId, background: int | None,
    threads: int,
) -> RunningNetwork:
    engine = onnx_engine()
    graph = OnnxGraph.read(path, output=spec.output, beside=True)
    if layer == ANY_LAYER:
        layer = '-1' if graph.entering is None else PENULTIMATE
    return OnnxClassifier(
        graph, preprocess, engine=engine, layer=layer, background=background, threads=threads
    )
