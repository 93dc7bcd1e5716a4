"""Recording of class tuning during training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save
from torch import nn

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import write_file
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.tuning.recorder import TuningOptions, TuningRecorder
from nav_monitor_ros.tuning.recording_files import INDEX, TuningRecording, require_unused

_WEIGHTS = 'weights'  # folder within the recording
IMAGES = 3000  # largest number of training images, evenly chosen


class RecordedTraining:
    """Records the class tuning of a network during training, and saves its weights."""

    def __init__(
        self,
        folder: Path,
        network: str,
        preprocess: Preprocess,
        class_names: Sequence[str],
        options: TuningOptions,
        *,
        background: int | None = None,
        replace: bool = False,
        threads: int = 1,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        """Prepare a recording; its files are created with the first checkpoint.

        Args:
            folder: Folder of the recording; a recording of the same training is continued.
            network: Name of the network, for display.
            preprocess: Preprocessing of the network's input.
            class_names: Class names of the network.
            options: Options of the recording.
            background: Index of the output for images of none of the classes.
            replace: Start over if the folder holds a recording.
            threads: Number of threads of torch on the CPU.
            progress: Called with the stage, the number of images done and the total.

        Raises:
            NavMonitorError: The folder holds other files than a recording.
        """
        if not (folder / INDEX).exists():
            require_unused(folder)
        self._folder = folder
        self._replace = replace
        self._title = network
        self._preprocess = preprocess
        self._class_names = class_names
        self._options = options
        self._background = background
        self._threads = threads
        self._progress = progress
        self._recorder: TuningRecorder | None = None

    def look(self, name: str, network: nn.Module, data: ImageSource) -> None:
        """Record a checkpoint.

        Args:
            name: Name of the checkpoint.
            network: Network in its current state; it is not modified.
            data: The training images, the same ones each time.

        Raises:
            NavMonitorError: A file cannot be written.
        """
        now = copy.deepcopy(network)
        content = save({key: value.contiguous() for key, value in now.state_dict().items()})
        classifier = Classifier(
            now, self._preprocess, background=self._background, threads=self._threads
        )
        if self._recorder is None:
            if self._replace and (self._folder / INDEX).exists():
                for checkpoint in TuningRecording.open(self._folder).checkpoints:
                    # Paths name checkpoints that `tuning record` was given; those files stay.
                    if Path(checkpoint).name == checkpoint:
                        self._weights(checkpoint).unlink(missing_ok=True)
            self._recorder = TuningRecorder(
                self._folder, classifier, _some(data), self._class_names, self._options,
                network=self._title, replace=self._replace,
            )
        self._require_same_training(name, classifier)
        write_file(self._weights(name), content)
        self._recorder.record(name, classifier, self._progress)

    def _weights(self, checkpoint: str) -> Path:
        return self._folder / _WEIGHTS / f'{checkpoint.replace(" ", "_")}.safetensors'

    def _require_same_training(self, name: str, classifier: Classifier) -> None:
        """Check that a recorded checkpoint had these weights.

        Raises:
            NavMonitorError: It had other weights.
        """
        assert self._recorder is not None
        recording = self._recorder.recording
        fingerprint = recording.fingerprints.get(name)
        if name in recording.checkpoints and fingerprint != classifier.fingerprint():
            raise NavMonitorError(
                f"{self._folder} holds a recording of another training: its '{name}' has other "
                'weights; name another folder, or replace it with --force'
            )


def _some(data: ImageSource) -> ImageSource:
    if len(data) <= IMAGES:
        return data
    return data.subset(np.unique(np.linspace(0, len(data) - 1, IMAGES).round().astype(np.int64)))
