"""Fitting on a Ray cluster: each part of the training images leaves a state, and states merge."""

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
    """A network with its weights and preprocessing, to be started on another machine."""

    spec: NetworkSpec
    weights: bytes  # of the file, which other machines need not see
    suffix: str  # of its name
    preprocess: Preprocess
    layer: str = PENULTIMATE
    background: int | None = None
    device: str = 'auto'
    threads: int = 1

    def start(self) -> RunningNetwork:
        """Return the network, in service on this machine."""
        with tempfile.NamedTemporaryFile(suffix=self.suffix) as file:
            file.write(self.weights)
            file.flush()
            return start_network(
                self.spec, Path(file.name), self.preprocess, layer=self.layer,
                background=self.background, device=self.device, threads=self.threads,
            )


@dataclass(frozen=True)
class FitJob:
    """What every worker of a fit needs to know."""

    network: NetworkRecipe
    source: str  # the training images' specification, readable on every machine
    seed: int  # of the sample that was taken before
    sample: int  # images in it
    class_names: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Any]]  # name -> options
    prepared: State  # what the sample left
    shape: tuple[int, int]  # classes and monitored neurons
    head: Head | None
    workers: int | None  # threads that decode
    skip_invalid: bool = False  # as in ``FitOptions``

    def partial(self, seen: Mapping[str, np.ndarray]) -> PartialFit:
        """Return a fit that has seen what some images left, none if empty."""
        classes, width = self.shape
        scores = {
            name: make_score(name, settings, classes=classes, width=width, head=self.head)
            for name, settings in self.scores.items()
        }
        partial = PartialFit(scores)
        partial.resume(self.prepared, seen)
        return partial


class FitWorker:
    """Holds the network and takes in one part of the images after the other."""

    def __init__(self, job: FitJob) -> None:
        """Start the network and open the images."""
        self._job = job
        self._classifier = job.network.start()
        configure_for_scores(self._classifier, job.partial({}).scores.values())
        self._source = open_source(job.source).oriented(job.network.preprocess.exif)
        _, self._others = sample_and_rest(len(self._source), job.seed, job.sample)
        self._labels = self._source.numbered_for(job.class_names, job.network.background).labels

    def do(self, start: int, stop: int) -> State:
        """Return what the images at these places among those besides the sample leave."""
        places = self._others[start:stop]
        partial = self._job.partial({})
        take_images(
            self._classifier, self._source.subset(places),
            None if self._labels is None else self._labels[places], partial,
            workers=self._job.workers, invalid=InvalidImages(skip=self._job.skip_invalid),
        )
        return partial.seen()


def merge_states(job: FitJob, left: State, right: State) -> State:
    """Return the state that the images of both have left."""
    merged = job.partial(left)
    merged.merge(job.partial(right))
    return merged.seen()


class RayFit:
    """Takes training images in on a cluster, in place of ``take_images``."""

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
        """Say with what.

        Args:
            cluster: Connected.
            network: To be built in every worker.
            source: Of the training images.
            part: Images that a worker takes in before it reports: what its death costs.
            workers: Threads of each that decode.
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
        """Add to prepared scores what all images besides the sample leave.

        Args:
            partial: Has seen the sample.
            class_names: Of the network.
            sample: Images in it.
            count: Images besides it.
            seed: Of the sample.
            progress: Is told how far the work is.
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
