"""The complete monitor: an image in, an observation out; used by the node and by replay."""

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
from nav_monitor_ros.perception.network.layers import Layer, find_layer, last_spatial
from nav_monitor_ros.perception.network.threads import choose_threads, limit_blas_threads

WHITE = 254  # gray levels from which a pixel counts as saturated
SATURATED = 0.98  # share of saturated pixels above which an image is refused


class StaleImageError(NavMonitorError):
    """An image's stamp is too far from the clock."""


@dataclass(frozen=True)
class Prepared:
    """Image prepared as input of the network."""

    pixels: np.ndarray  # float32 (channels, height, width), normalised
    fingerprint: int  # checksum of the network's input, equal for equal images


@dataclass(frozen=True)
class Observation:
    """Results of one forward pass for one image."""

    verdict: Verdict
    activations: Activations
    fingerprint: int  # of the prepared image
    forward_seconds: float = 0.0  # duration of the forward pass, for all images of the batch


class Monitor:
    """A loaded bundle that judges images. Not thread-safe: only one thread may use it."""

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
        """Build the network and run it once, so that the first image is not delayed.

        From then on, numpy's matrix products use one thread in this process; see
        ``limit_blas_threads``.

        Args:
            bundle: Bundle that was loaded from a folder.
            backend: As for ``load_network``.
            device: As for ``load_network``.
            threads: Threads of the network on the CPU; 0: the backend chooses; None: one or all
                cores, whichever is measured to be faster.
            trusted_packages: As for ``load_network``.
            decisive: As for ``Bundle.judge``.
            also: As for ``Bundle.judge``.
            top: As for ``Bundle.judge``.
            evidence_level: As for ``Bundle.judge``.

        Raises:
            NavMonitorError: The bundle cannot be used; see ``load_network`` and ``Bundle.judge``.
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
        """Return a monitor for another camera, with the same network and separate state of scores.

        The two must not be used at the same time.
        """
        monitor = copy.copy(self)
        monitor.judge = self.judge.for_camera()
        monitor._pixels = self.new_pixels()
        return monitor

    def new_pixels(self) -> np.ndarray:
        """Return a reusable output array for ``prepare``, float32 (channels, height, width)."""
        return np.empty(self.classifier.input_shape, np.float32)

    def look(self, image: DecodedImage, *, least_contrast: float = 0.0) -> Observation:
        """Classify an image and judge it.

        Args:
            image: Image of any size.
            least_contrast: Standard deviation, of 255 gray levels, below which an image counts as
                blank; 0: every image is judged.

        Raises:
            ImageError: The image is blank or saturated.
            InvalidActivationsError: The network returned values that are not finite.
        """
        # Safe to overwrite for each image: no result of a forward pass shares this memory.
        prepared = self.prepare(image, least_contrast=least_contrast, out=self._pixels)
        (outcome,) = observe_batch([(self, prepared)])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def observe_images(
        self, images: Sequence[DecodedImage], *, least_contrast: float = 0.0
    ) -> list[Observation]:
        """Classify several images in one forward pass and judge them one after another.

        Sums may be computed in another order in a batch than for one image: outputs agree within
        float tolerance, and a bit of a pattern may differ if its neuron is close to its threshold.

        Args:
            images: Images of any size, at least one.
            least_contrast: As for ``look``.

        Raises:
            ImageError: An image is blank or saturated.
            InvalidActivationsError: The network returned values that are not finite.
        """
        prepared = [self.prepare(image, least_contrast=least_contrast) for image in images]
        found = observe_batch([(self, one) for one in prepared])
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in found if isinstance(outcome, Observation)]

    def warm_up(self, most: int) -> None:
        """Run batches of 1 to ``most`` images, because backends prepare for each batch size."""
        # Larger than the network's input, so that resizing is prepared, too: torch takes seconds.
        preprocess = self.bundle.preprocess
        side = 2 * max(preprocess.height, preprocess.width, preprocess.resize_to)
        black = DecodedImage(np.zeros((side, side, 3), np.uint8), 'rgb')
        for count in range(1, most + 1):
            self.observe_images([black] * count)
        self.judge.forget()

    def prepare(
        self, image: DecodedImage, *, least_contrast: float = 0.0, out: np.ndarray | None = None
    ) -> Prepared:
        """Return an image prepared as input of the network.

        Args:
            image: As for ``look``.
            least_contrast: As for ``look``.
            out: Output array for the pixels, float32 (channels, height, width), such as that of
                ``new_pixels``; a new one by default.

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
        """Judge one image by its activations.

        Args:
            prepared: Prepared image.
            activations: Activations of this image alone.
            forward_seconds: Duration of the forward pass.

        Raises:
            InvalidActivationsError: The network returned values that are not finite.
        """
        return Observation(
            self.judge.judge(activations), activations, prepared.fingerprint, forward_seconds
        )

    def spatial_layer(self, wanted: str = '') -> Layer:
        """Return the layer with a name or number; by default that of ``last_spatial``.

        Raises:
            NavMonitorError: There is no such layer.
        """
        layers = self.classifier.layers
        if wanted:
            return find_layer(layers, wanted)
        return last_spatial(layers)

    def show_layer(self, wanted: str | None) -> Layer | None:
        """Keep the maps of one layer, or of none, in the next observations.

        Args:
            wanted: As for ``spatial_layer``; None: no layer.

        Returns:
            Layer whose maps are kept.

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
        looks: Images, at least one, each with the monitor that judges it. The monitors share one
            network; see ``Monitor.for_camera``.

    Returns:
        Observation of each image, or the error for which it could not be judged. If the network
        fails on the batch, each image is run alone, so that one image cannot affect the others.
    """
    network = looks[0][0].classifier
    try:
        started = time.perf_counter()
        pixels = [prepared.pixels for _, prepared in looks]
        activations = network(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))
        forward = time.perf_counter() - started
    except BaseException as error:  # foreign networks may even raise SystemExit
        return [error] if len(looks) == 1 else [observe_batch([look])[0] for look in looks]
    found: list[Observation | BaseException] = []
    for row, (monitor, prepared) in enumerate(looks):
        try:
            found.append(monitor.observe(prepared, activations[row:row + 1], forward))
        except BaseException as error:  # some scores also run part of the network
            found.append(error)
    return found


def build_monitor(values: Mapping[str, Any]) -> Monitor:
    """Build the monitor that the node's parameters describe, for the node and for replay.

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
    """Detects interruptions of the image sequence, for scores over several frames."""

    def __init__(self) -> None:
        """Start without an image."""
        self._last: tuple[int, float, tuple[int, ...]] | None = None

    def interrupted(
        self, stamp_ns: int, arrived: float, region: Sequence[int], longest_gap: float
    ) -> bool:
        """Return whether an image does not continue the sequence, and store it as the last one.

        Args:
            stamp_ns: Stamp of the image, nanoseconds.
            arrived: Arrival time, seconds.
            region: Region of the image that is judged.
            longest_gap: Longest time between consecutive images, seconds.
        """
        last, self._last = self._last, (stamp_ns, arrived, tuple(region))
        return last is not None and (
            stamp_ns < last[0] or arrived - last[1] > longest_gap or tuple(region) != last[2]
        )


def require_fresh(
    age: float, tolerance: float, clock: str, remedy: Callable[[], str], *, stamp_ns: int
) -> None:
    """Check that an image's stamp is close to the clock.

    Args:
        age: Seconds by which the stamp is behind the clock; negative if it is ahead.
        tolerance: Largest absolute age in seconds; 0 accepts any stamp.
        clock: Name of the clock in the possessive form, for the message.
        remedy: Function that returns a remedy, for the message.
        stamp_ns: The stamp, in nanoseconds.

    Raises:
        StaleImageError: The stamp differs from the clock by more than the tolerance.
    """
    if tolerance and abs(age) > tolerance:
        if not stamp_ns:
            raise StaleImageError(
                'the image has no stamp (0): set header.stamp in its publisher, or '
                'stamp_tolerance to 0'
            )
        where = 'behind' if age > 0 else 'ahead of'
        raise StaleImageError(
            f"the image's stamp is {abs(age):.1f} s {where} the {clock} clock; {remedy()}"
        )


def failure_of(error: BaseException) -> tuple[Reason, str]:
    """Return the reason for which an image could not be judged, and a detail of one line."""
    if isinstance(error, StaleImageError):
        return Reason.STALE_IMAGE, str(error)
    if isinstance(error, ImageError):
        return Reason.BAD_IMAGE, str(error)
    if isinstance(error, InvalidActivationsError):
        return Reason.INFERENCE_ERROR, str(error)
    name, text = type(error).__name__, one_line(error, 300)
    return Reason.INFERENCE_ERROR, name if text == name else f'{name}: {text}'


def _require_contrast(resized: np.ndarray, least: float) -> None:
    # Computed for each channel: an image of a single colour has no contrast, whatever the colour.
    contrast = float(cv2.meanStdDev(resized)[1].max())
    if contrast < least:
        raise ImageError(
            f'blank: the pixels differ by only {contrast:.1f} of 255 levels; is the lens '
            'covered or the camera blinded? (blank_contrast)'
        )
    share = np.count_nonzero(resized >= WHITE) / resized.size
    if share > SATURATED:
        raise ImageError(
            f'saturated: {share:.1%} of the pixels are white; is the camera blinded? '
            '(blank_contrast)'
        )
