"""Judging sources of images on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.cluster.fitting import PART
from nav_monitor_ros.cluster.ray_cluster import RayCluster
from nav_monitor_ros.data.batches import BATCH, Progress
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.source_spec import absolute
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.evaluation.scored_images import JudgedImages, judge_images


@dataclass(frozen=True)
class JudgeJob:
    """Description of an evaluation for its workers."""

    bundle: str  # folder that every machine can read, or name of a shipped bundle
    scores: tuple[str, ...]  # scores to compute in addition to the fused ones
    backend: str | None  # None: the one that the monitor was fitted with
    trusted: tuple[str, ...]
    device: str
    threads: int
    workers: int | None


class JudgeWorker:
    """Worker that loads the bundle's network and judges one part of a source after another."""

    def __init__(self, job: JudgeJob) -> None:
        """Load the bundle."""
        self._job = job
        bundle = load_bundle(job.bundle)
        self._classifier = load_network(
            bundle, backend=job.backend, device=job.device, threads=job.threads,
            trusted_packages=job.trusted, scores=bundle.judge(also=job.scores).scores,
        )
        calibrated = bundle.calibrated_for(self._classifier.engine)
        self._judge = calibrated.judge(also=job.scores)
        self._opened: dict[str, ImageSource] = {}

    def do(self, source: str, start: int, stop: int) -> JudgedImages:
        """Judge the images from ``start`` to ``stop`` of a source."""
        if source not in self._opened:
            exif = self._classifier.preprocess.exif
            self._opened[source] = open_source(source).oriented(exif)
        # Scores over several frames need the previous frames, as on one machine.
        reach = max(score.history for score in self._judge.scores.values())
        first = max(0, start - -(-reach // BATCH) * BATCH)
        judged = judge_images(
            self._classifier, self._judge, self._opened[source].subset(np.arange(first, stop)),
            workers=self._job.workers,
        )
        return judged[start - first :]


class RayJudge:
    """Judges a source on a cluster, instead of ``judge_images``."""

    def __init__(
        self,
        cluster: RayCluster,
        job: JudgeJob,
        *,
        part: int = PART,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        """Configure the evaluation.

        Args:
            cluster: Connected cluster.
            job: Description of the evaluation for every worker.
            part: Number of images per task of a worker.
            progress: Callback for the progress of the work.
        """
        self._cluster = cluster
        self._progress = progress
        self._job = job
        self._part = max(1, part // BATCH) * BATCH

    def __call__(self, name: str, source: ImageSource) -> JudgedImages:
        """Judge the images of a source, whose name is its specification."""
        total, spec = len(source), absolute(source.name)
        parts = [
            (spec, start, min(start + self._part, total)) for start in range(0, total, self._part)
        ]
        self._progress(name, 0, total)
        judged: Sequence[JudgedImages] = self._cluster.run(
            JudgeWorker, self._job, parts,
            progress=lambda done: self._progress(name, min(total, done * self._part), total),
        )
        return JudgedImages.concatenate(judged)
