"""The backends that run a network: torch, or ONNX Runtime or OpenVINO for its ONNX form."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line

AUTO = 'auto'
TORCH = 'torch'
ONNXRUNTIME = 'onnxruntime'
OPENVINO = 'openvino'
BACKENDS = (TORCH, ONNXRUNTIME, OPENVINO)
F32 = 'f32'
BF16 = 'bf16'
TF32 = 'tf32'  # TensorFloat-32: 10-bit mantissas, on GPUs


@dataclass(frozen=True)
class Engine:
    """A backend at one precision. Its results may differ from those of torch."""

    backend: str
    precision: str = F32

    def __str__(self) -> str:
        """Return its name in bundles: ``openvino_bf16``."""
        plain = self == Engine(TORCH)
        return self.backend if plain else f'{self.backend}_{self.precision}'


# Fastest first, as measured by benchmarks/backends.py (docs/backends.md). TensorFloat-32 is for
# GPUs, where only torch runs the network.
ENGINES = (
    Engine(TORCH, TF32), Engine(OPENVINO, BF16), Engine(OPENVINO), Engine(ONNXRUNTIME),
    Engine(TORCH),
)


class Runner(Protocol):
    """A compiled graph."""

    def __call__(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        """Return the graph's outputs for images, float32 (N, channels, height, width)."""
        ...


def check_backend(name: str) -> None:
    """Check a backend's name.

    Raises:
        NavMonitorError: The backend does not exist.
    """
    if name not in {AUTO, *BACKENDS}:
        raise NavMonitorError(f"backend '{name}' is not {', '.join((AUTO, *BACKENDS))}")


def installed(backend: str) -> bool:
    """Return whether a backend's packages are installed, without importing them."""
    needed = ('torch',) if backend == TORCH else ('onnx', backend)
    return all(importlib.util.find_spec(name) is not None for name in needed)


def usable_here(engine: Engine) -> bool:
    """Return whether this machine can run an engine.

    Raises:
        NavMonitorError: The backend's package is broken.
    """
    if not installed(engine.backend):
        return False
    if engine.precision == F32:
        return True
    if engine.precision == TF32:
        import torch

        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    return BF16.upper() in _openvino().Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')


def compiled(engine: Engine, model: bytes, threads: int) -> Runner:
    """Compile a graph.

    Args:
        engine: ``onnxruntime`` or ``openvino``, at a precision.
        model: A serialised ONNX model.
        threads: Number of threads on the CPU; 0 for the backend's default.

    Raises:
        NavMonitorError: The backend is not installed, or cannot run the graph.
    """
    try:
        if engine.backend == ONNXRUNTIME:
            return _OnnxRuntime(model, threads)
        return _OpenVino(engine.precision, model, threads)
    except NavMonitorError:
        raise
    except Exception as error:  # each backend has its own exception classes
        raise NavMonitorError(
            f'{engine.backend} cannot run this network: {_line(error)}; choose another backend'
        ) from error


class _OnnxRuntime:
    """A session of ONNX Runtime on the CPU."""

    def __init__(self, model: bytes, threads: int) -> None:
        """Compile."""
        runtime = _imported('onnxruntime')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only, without notes on optimisations
        # Threads that spin while waiting for the next image take cores from other processes.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self._session = runtime.InferenceSession(
            model, options, providers=['CPUExecutionProvider']
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        """Run the graph once."""
        return self._session.run(None, {self._input: batch})


class _OpenVino:
    """A graph compiled by OpenVINO for the CPU."""

    def __init__(self, precision: str, model: bytes, threads: int) -> None:
        """Compile."""
        openvino = _openvino()
        core = openvino.Core()
        options = {
            # Otherwise bfloat16 is used if the processor supports it, and results are not
            # reproducible.
            'INFERENCE_PRECISION_HINT': precision,
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': '1',
            # Otherwise two nodes on one machine would be pinned to the same cores.
            'ENABLE_CPU_PINNING': False,
        }
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        self._request = core.compile_model(
            core.read_model(model), 'CPU', options
        ).create_infer_request()
        self._outputs = list(self._request.model_outputs)

    def __call__(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        """Run the graph once."""
        found = self._request.infer([batch], share_inputs=True)
        return [found[output] for output in self._outputs]


def _openvino() -> Any:
    return _imported('openvino')


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a package built for another numpy may raise anything
        raise NavMonitorError(
            f"the backend '{name}' cannot be loaded: {_line(error)}; pip install {name}, or "
            'nav_monitor_ros[backends], or choose another backend'
        ) from error


def _line(what: object) -> str:
    return one_line(what, 300)
