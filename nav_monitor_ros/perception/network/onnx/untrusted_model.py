"""Read, validate and normalise ONNX files from untrusted sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.model_files import require_model_file, unreadable

LARGEST_FILE = 1 << 30  # bytes, including external data
DOMAINS = {'', 'ai.onnx'}  # domain of the operators that every runtime has
_LOOPS = {'Loop', 'Scan'}
_WITHIN = (
    'export it with its weights inside (torch.onnx.export(..., external_data=False); '
    'onnx.save(onnx.load(FILE), OTHER) puts them there)'
)


def require_onnx() -> None:
    """Check that ONNX files can be read.

    Raises:
        NavMonitorError: The package ``onnx`` is missing.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise NavMonitorError(
            f'networks in ONNX form need the package onnx ({error}); pip install onnx, or '
            'nav_monitor_ros[backends]'
        ) from None


def read_model(path: Path, *, beside: bool = False) -> Any:
    """Read a file.

    Args:
        path: Path of the file.
        beside: Also read weights stored in other files of its folder; otherwise only the file is
            opened.

    Returns:
        An ``onnx.ModelProto`` with all of its data, with a dynamic batch size if the file does not
        fix it.

    Raises:
        NavMonitorError: It is missing, too large, not an ONNX model, lacks its data, has loops, or
            uses custom operators.
    """
    require_onnx()
    import onnx

    require_model_file(path, 'network')
    content = _content(path, LARGEST_FILE, 'network')
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:  # protobuf's own class, which depends on the implementation in use
        raise NavMonitorError(
            f'network {path} is not an ONNX file, or damaged; copy or download it again'
        ) from None
    _bring_data(model, path, LARGEST_FILE - len(content), beside)
    _leave_batch_open(model)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker may raise anything
        raise NavMonitorError(
            f'network {path} is not a valid ONNX model: {one_line(error)}'
        ) from None
    if any(node.op_type in _LOOPS for node in every_node(model.graph)):
        raise NavMonitorError(
            f'network {path} has loops, which may never end; export it '
            'without them'
        )
    foreign = {o.domain for o in model.opset_import} - DOMAINS
    used = {node.domain for node in every_node(model.graph)} & foreign
    if used or model.functions:
        raise NavMonitorError(
            f'network {path} uses operators that are not of ONNX itself '
            f'({", ".join(sorted(used)) or "functions"}); export it without them'
        )
    return model


def every_node(graph: Any) -> Iterator[Any]:
    """Yield all nodes of a graph, including those of its branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from every_node(inner)


def _content(path: Path, most: int, what: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise NavMonitorError(
                f'{path} has {size} bytes; the largest network that is read has {LARGEST_FILE}'
            )
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, what, error) from None


def _bring_data(model: Any, path: Path, most: int, beside: bool) -> None:
    """Load tensors whose values are in other files of the folder into the model.

    Raises:
        NavMonitorError: There are such tensors, and their files may not or cannot be read.
    """
    from onnx import TensorProto
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    files: dict[str, bytes] = {}
    for tensor in _get_all_tensors(model):
        if not uses_external_data(tensor):
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        name = told.get('location', '')
        if not beside:
            raise NavMonitorError(
                f'network {path} keeps its weights in another file ({one_line(name)}); {_WITHIN}'
            )
        if name not in files:
            files[name] = _beside(path, name, most)
            most -= len(files[name])
        content = files[name]
        try:
            start = int(told.get('offset', 0))
            end = start + int(told['length']) if 'length' in told else len(content)
        except ValueError:
            start, end = -1, -1
        if not 0 <= start <= end <= len(content):
            raise NavMonitorError(
                f'network {path}: {path.parent / name} is too short for its weights; copy it again'
            )
        tensor.raw_data = content[start:end]
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT


def _beside(path: Path, name: str, most: int) -> bytes:
    """Return a file of a network's folder."""
    inside = path.parent.resolve()
    file = path.parent / name
    if not name or not name.isprintable() or not file.resolve().is_relative_to(inside):
        raise NavMonitorError(
            f'network {path} keeps its weights in another file, outside its folder '
            f'({one_line(name)}); {_WITHIN}'
        )
    if not file.is_file():
        raise NavMonitorError(
            f'network {path} keeps its weights in {file}, which does not exist; copy both files, '
            'or '
            f'{_WITHIN}'
        )
    require_model_file(file, 'weights')
    return _content(file, most, 'weights')


def _leave_batch_open(model: Any) -> None:
    """Remove lengths below 1 from the model's shapes: some exporters write -1 for any number.

    A batch axis without a length is dynamic.
    """
    for info in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for place, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.HasField('dim_value') and dim.dim_value < 1:
                dim.ClearField('dim_value')
                if place == 0:
                    dim.dim_param = 'images'
