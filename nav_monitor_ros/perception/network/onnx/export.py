"""Export a torch network to ONNX, with every layer among its outputs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.onnx.graph import DESCRIPTION, described
from nav_monitor_ros.perception.network.onnx.untrusted_model import require_onnx
from nav_monitor_ros.perception.network.torch.classifier import Classifier

OPSET = 18


def export_onnx(classifier: Classifier, path: Path, *, passes: int = 0) -> None:
    """Write a network as one ONNX file that ``OnnxGraph`` reads.

    Its outputs are the logits, the input of the last linear layer, the maps of every layer, the
    values that enter layers with weights, and the logits of passes with active dropout;
    ``OnnxGraph.select`` selects the requested ones. The batch
    size is dynamic, or 1 if the network cannot be traced with a dynamic one.

    Args:
        classifier: Network on the CPU; its taps are empty afterwards.
        path: Path of the file.
        passes: Number of passes with active dropout, as for ``sample_dropout``.

    Raises:
        NavMonitorError: The packages for it are missing, or torch cannot export the network.
    """
    require_onnx()
    tensors = {
        **{layer.name: f'layer/{layer.name}' for layer in classifier.layers},
        **{layer.name: f'input/{layer.name}' for layer in classifier.inputs},
    }
    names = list(tensors)
    classifier.sample_dropout(passes)
    classifier.tap(names)
    try:
        example = torch.rand(2, *classifier.input_shape)
        with torch.no_grad():
            found = classifier.tensors(example, names)  # also draws the masks
        roles = [role for role in ('logits', 'entering', 'samples') if found[role] is not None]
        module = _Outputs(classifier, roles, names)
        outputs = [*roles, *tensors.values()]
        model = _exported(module, example, outputs)
    finally:
        classifier.tap(())
    logits = found['logits']
    assert logits is not None
    _describe(model, described(
        classifier.layers, classifier.inputs, tensors,
        logits='logits',
        entering='entering' if 'entering' in roles else None,
        samples='samples' if 'samples' in roles else None,
        passes=passes, outputs=logits.shape[1],
    ))
    try:
        path.write_bytes(model.SerializeToString())
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror}') from error


class _Outputs(nn.Module):
    """The network with all of its outputs, in the order of their names."""

    def __init__(
        self, classifier: Classifier, roles: Sequence[str], layers: Sequence[str]
    ) -> None:
        super().__init__()
        self.network = classifier.network
        self._classifier = [classifier]  # in a list, so that it is not a submodule
        self._roles, self._layers = roles, layers

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = self._classifier[0].tensors(images, self._layers)
        return tuple(found[name] for name in (*self._roles, *self._layers))


def _exported(module: nn.Module, example: torch.Tensor, outputs: list[str]) -> Any:
    """Return the ONNX model, with a dynamic batch size if possible.

    Raises:
        NavMonitorError: torch cannot export it, not even for one image.
    """
    try:
        with _quiet():
            return _trace(module, example, outputs, dynamic=True)
    except NavMonitorError:
        raise
    except Exception as first:  # torch's tracer may raise anything
        try:
            with _quiet():
                return _trace(module, example[:1], outputs, dynamic=False)
        except Exception as error:
            reason = one_line(first or error, 300)
            raise NavMonitorError(
                f'torch cannot export this network: {reason}; run it with the backend torch'
            ) from error


def _trace(module: nn.Module, example: torch.Tensor, outputs: list[str], *, dynamic: bool) -> Any:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise NavMonitorError(
            f'exporting a network needs the package onnxscript ({error}); pip install onnxscript, '
            'or nav_monitor_ros[backends]'
        ) from None
    program = torch.onnx.export(
        module.eval(), (example,), input_names=['images'], output_names=outputs,
        opset_version=OPSET, dynamo=True, verbose=False, optimize=True,
        dynamic_shapes=({0: torch.export.Dim('batch')},) if dynamic else None,
    )
    assert program is not None
    return program.model_proto


def _describe(model: Any, text: str) -> None:
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = DESCRIPTION, text
    for node in model.graph.node:
        # Paths of the source code on this machine are large and useless.
        del node.metadata_props[:]
        node.doc_string = ''
    for info in model.graph.value_info:
        del info.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of torch's exporter that are meant for its developers."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
