"""Time for judging, relative to the forward pass to which it is added."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing, time_calls
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import configure_for_scores, load_network
from nav_monitor_ros.decision.calibration import CalibrationOptions, CalibrationScores, calibrate
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.scores.mc_dropout import MonteCarloDropout
from nav_monitor_ros.scores.registry import SCORES, make_score

LAYERS = {'layer1': 64, 'layer2': 128, 'layer3': 256}  # the early stages of a ResNet-18
FORWARD = 'forward pass, ResNet-18, 224 x 224'
SIGNS = 'forward pass, traffic_signs'
DROPOUT = 'traffic_signs: {} passes with dropout'


def judge_benchmark(
    *,
    features: int = 512,
    patterns: int = 5000,
    classes: int = 43,
    frames: int = 2000,
    threads: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Time the judging of single random frames of the given sizes.

    Every score is fitted to random features whose patterns hardly ever repeat, so that each class
    really stores ``patterns`` of them. The default set is timed as the node runs it: from
    activations to the verdict with its explanation. In the same run: one forward pass of a
    ResNet-18 on random weights, and that of the shipped ``traffic_signs`` with and without passes
    with dropout.

    Args:
        features: Number of monitored neurons.
        patterns: Number of stored patterns per class.
        classes: Number of classes of the network.
        frames: Number of single frames that are timed.
        threads: Threads of torch and BLAS.
        progress: Callback for the progress of the work.

    Returns:
        For each thing timed the ratio is to the forward pass of ResNet-18, for the passes with
        dropout to that of traffic_signs.

    Raises:
        NavMonitorError: A size is not above 0.
    """
    if min(features, patterns, classes, frames) < 1 or classes < 2:
        raise NavMonitorError('sizes must be at least 1, and classes at least 2')
    torch.set_num_threads(threads)
    network = SyntheticNetwork(features, classes)
    judge = _fitted(network, patterns, progress)
    batch = network.images(frames, None)[0]
    singles = [batch[i : i + 1] for i in range(frames)]
    default = Judge(judge.scores, judge.calibration, judge.class_names)
    verdict = f'{FUSED} verdict ({", ".join(FUSED_MEMBERS)})'
    progress('timing ResNet-18', 0, 1)
    forward = _forward_pass()
    pace = float(np.median(forward))
    things: dict[str, Callable[[Activations], object]] = {
        verdict: default.judge,
        **{name: judge.scores[name].score_frame for name in judge.scores},
    }
    timed = {FORWARD: Timing.of(forward)}
    for number, (name, thing) in enumerate(things.items()):
        progress('timing the scores', number, len(things))
        timed[name] = Timing.of(time_calls(thing, singles), pace)
    timed.update(_dropout())
    return Result(
        'judge',
        f'Judging one frame: {features} features, {patterns} patterns for each of {classes} '
        f'classes, {threads} thread(s)',
        {
            'features': features, 'patterns': patterns, 'classes': classes, 'frames': frames,
            'threads': threads,
        },
        FORWARD,
        timed,
        {
            'verdict_p99_ms': Figure(timed[verdict].p99_ms, 'lower', 'ms', 0.5),
            'verdict_percent_of_forward': Figure(100 * timed[verdict].ratio, 'lower', '%', 1.0),
        },
    )


class SyntheticNetwork:
    """Random head, and random features that it classifies well."""

    def __init__(self, features: int, classes: int) -> None:
        self._rng = np.random.default_rng(0)
        weight = self._rng.normal(size=(classes, features)).astype(np.float32)
        self.head = Head(weight / np.float32(np.sqrt(features)), np.zeros(classes, np.float32))
        self.classes, self.features = classes, features

    def images(self, count: int, label: int | None) -> tuple[Activations, np.ndarray]:
        """Return activations of images and their classes; with a label all are of that class."""
        labels = self._rng.integers(0, self.classes, count)
        if label is not None:
            labels[:] = label
        noise = self._rng.normal(size=(count, self.features))
        features = np.maximum(noise + np.sign(self.head.weight[labels]), 0).astype(np.float32)
        means = {
            name: self._rng.normal(size=(count, channels)).astype(np.float32)
            for name, channels in LAYERS.items()
        }
        return Activations(self.head.logits(features), features, means), labels


def _fitted(network: SyntheticNetwork, patterns: int, progress: Progress) -> Judge:
    scores = {
        name: make_score(
            name, {'layers': list(LAYERS)} if name == 'channel_means' else {},
            classes=network.classes, width=network.features, head=network.head,
        )
        for name in SCORES
        if name not in ('mc_dropout', 'decoy')  # need a network; timed on traffic_signs below
    }
    sample, labels = network.images(4096, None)
    for score in scores.values():
        score.prepare(sample, labels)
    for label in range(network.classes):
        progress('storing patterns', label, network.classes)
        for start in range(0, patterns, 1000):
            batch, labels = network.images(min(1000, patterns - start), label)
            # The network is right on what is stored, however small it is.
            batch.logits[np.arange(len(batch)), labels] += 1000
            for name, score in scores.items():
                if name == 'pattern' or start == 0:
                    score.update(batch, labels)
    for score in scores.values():
        score.finish()
    calibration = calibrate(
        *(CalibrationScores.of(scores, network.images(count, None)[0]) for count in (1000, 2000)),
        classes=network.classes,
        options=CalibrationOptions(
            fusion_members=tuple(FUSED_MEMBERS), alpha=0.01, confidence=0.95
        ),
    )
    names = [f'class_{label}' for label in range(network.classes)]
    return Judge(scores, calibration, names, also=['all'])


def _forward_pass() -> np.ndarray:
    network = NetworkSpec('torchvision:resnet18', {}).build([]).eval()
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def run(_: object) -> None:
        with torch.inference_mode():
            network(image)

    return time_calls(run, [None] * 20, warm=3)


def _dropout() -> dict[str, Timing]:
    """Time traffic_signs with and without mc_dropout, alternating for each image."""
    bundle = load_bundle('traffic_signs')
    plain, sampling = (load_network(bundle, device='cpu', scores=['msp']) for _ in range(2))
    score = bundle.scores['mc_dropout']
    assert isinstance(score, MonteCarloDropout)
    configure_for_scores(sampling, [score])
    batch = np.random.default_rng(0).random((1, *plain.input_shape), dtype=np.float32)
    # Alternating, so that other load on the machine affects both equally.
    without, with_passes = np.stack([
        np.concatenate([
            time_calls(lambda _: plain(batch), [None], warm=0),
            time_calls(lambda _: score.score_frame(sampling(batch)), [None], warm=0),
        ])
        for _ in range(420)
    ])[20:].T
    extra = np.maximum(with_passes - np.median(without), 0.0)
    return {
        SIGNS: Timing.of(without, divisor=SIGNS),
        DROPOUT.format(score.options.count): Timing.of(
            extra, float(np.median(without)), SIGNS),
    }
