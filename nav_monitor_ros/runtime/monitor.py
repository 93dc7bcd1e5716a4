"""The monitor as one thing: an image in, an observation out. The node and the replay run it."""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.judge import InvalidActivationsError
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.decoded_image import DecodedImage, ImageError
from nav_monitor_ros.perception.network.backends import AUTO
from nav_monitor_ros.perception.network.layers import Layer, find_layer
from nav_monitor_ros.perception.network.threads import choose_threads, limit_blas_threads

WHITE = 254  # gray levels from which a pixel counts as saturated
SATURATED = 0.98  # share of saturated pixels above which there is nothing left to see


class StaleImageError(NavMonitorError):
    """An image's stamp is too far from the clock."""


@dataclass(frozen=True)
class Prepared:
    """An image as the network takes it."""

    pixels: np.ndarray  # float32 (channels, height, width), normalised
    fingerprint: int  # checksum of what the network sees, equal for equal images


@dataclass(frozen=True)
class Observation:
    """Everything that one pass over one image gave."""

    verdict: Verdict
    activations: Activations
    fingerprint: int  # of the prepared image
    forward_seconds: float = 0.0  # that the network took, for all images seen with this one


class Monitor:
    """A bundle in service. Not thread-safe: one thread looks."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        backend: str = AUTO,
        device: str = 'auto',
        threads: int | None = 1,
        trusted_packages: Sequence[str] = (),
        decisive: str = FUSED,
        also: Sequence[str] = (),
        top: int = 3,
        evidence_level: float = DEFAULT_EVIDENCE_LEVEL,
    ) -> None:
        """Build the network and run it once, so that the first image does not wait.

        From then on numpy multiplies with one thread in this process; see ``limit_blas_threads``.

        Args:
            bundle: Read from a folder.
            backend: As for ``Bundle.classifier``.
            device: Likewise.
            threads: Of the network on the CPU; 0 leaves the backend's choice, None takes what
                measures as faster, one or as many as there are cores.
            trusted_packages: As for ``Bundle.classifier``.
            decisive: As for ``Bundle.judge``.
            also: Likewise.
            top: Likewise.
            evidence_level: Likewise.

        Raises:
            NavMonitorError: The bundle cannot be used; see ``Bundle.classifier`` and
                ``Bundle.judge``.
        """
        limit_blas_threads()
        judge = bundle.judge(
            decisive=decisive, also=also, top=top, evidence_level=evidence_level
        )
        self.classifier = load_network(
            bundle, backend=backend, device=device, threads=1 if threads is None else threads,
            trusted_packages=trusted_packages, scores=judge.scores,
        )
        if threads is None and str(self.classifier.device) == 'cpu':
            choose_threads(self.classifier)
        self.bundle = bundle.calibrated_for(self.classifier.engine)
        self.judge = judge if self.bundle is bundle else self.bundle.judge(
            decisive=decisive, also=also, top=top, evidence_level=evidence_level
        )
        self._pixels = self.new_pixels()
        self.warm_up(1)

    def for_camera(self) -> Monitor:
        """Return a monitor for another camera: the same network and scores, evidence of its own.

        The two must not be used at the same time.
        """
        monitor = copy.copy(self)
        monitor.judge = self.judge.for_camera()
        monitor._pixels = self.new_pixels()
        return monitor

    def new_pixels(self) -> np.ndarray:
        """Return memory for what ``prepare`` makes of an image, to be used again and again."""
        return np.empty(self.classifier.input_shape, np.float32)

    def look(self, image: DecodedImage, *, least_contrast: float = 0.0) -> Observation:
        """Classify an image and judge it.

        Args:
            image: Of any size.
            least_contrast: Standard deviation, in gray levels of 255, below which an image counts
                as blank; 0 looks at every image.

        Raises:
            ImageError: The image is blank or saturated.
            InvalidActivationsError: The network gave values that are not numbers.
        """
        # Written anew for each image: nothing that a pass yields shares its memory.
        prepared = self.prepare(image, least_contrast=least_contrast, out=self._pixels)
        (outcome,) = observe_batch([(self, prepared)])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def observe_images(
        self, images: Sequence[DecodedImage], *, least_contrast: float = 0.0
    ) -> list[Observation]:
        """Classify several images in one forward pass and judge them one after the other.

        The batch may add in another order than a pass over one image does: outputs agree to float
        tolerance, and a bit of a pattern whose neuron is that near to its threshold may differ.

        Args:
            images: Of any sizes, at least one.
            least_contrast: As for ``look``.

        Raises:
            ImageError: One of them is blank or saturated.
            InvalidActivationsError: The network gave values that are not numbers.
        """
        prepared = [self.prepare(image, least_contrast=least_contrast) for image in images]
        found = observe_batch([(self, one) for one in prepared])
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in found if isinstance(outcome, Observation)]

    def warm_up(self, most: int) -> None:
        """Run batches of up to so many images once: backends get ready for each size they meet."""
        # Larger than the network's input, so that what resizes is ready, too: torch takes seconds.
        preprocess = self.bundle.preprocess
        side = 2 * max(preprocess.height, preprocess.width, preprocess.resize_to)
        black = DecodedImage(np.zeros((side, side, 3), np.uint8), 'rgb')
        for count in range(1, most + 1):
            self.observe_images([black] * count)
        self.judge.forget()

    def prepare(
        self, image: DecodedImage, *, least_contrast: float = 0.0, out: np.ndarray | None = None
    ) -> Prepared:
        """Return an image as the network takes it.

        Args:
            image: As for ``look``.
            least_contrast: As for ``look``.
            out: float32 (channels, height, width) that gets the pixels, such as
                ``new_pixels`` gives; by default new memory.

        Raises:
            ImageError: The image is blank or saturated.
        """
        resized = self.bundle.preprocess.resized(image.pixels, image.order)
        if least_contrast:
            _require_contrast(resized, least_contrast)
        return Prepared(
            self.bundle.preprocess.normalised(resized, out), zlib.adler32(resized.data)
        )

    def observe(
        self, prepared: Prepared, activations: Activations, forward_seconds: float = 0.0
    ) -> Observation:
        """Judge one image by what it excited.

        Args:
            prepared: The image.
            activations: Of this image alone.
            forward_seconds: That the network took.

        Raises:
            InvalidActivationsError: The network gave values that are not numbers.
        """
        return Observation(
            self.judge.judge(activations), activations, prepared.fingerprint, forward_seconds
        )

    def spatial_layer(self, wanted: str = '') -> Layer:
        """Return the layer with this name or number; by default the last one with extent.

        Raises:
            NavMonitorError: There is no such layer.
        """
        layers = self.classifier.layers
        if wanted:
            return find_layer(layers, wanted)
        spatial = [layer for layer in layers if len(layer.shape) == 3 and min(layer.shape[1:]) > 1]
        return (spatial or list(layers))[-1]

    def show_layer(self, wanted: str | None) -> Layer | None:
        """Keep the maps of one layer in the next observations, or of none.

        Args:
            wanted: As for ``spatial_layer``; None keeps none.

        Returns:
            The layer whose maps are kept.

        Raises:
            NavMonitorError: There is no such layer.
        """
        if wanted is None:
            self.classifier.tap(())
            return None
        layer = self.spatial_layer(wanted)
        if self.classifier.taps != (layer.name,):
            self.classifier.tap([layer.name])
        return layer


def observe_batch(
    looks: Sequence[tuple[Monitor, Prepared]]
) -> list[Observation | BaseException]:
    """Judge images of several cameras after one forward pass over all of them.

    Args:
        looks: At least one image, each with the monitor that judges it. All of them share one
            network; see ``Monitor.for_camera``.

    Returns:
        For each image what was seen, or why it could not be judged. Where the network fails on
        all of them together, each is shown to it alone, so that one image's failure is its own.
    """
    network = looks[0][0].classifier
    try:
        started = time.perf_counter()
        pixels = [prepared.pixels for _, prepared in looks]
        activations = network(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))
        forward = time.perf_counter() - started
    except BaseException as error:  # a foreign network may even raise SystemExit
        return [error] if len(looks) == 1 else [observe_batch([look])[0] for look in looks]
    found: list[Observation | BaseException] = []
    for row, (monitor, prepared) in enumerate(looks):
        try:
            found.append(monitor.observe(prepared, activations[row:row + 1], forward))
        except BaseException as error:  # some scores run a part of the network, too
            found.append(error)
    return found


def build_monitor(values: Mapping[str, Any]) -> Monitor:
    """Return the monitor that the node's parameters describe; node and replay build theirs by it.

    Args:
        values: Checked values of ``monitor_parameters.PARAMETERS``, by name.

    Raises:
        NavMonitorError: The bundle cannot be used.
    """
    return Monitor(
        load_bundle(values['bundle']),
        backend=values['backend'],
        device=values['device'],
        threads=values['torch_threads'] or None,
        trusted_packages=[name for name in values['trusted_packages'] if name],
        decisive=values['score'],
        also=[name for name in values['extra_scores'] if name],
        top=values['top_k'],
        evidence_level=values['evidence_level'],
    )


class FrameContinuity:
    """Tells which images follow each other, for the scores that look at several frames."""

    def __init__(self) -> None:
        """Begin without an image."""
        self._last: tuple[int, float, tuple[int, ...]] | None = None

    def interrupted(
        self, stamp_ns: int, arrived: float, region: Sequence[int], longest_gap: float
    ) -> bool:
        """Return whether an image does not follow the last one, and take it as the last.

        Args:
            stamp_ns: The image's stamp, nanoseconds.
            arrived: When it came, seconds.
            region: That is looked at.
            longest_gap: Seconds beyond which two images do not follow each other.
        """
        last, self._last = self._last, (stamp_ns, arrived, tuple(region))
        return last is not None and (
            stamp_ns < last[0] or arrived - last[1] > longest_gap or tuple(region) != last[2]
        )


def require_fresh(
    age: float, tolerance: float, clock: str, remedy: Callable[[], str]
) -> None:
    """Raise an error unless an image's stamp is near the clock.

    Args:
        age: Seconds that the stamp is behind the clock, negative where it is ahead.
        tolerance: Seconds; 0 takes any stamp.
        clock: Which one it is.
        remedy: Returns what to do where it is not near.

    Raises:
        StaleImageError: It is not.
    """
    if tolerance and abs(age) > tolerance:
        where = 'behind' if age > 0 else 'ahead of'
        raise StaleImageError(
            f"the image's stamp is {abs(age):.1f} s {where} the {clock} clock; {remedy()}"
        )


def failure_of(error: BaseException) -> tuple[Reason, str]:
    """Return why an image could not be judged: the reason, and one line for a person."""
    if isinstance(error, StaleImageError):
        return Reason.STALE_IMAGE, str(error)
    if isinstance(error, ImageError):
        return Reason.BAD_IMAGE, str(error)
    if isinstance(error, InvalidActivationsError):
        return Reason.INFERENCE_ERROR, str(error)
    name, text = type(error).__name__, one_line(error, 300)
    return Reason.INFERENCE_ERROR, name if text == name else f'{name}: {text}'


def _require_contrast(resized: np.ndarray, least: float) -> None:
    # Of each channel by itself: an image of one colour has none, whichever the colour.
    contrast = float(cv2.meanStdDev(resized)[1].max())
    if contrast < least:
        raise ImageError(
            f'blank: the pixels differ by {contrast:.1f} of 255 levels only; is the lens '
            'covered, or the camera blinded? (blank_contrast)'
        )
    share = np.count_nonzero(resized >= WHITE) / resized.size
    if share > SATURATED:
        raise ImageError(
            f'saturated: {share:.1%} of the pixels are white; is the camera blinded? '
            '(blank_contrast)'
        )
