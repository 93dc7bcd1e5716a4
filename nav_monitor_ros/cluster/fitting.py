"""Fitting on a Ray cluster: each part of the training images yields a state; states are merged."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nav_monitor_ros.bundle.networks import configure_for_scores
from nav_monitor_ros.cluster.ray_cluster import RayCluster
from nav_monitor_ros.data.batches import BATCH, Progress
from nav_monitor_ros.data.invalid_images import InvalidImages
from nav_monitor_ros.data.source_spec import absolute
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.fitting.partial_fit import PartialFit
from nav_monitor_ros.fitting.training_pass import sample_and_rest, take_images
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.perception.network.layers import PENULTIMATE
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.scores.registry import make_score

PART = 64 * BATCH  # images; whole batches, so that the network sees the same ones as on one machine
State = dict[str, np.ndarray]


@dataclass(frozen=True)
class NetworkRecipe:
    """Network with its weights and preprocessing, for starting it on another machine."""

    spec: NetworkSpec
    weights: bytes  # content of the weights file, which other machines need not have
    suffix: str  # suffix of its name
    preprocess: Preprocess
    layer: str = PENULTIMATE
    background: int | None = None
    device: str = 'auto'
    threads: int = 1

    def start(self) -> RunningNetwork:
        """Start the network on this machine."""
        with tempfile.NamedTemporaryFile(suffix=self.suffix) as file:
            file.write(self.weights)
            file.flush()
            return start_network(
                self.spec, Path(file.name), self.preprocess, layer=self.layer,
                background=self.background, device=self.device, threads=self.threads,
            )


@dataclass(frozen=True)
class FitJob:
    """Description of a fit for its workers."""

    network: NetworkRecipe
    source: str  # specification of the training images, which every machine can read
    seed: int  # seed of the initial sample
    sample: int  # number of images in the initial sample
    class_names: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Any]]  # name -> options
    prepared: State  # state after the sample
    shape: tuple[int, int]  # classes and monitored neurons
    head: Head | None
    workers: int | None  # threads that decode images
    skip_invalid: bool = False  # as in ``FitOptions``

    def partial(self, seen: Mapping[str, np.ndarray]) -> PartialFit:
        """Return a fit that continues from a state; if it is empty, from the sample only."""
        classes, width = self.shape
        scores = {
            name: make_score(name, settings, classes=classes, width=width, head=self.head)
            for name, settings in self.scores.items()
        }
        partial = PartialFit(scores)
        partial.resume(self.prepared, seen)
        return partial


class FitWorker:
    """Worker that loads the network once and processes one part of the images after another."""

    def __init__(self, job: FitJob) -> None:
        """Start the network and open the images."""
        self._job = job
        self._classifier = job.network.start()
        configure_for_scores(self._classifier, job.partial({}).scores.values())
        self._source = open_source(job.source).oriented(job.network.preprocess.exif)
        _, self._others = sample_and_rest(len(self._source), job.seed, job.sample)
        self._labels = self._source.numbered_for(job.class_names, job.network.background).labels

    def do(self, start: int, stop: int) -> State:
        """Return the state after the images at these positions, counted without the sample."""
        places = self._others[start:stop]
        partial = self._job.partial({})
        take_images(
            self._classifier, self._source.subset(places),
            None if self._labels is None else self._labels[places], partial,
            workers=self._job.workers, invalid=InvalidImages(skip=self._job.skip_invalid),
        )
        return partial.seen()


def merge_states(job: FitJob, left: State, right: State) -> State:
    """Return the state after the images of both states."""
    merged = job.partial(left)
    merged.merge(job.partial(right))
    return merged.seen()


class RayFit:
    """Pass over the training images on a cluster, instead of ``take_images``."""

    def __init__(
        self,
        cluster: RayCluster,
        network: NetworkRecipe,
        source: str,
        *,
        part: int = PART,
        workers: int | None = None,
        skip_invalid: bool = False,
    ) -> None:
        """Configure the pass.

        Args:
            cluster: Connected cluster.
            network: Network to build in every worker.
            source: Specification of the training images.
            part: Number of images per task of a worker, which are repeated if it dies.
            workers: Threads per worker that decode images.
            skip_invalid: As in ``FitOptions``.
        """
        self._cluster = cluster
        self._network = network
        self._source = absolute(source)
        self._part = max(1, part // BATCH) * BATCH
        self._workers = workers
        self._skip_invalid = skip_invalid

    def __call__(
        self,
        partial: PartialFit,
        class_names: Sequence[str],
        sample: int,
        count: int,
        seed: int,
        progress: Progress,
    ) -> None:
        """Add all images except the sample to prepared scores.

        Args:
            partial: Fit that has processed the sample.
            class_names: Class names of the network.
            sample: Number of images in the sample.
            count: Number of other images.
            seed: Seed of the sample.
            progress: Callback for the progress of the work.
        """
        first = next(iter(partial.scores.values()))
        job = FitJob(
            self._network, self._source, seed, sample, tuple(class_names),
            {name: score.settings for name, score in partial.scores.items()},
            partial.prepared(), (first.classes, first.width), first.head,
            self._workers, self._skip_invalid,
        )
        parts = [
            (start, min(start + self._part, count)) for start in range(0, count, self._part)
        ]
        before, total = partial.images, partial.images + count
        progress('fitting', before, total)
        if not parts:
            return
        seen = self._cluster.run(
            FitWorker, job, parts, reduce=merge_states,
            progress=lambda done: progress(
                'fitting', min(total, before + done * self._part), total
            ),
        )
        partial.merge(job.partial(seen))
