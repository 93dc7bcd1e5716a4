"""Functions that write ONNX files for tests, node by node."""

from __future__ import annotations

import numpy as np
import tiny
import torch
from onnx import TensorProto, helper, numpy_helper

from nav_monitor_ros.perception.network.specification import NetworkSpec

ONNX = NetworkSpec('onnx')


def exported(path):
    """Export the tiny network in the usual way; return the path of the file."""
    torch.onnx.export(
        tiny.network(), (torch.rand(2, 3, tiny.SIDE, tiny.SIDE),), str(path), dynamo=True,
        verbose=False, external_data=False, dynamic_shapes=({0: torch.export.Dim('n')},),
    )
    return path


def made(
    tmp_path, nodes, initializers, *, shape=('n', 3, 12, 12), domain='', result=(None, 4),
    version=13, output=None,
):
    """Write a graph with the input ``images``."""
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('images', TensorProto.FLOAT, shape)],
        [output or helper.make_tensor_value_info('logits', TensorProto.FLOAT, result)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    imports = [helper.make_opsetid('', version)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    path = tmp_path / 'made.onnx'
    path.write_bytes(model.SerializeToString())
    return path


RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(5, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
KERNELS = RNG.normal(size=(5, 3, 3, 3)).astype(np.float32)
BODY = [
    helper.make_node('Conv', ['images', 'kernels'], ['maps'], 'conv', pads=[1, 1, 1, 1]),
    helper.make_node('Relu', ['maps'], ['positive'], 'relu'),
    helper.make_node('ReduceMean', ['positive'], ['features'], 'pool', axes=[2, 3], keepdims=0),
]
