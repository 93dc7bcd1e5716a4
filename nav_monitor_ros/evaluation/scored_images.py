"""Judge the images of a source in order, keeping only a few numbers of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nav_monitor_ros.data.batches import Batch, Progress, batches, each
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.evaluation.pytorch_ood_detectors import Peer
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.evidence_kind import EvidenceKind

DIGEST_BYTES = 32  # bytes of an image's checksum
KIND_TYPE = np.array([kind.value for kind in EvidenceKind]).dtype


@dataclass(frozen=True, eq=False)
class JudgedImages:
    """Verdicts on N images, in order."""

    predicted: np.ndarray  # int64 (N,)
    confidence: np.ndarray  # float64 (N,), softmax of the predicted class
    # float64 (N,) each, including the fused one and other detectors'.
    scores: Mapping[str, np.ndarray]
    p_values: Mapping[str, np.ndarray]  # float64 (N,), of the bundle's scores
    digests: np.ndarray  # uint8 (N, 32), checksums of the pixels
    kinds: Mapping[str, np.ndarray]  # kinds of evidence of the judge's members, text (N,)

    def __len__(self) -> int:
        """Return N."""
        return len(self.predicted)

    def __getitem__(self, index: slice) -> JudgedImages:
        """Return some of the images."""
        return JudgedImages(
            self.predicted[index],
            self.confidence[index],
            {name: values[index] for name, values in self.scores.items()},
            {name: values[index] for name, values in self.p_values.items()},
            self.digests[index],
            {name: values[index] for name, values in self.kinds.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence[JudgedImages]) -> JudgedImages:
        """Return the concatenation of parts."""
        return JudgedImages(
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            {n: np.concatenate([part.scores[n] for part in parts]) for n in parts[0].scores},
            {n: np.concatenate([part.p_values[n] for part in parts]) for n in parts[0].p_values},
            np.concatenate([part.digests for part in parts]),
            {n: np.concatenate([part.kinds[n] for part in parts]) for n in parts[0].kinds},
        )


def judge_images(
    classifier: RunningNetwork,
    judge: Judge,
    source: ImageSource,
    progress: Progress = lambda what, done, total: None,
    what: str = 'judging',
    *,
    peers: Sequence[Peer] = (),
    workers: int | None = None,
) -> JudgedImages:
    """Run a source through the network and judge its images.

    Args:
        classifier: The bundle's network, set up to yield what the scores need.
        judge: The bundle's fitted scores; those over several frames begin with the first image.
        source: N images.
        progress: Called with the stage, the number of images done and the total.
        what: Name of the stage, for ``progress``.
        peers: Other detectors, whose scores are also computed.
        workers: Threads that read and decode.

    Raises:
        NavMonitorError: An image cannot be read.
        InvalidActivationsError: The activations are not finite.
    """
    predicted = np.empty(len(source), np.int64)
    confidence = np.empty(len(source))
    values = {name: np.empty(len(source)) for name in judge.scores}
    others = {peer.name: np.empty(len(source)) for peer in peers}
    digests = np.zeros((len(source), DIGEST_BYTES), np.uint8)
    kinds = {name: np.empty(len(source), KIND_TYPE) for name in judge.members}
    judge.forget()

    def take(batch: Batch) -> None:
        seen, places = batch.activations, batch.places
        digests[places] = np.frombuffer(b''.join(batch.digests), np.uint8).reshape(len(places), -1)
        predicted[places] = seen.predicted
        logits = seen.logits.astype(np.float64)
        confidence[places] = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
        for name, score in judge.scores.items():
            values[name][places] = (
                [score.score_frame(seen[i : i + 1]) for i in range(len(seen))]
                if score.windowed else score.score(seen)
            )
        for name in kinds:
            kinds[name][places] = judge.scores[name].evidence_kinds(seen)
        for peer in peers:
            others[peer.name][places] = peer.score(seen)

    each(batches(classifier, source, progress, what, workers=workers, digests=True), take)
    judge.forget()
    p_values = judge.calibration.p_values(values, predicted)
    fused = {FUSED: judge.calibration.fused_scores(values)} if judge.fuses else {}
    if not judge.fuses:
        p_values.pop(FUSED, None)
    return JudgedImages(
        predicted, confidence, {**fused, **values, **others}, p_values, digests, kinds
    )
