"""The single-pass detectors of pytorch-ood, on the features that our scores use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.activations import Activations, Head

PREFIX = 'pytorch-ood '
_BLOCK = 512

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """A fitted detector."""

    name: str
    predict: Callable[[Activations], torch.Tensor]

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, larger is more unusual, float64 (N,)."""
        with torch.no_grad():
            parts = [
                self.predict(batch[start : start + _BLOCK])
                for start in range(0, len(batch), _BLOCK)
            ]
        scores = torch.cat(parts).double().numpy()
        # NaN counts as most unusual, so that a comparison does not fail.
        return np.nan_to_num(scores, nan=float(np.finfo(np.float64).max))


def fit_peers(training: Activations, labels: np.ndarray, head: Head | None) -> list[Peer]:
    """Fit every detector that needs only the features and logits of one forward pass.

    All use their own defaults; ViM, which has none, uses half of the features, like ``vim``. A
    detector that cannot be fitted is left out with a warning.

    Args:
        training: Training images.
        labels: int64 (N,), their true classes.
        head: Weights that map the features to logits; None leaves out detectors that need them.

    Raises:
        NavMonitorError: pytorch-ood is not installed.
    """
    try:
        import pytorch_ood.detector as detectors
    except ImportError:
        raise NavMonitorError(
            "--peers needs pytorch-ood: pip install 'nav_monitor_ros[peers]'"
        ) from None
    logging.getLogger('pytorch_ood').setLevel(logging.ERROR)
    # Many detectors need classes 0 to K - 1 without gaps; the head then lacks the other classes.
    present, places = np.unique(labels, return_inverse=True)
    known = None if head is None else Head(head.weight[present], head.bias[present], head.rectified)
    makers: dict[str, Callable[[], Callable[[Activations], torch.Tensor]]] = {}

    def on_logits(name: str, *options: Any) -> None:
        def make() -> Callable[[Activations], torch.Tensor]:
            detector = getattr(detectors, name)(None, *options)
            if name in ('KLMatching', 'OpenMax', 'WeightedEBO'):
                detector.fit_logits(_tensor(training.logits), torch.from_numpy(labels))
            return lambda batch: detector.predict_logits(_tensor(batch.logits))

        makers[name] = make

    def on_features(name: str, *options: Any) -> None:
        def make() -> Callable[[Activations], torch.Tensor]:
            detector = getattr(detectors, name)(*options)
            detector.fit_features(_tensor(_features(training, head)), torch.from_numpy(places))
            return lambda batch: detector.predict_features(_tensor(_features(batch, head)))

        makers[name] = make

    def on_maps(name: str, linear: torch.nn.Module) -> None:
        def maps(batch: Activations) -> torch.Tensor:
            return _tensor(_features(batch, head))[:, :, None, None]

        def make() -> Callable[[Activations], torch.Tensor]:
            after = torch.nn.Sequential(torch.nn.Flatten(), linear)
            detector = getattr(detectors, name)(torch.nn.Identity(), after)
            if hasattr(detector, 'fit_feature_maps'):
                detector.fit_feature_maps(maps(training), torch.from_numpy(places))
            return lambda batch: detector.predict_feature_maps(maps(batch))

        makers[name] = make

    for name in (
        'MaxSoftmax', 'Entropy', 'MaxLogit', 'EnergyBased', 'GEN', 'KLMatching', 'OpenMax',
    ):
        on_logits(name)
    for name in ('Mahalanobis', 'RMD', 'KNN', 'GMM'):
        on_features(name, None)
    if training.means:
        makers['MultiMahalanobis'] = lambda: _all_layers(detectors, training, places)
    if known is not None:
        linear = _linear(known)
        weight, bias = _tensor(known.weight), _tensor(known.bias)
        on_features('ViM', None, training.features.shape[1] // 2, weight, bias)
        on_features('DICE', None, weight, bias, 0.9)
        for name in ('SHE', 'fDBD', 'NNGuide', 'NCI', 'PNML', 'LTS'):
            on_features(name, torch.nn.Identity(), linear)
        for name in ('ReAct', 'ASH', 'SCALE', 'VRA'):
            on_maps(name, linear)
    peers = []
    for name, make in makers.items():
        try:
            peer = Peer(PREFIX + name, make())
            usable = bool(np.isfinite(peer.score(training[:8])).all())
        except Exception as error:  # third-party code, on data that it may not support
            _log.warning('%s%s is left out: %s', PREFIX, name, one_line(error, 150))
            continue
        if usable:
            peers.append(peer)
        else:
            _log.warning('%s%s is left out: its scores are not finite', PREFIX, name)
    return peers


def _all_layers(
    detectors: Any, training: Activations, labels: np.ndarray
) -> Callable[[Activations], torch.Tensor]:
    """Return Mahalanobis over early channel means and features, equally weighted."""

    def layers(batch: Activations) -> list[torch.Tensor]:
        return [_tensor(values) for values in (*batch.means.values(), batch.features)]

    detector = detectors.MultiMahalanobis([torch.nn.Identity() for _ in layers(training)])
    detector.fit_structured(layers(training), torch.from_numpy(labels))
    if detector.alpha is None:
        detector.alpha = [1.0] * len(layers(training))
    return lambda batch: detector.predict_structured(layers(batch))


def _features(batch: Activations, head: Head | None) -> np.ndarray:
    return batch.features if head is None else head.entering(batch.features)


def _linear(head: Head) -> torch.nn.Linear:
    linear = torch.nn.Linear(head.weight.shape[1], head.weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(_tensor(head.weight))
        linear.bias.copy_(_tensor(head.bias))
    return linear.requires_grad_(False)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
