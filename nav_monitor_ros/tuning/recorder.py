"""Record class tuning over training: the responses to each class, checkpoint by checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.data.source_spec import SELECTIONS, SourceSpec
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.layers import PENULTIMATE, early_layers, find_layer
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.tuning.recording_files import RecordingOf, TuningRecording, thumbnail
from nav_monitor_ros.tuning.statistics import BINS, NO_IMAGE, CheckpointTuning, empty_checkpoint

OUTPUT = 'output'  # the logits
COMPONENTS = 256
SHOWN = 8  # top images per component with a thumbnail
_BATCH = 64
_LARGEST = 2 << 30  # bytes, largest counts of a checkpoint


@dataclass(frozen=True)
class TuningOptions:
    """Options for recording a checkpoint."""

    # Names or numbers; if empty, the early stages, penultimate and output.
    layers: tuple[str, ...] = ()
    components: int = COMPONENTS  # largest number per layer, evenly chosen
    response: str = 'max'  # response of a channel over its positions: max or mean


class TuningRecorder:
    """Adds checkpoints of one network to a recording."""

    def __init__(
        self,
        folder: Path,
        classifier: RunningNetwork,
        source: ImageSource,
        class_names: Sequence[str],
        options: TuningOptions,
        *,
        network: str,
        replace: bool = False,
    ) -> None:
        """Start a recording, or continue an interrupted one.

        Args:
            folder: Folder of the recording.
            classifier: The network, with the weights of any checkpoint.
            source: Images; their labels, if any, are the true classes.
            class_names: Class names of the network.
            options: Options of the recording.
            network: Name of the network, for display.
            replace: Start over if the folder holds a recording.

        Raises:
            NavMonitorError: An option cannot be satisfied, labels are not among the classes, or the
                folder holds another recording.
        """
        source = source.oriented(classifier.preprocess.exif).numbered_for(class_names)
        self._classifier = classifier
        self._source = source
        self._response = options.response
        self._layers = _chosen(classifier, options)
        self._positions = {layer.name: layer.position_axes for layer in classifier.layers}
        sizes = _sizes(classifier, [name for name, _ in self._layers])
        about = RecordingOf(
            network=network,
            class_names=tuple(class_names),
            layers=tuple(
                (name, sizes[name], tuple(components.tolist()))
                for name, components in self._layers
            ),
            response=options.response,
            images=f'{source.name} ({len(source)} images)',
            preprocess=json.dumps(classifier.preprocess.to_dict(), sort_keys=True),
            titles=tuple(_title(classifier, name) for name, _ in self._layers),
        )
        _check_size(about)
        self.recording = TuningRecording.create(folder, about, replace=replace)
        # Of the checkpoints that this recorder has recorded; empty without labels.
        self.accuracies: list[float] = []

    def record(
        self,
        name: str,
        classifier: RunningNetwork | None = None,
        progress: Progress = lambda what, done, total: None,
    ) -> CheckpointTuning | None:
        """Run all images through the network and write the responses as the next checkpoint.

        Args:
            name: Name of the checkpoint; None is returned if the recording has it already, of the
                same weights.
            classifier: The network with this checkpoint's weights; by default the recorder's own.
            progress: Called with the stage, the number of images done and the total.

        Raises:
            NavMonitorError: An image cannot be read, a file cannot be written, or a checkpoint of
                this name has other weights.
        """
        classifier = self._classifier if classifier is None else classifier
        fingerprint = classifier.fingerprint()
        if self.recording.has(name, fingerprint):
            return None
        classes = len(self.recording.about.class_names)
        seen = empty_checkpoint(name, self._layers, classes)
        taps = [layer for layer, _ in self._layers if layer not in (PENULTIMATE, OUTPUT)]
        source, preprocess = self._source, classifier.preprocess
        true = np.full(len(source), -1) if source.labels is None else source.labels
        invalid = InvalidImages(skip=True)
        classifier.tap(taps)
        try:
            for start in range(0, len(source), _BATCH):
                rows = np.arange(start, min(start + _BATCH, len(source)))
                activations = classifier(
                    np.stack([preprocess.apply(source.image(int(row))) for row in rows])
                )
                invalid.valid(source, rows, activations)  # continue: the page shows it
                seen.add(
                    {
                        layer: self._responses(activations, layer)[:, components]
                        for layer, components in self._layers
                    },
                    np.stack([true[rows], activations.predicted]),
                    np.asarray(source.places)[rows],
                )
                progress(f'class tuning, {name}', int(rows[-1]) + 1, len(source))
        finally:
            classifier.tap(())
        invalid.report(f'{name}: the network gives NaN or infinity for')
        self.recording.add(seen, self._new_thumbnails(seen), fingerprint)
        if seen.accuracy is not None:
            self.accuracies.append(seen.accuracy)
        return seen

    def _responses(self, activations: Activations, layer: str) -> np.ndarray:
        """Return the response of each image and component, float32 (N, channels)."""
        if layer == OUTPUT:
            return activations.logits
        if layer == PENULTIMATE:
            return activations.features
        values, positions = activations.maps[layer], self._positions[layer]
        if not positions:
            return values
        return values.max(axis=positions) if self._response == 'max' else values.mean(
            axis=positions)

    def _new_thumbnails(self, seen: CheckpointTuning) -> dict[int, np.ndarray]:
        """Return thumbnails of the top images of components that have none yet."""
        top = [layer.top_images[:, :SHOWN].ravel() for layer in seen.layers]
        wanted = set(np.concatenate(top).tolist()) - {NO_IMAGE} - set(self.recording.thumbnails())
        rows = {int(place): row for row, place in enumerate(self._source.places)}
        return {place: thumbnail(self._source.image(rows[place])) for place in sorted(wanted)}


def merge_recordings(
    folders: Sequence[Path],
    output: Path,
    progress: Progress = lambda what, done, total: None,
) -> TuningRecording:
    """Merge recordings of the same checkpoints over disjoint parts of one source.

    Args:
        folders: At least two recordings.
        output: Folder of the merged recording.
        progress: Called with the stage, the number of images done and the total.

    Raises:
        NavMonitorError: They were not recorded with the same options, share images, or cannot be
            read.
    """
    parts = [TuningRecording.open(folder) for folder in folders]
    for before, after in pairwise(parts):
        if replace(before.about, images='') != replace(after.about, images=''):
            raise NavMonitorError(
                f'{before.folder} and {after.folder} were not recorded with the same options: '
                'network, classes, '
                'layers and response must be the same'
            )
        if _origin(before.about.images) != _origin(after.about.images):
            raise NavMonitorError(
                f'{before.folder} and {after.folder} have different sources '
                f'({before.about.images} and {after.about.images}), whose images have the same '
                'numbers; only parts of one source can be merged'
            )
        if before.fingerprints != after.fingerprints:
            raise NavMonitorError(
                f'{before.folder} and {after.folder} have checkpoints of other weights'
            )
        if before.checkpoints != after.checkpoints:
            raise NavMonitorError(
                f'{before.folder} and {after.folder} have different checkpoints'
            )
    if (output / 'tuning.json').exists():
        raise NavMonitorError(f'{output} already holds a recording; name another folder')
    images = ' + '.join(part.about.images for part in parts)
    merged = TuningRecording.create(output, replace(parts[0].about, images=images))
    known: dict[int, np.ndarray] = {}
    for part in parts:
        known |= part.thumbnails()
    for place in range(len(parts[0].checkpoints)):
        whole = parts[0].checkpoint(place)
        for part in parts[1:]:
            whole.merge(part.checkpoint(place))
        merged.add(whole, known)
        progress('merging', place + 1, len(parts[0].checkpoints))
    return merged


def _origin(images: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return a source's location, and its options except those that only select images.

    The others (``split``, ``transform``, ...) change which image has a number, or its pixels.
    """
    spec = SourceSpec.parse(re.sub(r' \(\d+ images\)$', '', images))
    return spec.location, frozenset(
        (key, value) for key, value in spec.options.items() if key not in SELECTIONS)


def record_checkpoints(
    recorder: TuningRecorder,
    checkpoints: Sequence[tuple[str, Callable[[], RunningNetwork]]],
    progress: Progress = lambda what, done, total: None,
) -> int:
    """Record a list of checkpoints; those already in the recording are skipped.

    Args:
        recorder: Recorder that writes the recording.
        checkpoints: For each, its name and a function that loads the network with its weights.
        progress: Called with the stage, the number of images done and the total.

    Returns:
        The number of recorded checkpoints.

    Raises:
        NavMonitorError: A checkpoint cannot be loaded, a file cannot be written, or a checkpoint of
            the same name has other weights.
    """
    return sum(
        recorder.record(name, load(), progress) is not None for name, load in checkpoints
    )


def _chosen(classifier: RunningNetwork, options: TuningOptions) -> list[tuple[str, np.ndarray]]:
    """Return the recorded layers and their recorded components."""
    if options.components < 1:
        raise NavMonitorError(f'--components {options.components}: must be at least 1')
    own = [PENULTIMATE, OUTPUT] if classifier.layer == PENULTIMATE else [OUTPUT]
    if options.layers:
        names = [
            wanted if wanted in own else find_layer(classifier.layers, wanted, also=own).name
            for wanted in options.layers
        ]
    else:
        names = [*early_layers(classifier.layers), *own]
    names = list(dict.fromkeys(names))
    sizes = _sizes(classifier, names)
    return [(name, _evenly(sizes[name], options.components)) for name in names]


def _title(classifier: RunningNetwork, name: str) -> str:
    """Return the title of a recorded layer, or the name of values that no layer is named after."""
    if name in (PENULTIMATE, OUTPUT):
        return name
    return find_layer(classifier.layers, name).title


def _sizes(classifier: RunningNetwork, names: Sequence[str]) -> dict[str, int]:
    own = {PENULTIMATE: classifier.width, OUTPUT: classifier.classes}
    own |= {layer.name: layer.channels for layer in classifier.layers}
    return {name: own[name] for name in names}


def _evenly(count: int, most: int) -> np.ndarray:
    if count <= most:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, most)).astype(np.int64))


def _check_size(about: RecordingOf) -> None:
    components = sum(len(chosen) for _, _, chosen in about.layers)
    size = 2 * len(about.class_names) * components * BINS * 4
    if size > _LARGEST:
        raise NavMonitorError(
            f'{components} components and {len(about.class_names)} classes need '
            f'{size / (1 << 30):.1f} GiB, more than {_LARGEST >> 30}; lower --components or name '
            'fewer layers with --layer'
        )
