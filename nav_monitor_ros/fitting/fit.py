"""Fit a monitor to a network: images in, a bundle out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.data.batches import BATCH, Progress
from nav_monitor_ros.data.class_matching import names_from, require_known_classes
from nav_monitor_ros.data.image_source import ImageSource, fingerprint_of
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.calibration_pass import calibrate_on_images, check_calibration_source
from nav_monitor_ros.fitting.fit_checkpoint import FitCheckpoint
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.image_checks import warn_of_foreign_images
from nav_monitor_ros.fitting.partial_fit import PartialFit
from nav_monitor_ros.fitting.provenance import today, versions
from nav_monitor_ros.fitting.score_selection import (
    configure_for_supported_scores,
    empty_scores,
    require_fusion_members,
)
from nav_monitor_ros.fitting.training_pass import (
    RANGE_SAMPLE,
    SAMPLE,
    fit_partial,
    layer_ranges,
)
from nav_monitor_ros.perception.network.class_names import require_names
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import NetworkSpec

MOST_NEURONS = 65_536  # the images that some scores keep take 1 GB then
PROBES = 16  # images that identify the data of a checkpoint


class RemoteFit(Protocol):
    """Fits scores to training images on other machines."""

    def __call__(
        self, partial: PartialFit, class_names: Sequence[str], sample: int, count: int, seed: int,
        progress: Progress,
    ) -> None:
        """Fit prepared scores to all images besides the sample.

        Args:
            partial: State after the sample.
            class_names: Class names of the network.
            sample: Number of images in the sample.
            count: Number of images besides it.
            seed: Random seed for the sample.
            progress: Called with the stage, the number of images done and the total.
        """


def fit(
    classifier: RunningNetwork,
    network: NetworkSpec,
    data: ImageSource,
    calibration: ImageSource,
    options: FitOptions,
    *,
    workers: int | None = None,
    checkpoint: FitCheckpoint | None = None,
    remote_fit: RemoteFit | None = None,
    progress: Progress = lambda what, done, total: None,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Fit the scores to the training images and calibrate them on held-out ones.

    Every image is read once and goes through the network once, except a few dozen training images
    on which the network is tested before, and 400 that are compared with 200 calibration images.
    Apart from the training images' indices, labels and eight bytes of their checksums, memory use
    does not grow with their number.

    Args:
        classifier: The network to monitor, with its weights and preprocessing.
        network: Specification from which the network can be rebuilt.
        data: Training images; without labels the network's own predictions are used.
        calibration: In-distribution images to which neither the network nor the scores were fitted;
            those that are also in ``data``, compared by pixel values, are left out, and duplicates
            count once.
        options: Scores, fusion and budget.
        workers: Threads that read and decode images; None for one fewer than there are cores.
        checkpoint: Checkpoint for the state; an interrupted fit resumes from it and gives the same
            bundle bit for bit.
        remote_fit: Fits the scores to the training images besides the sample on other machines.
        progress: Called with the stage, the number of images done and the total.
        provenance: Additional provenance to store in the bundle.

    Returns:
        The bundle, not yet on disk.

    Raises:
        NavMonitorError: Labels do not fit the network, or there is too little data for the scores
            or the budget.
    """
    exif = classifier.preprocess.exif
    data, calibration = data.oriented(exif), calibration.oriented(exif)
    class_names = _class_names(classifier, data, options)
    _require_width(classifier)
    require_names([options.name], 'the name of the bundle', 'choose another one (--name)')
    require_names(class_names, 'the name of a class', 'rename it')
    labels = data.numbered_for(class_names, classifier.background).labels
    require_known_classes(calibration, class_names)
    scores = empty_scores(classifier, options)
    require_fusion_members(scores, options, {})
    check_calibration_source(calibration, scores, options)
    rng = np.random.default_rng(options.seed)
    invalid = InvalidImages(skip=options.skip_invalid)
    ranges = layer_ranges(
        classifier, data.subset(rng.permutation(len(data))[:RANGE_SAMPLE]), options.skip_invalid
    )
    required = options.named
    left_out = configure_for_supported_scores(classifier, scores, required=required)
    require_fusion_members(scores, options, left_out)
    if checkpoint is not None:
        _identify(checkpoint, classifier, network, data, labels, class_names, calibration, options)
    partial = PartialFit(scores)
    more = fit_partial(
        classifier, data, labels, partial, required=required, seed=options.seed, workers=workers,
        checkpoint=checkpoint, progress=progress, invalid=invalid,
        prepared=lambda more: require_fusion_members(scores, options, {**left_out, **more}),
        spread=None if remote_fit is None else lambda sample, count: remote_fit(
            partial, class_names, sample, count, options.seed, progress
        ),
    )
    for score in scores.values():
        score.finish()
    training = partial.training_images()
    calibrated = calibrate_on_images(
        classifier, scores, calibration, training, options, class_names=class_names,
        workers=workers, progress=progress, invalid=invalid,
    )
    warn_of_foreign_images(
        classifier, data, calibration, seed=options.seed, workers=workers, progress=progress)
    accuracy = calibrated.accuracy
    for name in calibrated.left_out:
        del scores[name]
    images_left_out = partial.left_out + calibrated.invalid
    invalid.report('left out, as they give NaN or infinity:')
    return Bundle(
        name=options.name,
        network=network,
        preprocess=classifier.preprocess,
        layer=classifier.layer,
        class_names=class_names,
        scores=scores,
        calibration=calibrated.calibration,
        calibration_images=calibrated.images,
        training_images=training,
        layer_ranges=ranges,
        background=classifier.background,
        reference=classifier.engine,
        provenance={
            'date': today(),
            'data': {
                'source': source_label(data.name), 'images': partial.images,
                'sha256': fingerprint_of(partial.fingerprint),
            },
            'labels': 'network predictions' if labels is None else 'data',
            'correctly_classified': partial.correct,
            'calibration': {
                **calibrated.described,
                **({} if accuracy is None else {
                    'correctly_classified': accuracy.correct, 'labelled': accuracy.images}),
            },
            **({'images_left_out': images_left_out} if images_left_out else {}),
            **({'calibration_images_shared_with_data': calibrated.shared}
               if calibrated.shared else {}),
            **({'calibration_images_copied': calibrated.copies} if calibrated.copies else {}),
            'left_out': {**left_out, **more, **calibrated.left_out},
            **({'degenerate': dict(calibrated.degenerate)} if calibrated.degenerate else {}),
            'versions': versions(),
            **(provenance or {}),
        },
    )


def _require_width(classifier: RunningNetwork) -> None:
    """Check the number of monitored neurons, before images are read.

    Raises:
        NavMonitorError: There are too many for the monitor's memory.
    """
    if classifier.width > MOST_NEURONS:
        raise NavMonitorError(
            f'the monitored layer has {classifier.width} neurons, and at most {MOST_NEURONS} are '
            'supported, as where maps are flattened without pooling; monitor the layer before '
            '(--layer), whose maps are averaged over positions'
        )


def _identify(
    checkpoint: FitCheckpoint,
    classifier: RunningNetwork,
    network: NetworkSpec,
    data: ImageSource,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    calibration: ImageSource,
    options: FitOptions,
) -> None:
    """Identify the fit for a checkpoint, without reading all images."""
    checkpoint.identify(
        data=[
            *_identity(data),
            None if labels is None else hashlib.sha256(labels.tobytes()).hexdigest(),
            list(class_names),
        ],
        calibration=_identity(calibration),
        network=[
            network.spec, dict(network.arguments), classifier.layer, classifier.background,
            classifier.preprocess.to_dict(), classifier.fingerprint(),
            str(classifier.engine), str(classifier.device).partition(':')[0],
        ],
        options=repr(options),
        versions=[versions(), BATCH, SAMPLE],
    )


def _identity(source: ImageSource) -> list[object]:
    """Return the identity of a source: its name, its images' indices and some checksums."""
    probes = np.linspace(0, len(source) - 1, PROBES).astype(int)
    return [
        source.name, len(source), [source.digest(int(place)).hex() for place in probes],
        hashlib.sha256(source.places.tobytes()).hexdigest(),
    ]


def _class_names(
    classifier: RunningNetwork, data: ImageSource, options: FitOptions
) -> tuple[str, ...]:
    names = options.class_names
    if names is None:
        names = names_from(data, classifier.classes)
    if names is None:
        names = tuple(f'class_{index}' for index in range(classifier.classes))
    if len(names) != classifier.classes:
        raise NavMonitorError(
            f'{len(names)} class names are given, but the network has {classifier.classes} '
            'classes; give one name for each output, in their order'
        )
    return tuple(names)
