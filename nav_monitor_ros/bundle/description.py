"""Conversion of a bundle to ``bundle.yaml`` and tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import (
    CLASSES,
    DESCRIPTION,
    FITTED,
    has_class_file,
)
from nav_monitor_ros.bundle.calibration_description import (
    describe_calibration,
    part,
    read_calibration,
)
from nav_monitor_ros.bundle.engines import StoredEngines
from nav_monitor_ros.bundle.used_images import CalibrationImages, TrainingImages
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.paths import reachable
from nav_monitor_ros.files.untrusted_yaml import read_yaml
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.perception.network.backends import ENGINES, TORCH, Engine
from nav_monitor_ros.perception.network.class_names import problem_of, read_listed
from nav_monitor_ros.perception.network.logits import OutputName
from nav_monitor_ros.perception.network.model_files import require_model_file
from nav_monitor_ros.perception.network.specification import ONNX, NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.registry import make_score

SCHEMA = 3
WEIGHTED = 4  # schema of a bundle whose fused score has weights, which older versions ignore
HEADS = ('linear', 'relu_linear')  # what lies between the monitored layer and the logits


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return the description of a bundle for ``bundle.yaml``, without its files' checksums."""
    calibration = bundle.calibration
    first = next(iter(bundle.scores.values()))
    return {
        'schema': WEIGHTED if calibration.fusion_weights else SCHEMA,
        'name': bundle.name,
        'network': {
            'spec': bundle.network.spec,
            'arguments': dict(bundle.network.arguments),
            **({} if bundle.network.output is None else {'output': bundle.network.output}),
            'background': bundle.background,
            **({} if bundle.reference.backend == TORCH else {'engine': str(bundle.reference)}),
        },
        'preprocess': bundle.preprocess.to_dict(),
        'class_names': (
            {'file': CLASSES} if has_class_file(bundle.class_names) else list(bundle.class_names)
        ),
        'monitor': {
            'layer': bundle.layer,
            'width': first.width,
            'head': None if first.head is None else HEADS[first.head.rectified],
            'scores': {name: score.settings for name, score in bundle.scores.items()},
            'notes': bundle.notes(),
        },
        'calibration': describe_calibration(calibration),
        'layer_ranges': {
            layer: [float(f'{low:.6g}'), float(f'{high:.6g}')]
            for layer, (low, high) in bundle.layer_ranges.items()
        },
        'provenance': dict(bundle.provenance),
    }


def fitted_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    """Return everything that was fitted, as arrays by name."""
    tensors = {
        f'scores/{name}/{key}': array
        for name, score in bundle.scores.items()
        for key, array in score.tensors().items()
    }
    for name, array in bundle.calibration.tensors().items():
        tensors[f'calibration/{name}'] = array
    for kind, images in (
        ('calibration_images', bundle.calibration_images),
        ('training_images', bundle.training_images),
    ):
        for name, array in ({} if images is None else images.tensors()).items():
            tensors[f'{kind}/{name}'] = array
    head = next(iter(bundle.scores.values())).head
    if head is not None:
        tensors['head/weight'], tensors['head/bias'] = head.weight, head.bias
    return contiguous(tensors)


def contiguous(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays in C order, as safetensors writes them."""
    return {key: np.ascontiguousarray(array) for key, array in tensors.items()}


def read_description(folder: Path) -> dict[str, Any]:
    """Return the contents of ``bundle.yaml``.

    Raises:
        NavMonitorError: It is missing, malformed, or of another schema.
    """
    path = folder / DESCRIPTION
    if not reachable(path).is_file():
        raise NavMonitorError(
            f'{folder} is not a bundle: it has no {DESCRIPTION}; name the folder that `nav_monitor '
            'fit` wrote, or copy it again'
        )
    require_model_file(path, 'file')
    try:
        described = read_yaml(path)
    except NavMonitorError as error:
        raise NavMonitorError(f'{error}; copy or fit it again') from None
    if not isinstance(described, dict):
        raise NavMonitorError(f'{path} is malformed: not a mapping; fit it again')
    if described.get('schema') not in (SCHEMA, WEIGHTED):
        raise NavMonitorError(
            f'{path} has schema {_brief(repr(described.get("schema")))}, but this version reads '
            f'{SCHEMA} and {WEIGHTED}; fit the monitor again or install the version that wrote it'
        )
    return described


def bundle_of(folder: Path, described: Mapping[str, Any]) -> Bundle:
    """Return a bundle from its description and its verified files."""
    try:
        return _assemble(folder, described)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f'lacks {error}' if isinstance(error, KeyError) else error
        raise NavMonitorError(
            f'{folder / DESCRIPTION} is malformed: {_brief(what)}; fit it again'
        ) from None
    except MemoryError:
        raise NavMonitorError(f'there is not enough memory for bundle {folder}') from None
    except NavMonitorError as error:
        raise NavMonitorError(_brief(error, 1000)) from None


def _assemble(folder: Path, described: Mapping[str, Any]) -> Bundle:
    try:
        tensors = load_file(folder / FITTED)
    except (SafetensorError, OSError) as error:
        raise NavMonitorError(f'{folder / FITTED} is unreadable: {one_line(error)}') from None
    _require_numbers(folder, tensors)
    network = described['network']
    monitor = described['monitor']
    class_names = _class_names(folder, described['class_names'])
    _require_printable(
        described['name'], network['spec'], monitor['layer'], *class_names, *monitor['scores']
    )
    # The head's weights belong to the network; the scores store a copy among their own tensors, so
    # that they can be loaded without building the network.
    head = None
    if monitor['head'] is not None:
        if monitor['head'] not in HEADS:
            raise ValueError(f"monitor.head is '{monitor['head']}', not one of {HEADS}")
        head = Head(
            tensors['head/weight'], tensors['head/bias'], rectified=monitor['head'] == HEADS[1]
        )
    width = int(monitor['width'])
    if width < 1 or not class_names:
        raise ValueError('it has no monitored neurons or no classes')
    if head is not None and (
        head.weight.shape != (len(class_names), width) or head.bias.shape != (len(class_names),)
    ):
        raise ValueError(
            'the numbers of classes or neurons of the last layer and the monitor differ'
        )
    scores = {}
    for name, settings in monitor['scores'].items():
        score = make_score(
            name, settings or {}, classes=len(class_names), width=width, head=head
        )
        stored = part(tensors, f'scores/{name}/')
        score.restore(stored)
        if set(stored) != set(score.tensors()):
            raise ValueError(f'settings and stored arrays of {name} contradict each other')
        scores[name] = score
    if not scores:
        raise NavMonitorError(f'bundle {folder} has no scores; fit it again')
    return Bundle(
        name=str(described['name']),
        network=NetworkSpec(
            str(network['spec']), dict(network.get('arguments') or {}), _output(network)
        ),
        background=None if network['background'] is None else int(network['background']),
        preprocess=Preprocess.from_dict(described['preprocess']),
        layer=str(monitor['layer']),
        class_names=class_names,
        scores=scores,
        calibration=read_calibration(
            described['calibration'], part(tensors, 'calibration/'), scores
        ),
        layer_ranges={
            str(layer): (float(low), float(high))
            for layer, (low, high) in described['layer_ranges'].items()
        },
        provenance=dict(described['provenance']),
        folder=folder,
        reference=_reference(network),
        stored=_stored(folder, described, scores),
        calibration_images=CalibrationImages.restored(part(tensors, 'calibration_images/')),
        training_images=TrainingImages.restored(part(tensors, 'training_images/')),
    )


def _class_names(folder: Path, described: object) -> tuple[str, ...]:
    if isinstance(described, dict):
        if described != {'file': CLASSES}:
            raise ValueError(f'class_names is neither a list nor the file {CLASSES}')
        return read_listed(folder / CLASSES)
    if not isinstance(described, list):
        raise TypeError('class_names is not a list')
    return tuple(str(name) for name in described)


def _output(network: Mapping[str, Any]) -> OutputName | None:
    found = network.get('output')
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | str)):
        raise ValueError(
            f'network.output is {_brief(repr(found), 80)}, neither a number nor a name'
        )
    return found


def _reference(network: Mapping[str, Any]) -> Engine:
    name = str(network.get('engine', TORCH))
    found = next((engine for engine in ENGINES if str(engine) == name), None)
    if found is None or (found.backend == TORCH) == (network['spec'] == ONNX):
        raise ValueError(f"network.engine '{_brief(name, 80)}' cannot run this network")
    return found


def _stored(
    folder: Path, described: Mapping[str, Any], scores: Mapping[str, Score]
) -> StoredEngines | None:
    exported = described.get('exported')
    if exported is None:
        return None
    return StoredEngines(folder, dict(exported), dict(described['files']), scores)


def _require_printable(*texts: object) -> None:
    for text in map(str, texts):
        problem = problem_of(text)
        if problem:
            raise ValueError(f'a name {problem}')


def _require_numbers(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.kind == 'f' and not np.isfinite(tensor).all():
            raise NavMonitorError(
                f'{folder / FITTED}: {name} holds values that are not finite; fit it again'
            )


def _brief(what: object, length: int = 300) -> str:
    """Return a string from a file, shortened for a message."""
    text = ' '.join(str(what).split())
    return text if len(text) <= length else f'{text[:length]}...'
