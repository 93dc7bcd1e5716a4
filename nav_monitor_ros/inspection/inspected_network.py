"""A network under inspection: that of a bundle, or any that ``fit`` accepts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.class_matching import names_from
from nav_monitor_ros.data.image_folders import read_file
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.source_spec import exists, home, source_label
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.exif_orientation import IGNORE
from nav_monitor_ros.perception.network.layers import (
    PENULTIMATE,
    Layer,
    find_layer,
    last_spatial,
)
from nav_monitor_ros.perception.network.loading import ANY_LAYER, start_network
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.views.activation_maps import image_scale

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Viewed:
    """A network in use, with its metadata."""

    name: str
    classifier: RunningNetwork
    class_names: tuple[str, ...]
    bundle: Bundle | None  # None if no monitor was fitted

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocessing of the network's input."""
        return self.classifier.preprocess

    @property
    def monitored(self) -> Layer:
        """Return the monitored features as a layer without spatial extent, number 0."""
        classifier = self.classifier
        return Layer(0, classifier.layer, 'monitored features', (classifier.width,))

    def layer(self, wanted: str = '') -> Layer:
        """Return the layer with this name or number.

        Args:
            wanted: ``penultimate`` for the monitored features; empty for the default of
                ``last_spatial``.

        Raises:
            NavMonitorError: The layer does not exist.
        """
        layers = self.classifier.layers
        if wanted == PENULTIMATE:
            return self.monitored
        if wanted:
            return find_layer(layers, wanted, also=(PENULTIMATE,))
        return last_spatial(layers)

    def maps(self, image: np.ndarray, layer: Layer) -> np.ndarray:
        """Return a layer's values for one image as they lie in it, see ``Layer.as_maps``."""
        return self.maps_in(self.look(image, layer), layer)

    def maps_in(self, seen: Activations, layer: Layer) -> np.ndarray:
        """Return a layer's values among the activations that ``look`` returned for it."""
        values = seen.maps[layer.name] if layer.number else seen.features
        return layer.as_maps(values[0])

    def look(self, image: np.ndarray, layer: Layer) -> Activations:
        """Run the network on one image and return its activations with the values of a layer.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W), of any size.
            layer: Layer whose maps are kept.
        """
        self.classifier.tap([layer.name] if layer.number else ())
        try:
            return self.classifier(self.preprocess.apply(image)[None])
        finally:
            self.classifier.tap(())

    def seen(self, image: np.ndarray) -> np.ndarray:
        """Return an image as the network's input, uint8 (height, width, 3) RGB."""
        pixels = self.preprocess.resized(image)
        if self.preprocess.color == 'gray':
            return pixels.repeat(3, axis=2)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.preprocess.color == 'bgr' else pixels

    def scale(
        self, layer: Layer, maps: np.ndarray, wanted: str = 'training'
    ) -> tuple[tuple[float, float], bool]:
        """Return the range of a layer's colour scale, and whether it is that of training.

        Args:
            layer: The layer.
            maps: Its values for the displayed image.
            wanted: ``training``, if the bundle has that range, or ``image``.
        """
        # Bundles store the ranges of layers, but not that of the monitored features.
        if wanted == 'training' and self.bundle is not None and layer.number:
            return self.bundle.layer_ranges[layer.name], True
        return image_scale(maps), False


def view_bundle(
    name: str, *, trusted_packages: Sequence[str] = (), device: str = 'auto', threads: int = 1
) -> Viewed:
    """Open the network of a bundle.

    Args:
        name: A folder, or the name of a shipped bundle.
        trusted_packages: Packages whose network code may be imported.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        threads: Number of threads of torch on the CPU.

    Raises:
        NavMonitorError: The bundle cannot be used.
    """
    bundle = load_bundle(name)
    classifier = load_network(
        bundle, device=device, threads=threads, trusted_packages=trusted_packages, scores={}
    )
    return Viewed(bundle.name, classifier, bundle.class_names, bundle)


def view_network(
    spec: NetworkSpec,
    weights: Path,
    preprocess: Preprocess,
    *,
    class_names: Sequence[str] | None = None,
    source: ImageSource | None = None,
    device: str = 'auto',
    threads: int = 1,
    background: int | None = None,
    trusted_packages: Sequence[str] | None = None,
) -> Viewed:
    """Open a network without a fitted monitor.

    Args:
        spec: Specification of the network.
        weights: File of its weights.
        preprocess: Preprocessing of the network's input.
        class_names: In the order of its outputs; by default those of the source, or numbers.
        source: Labelled images for the inspection.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        threads: Number of threads of torch on the CPU.
        background: Index of the output for images of none of the classes.
        trusted_packages: Packages whose network code may be imported; by default the spec's own,
            since typing a package's name means trusting it.

    Raises:
        NavMonitorError: The network cannot be built or run, or has other classes.
    """
    classifier = start_network(
        spec, weights, preprocess, layer=ANY_LAYER, background=background, device=device,
        threads=threads, trusted_packages=trusted_packages,
    )
    from_source = None if source is None else names_from(source, classifier.classes)
    names = tuple(class_names or from_source or map(str, range(classifier.classes)))
    if len(names) != classifier.classes:
        raise NavMonitorError(
            f'{len(names)} class names for a network with {classifier.classes} classes'
        )
    return Viewed(spec.spec, classifier, names, None)


def read_image(image: str, index: int = 0, *, exif: str = IGNORE) -> np.ndarray:
    """Return one image, uint8 (H, W, 3) RGB or (H, W).

    Args:
        image: A file, or a source of images.
        index: 0-based index of the image in a source.
        exif: ``Preprocess.exif`` of the network.

    Raises:
        NavMonitorError: The image does not exist.
    """
    path = home(image)
    if _is_one_image(path):
        if index:
            raise NavMonitorError(f'{path} is a single image; --index is for sources of several')
        return read_file(path, exif)
    source = open_source(image).oriented(exif)
    for note in source.notes:
        _log.warning('%s', note)
    if not 0 <= index < len(source):
        raise NavMonitorError(f"source '{image}' has images 0 to {len(source) - 1}, not {index}")
    return source.image(index)


def image_title(image: str, index: int = 0) -> str:
    """Return the name of the image that ``read_image`` returns, without folders."""
    if _is_one_image(home(image)):
        return source_label(image)
    return f'image {index} of {source_label(image)}'


def _is_one_image(path: Path) -> bool:
    arrays_or_bag = path.suffix.lower() in ('.npz', '.db3', '.mcap', '.zstd')
    return not arrays_or_bag and exists(path) and path.is_file()
