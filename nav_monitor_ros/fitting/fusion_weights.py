"""Weights of the members of the fused score, learned without out-of-distribution images.

Which score finds unknown input depends on the network. The weights are those of a logistic
regression on the members' ``-log p`` that separates in-distribution images from three kinds of
proxies, each made of in-distribution images: corrupted images, images as if from another domain
(``proxy_images``), and mixtures of the features of two images of different predicted classes, with
the early layers of one of them. All kinds have equal weight, and no weight is negative.

The images are those that fit the fusion. The fused score is calibrated on others, so that its
false-alarm budget holds whatever the weights are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from nav_monitor_ros import interrupt
from nav_monitor_ros.data.batches import BATCH, Progress
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.decision.conformal_p_values import ConformalPValues
from nav_monitor_ros.fitting.proxy_images import MAKERS, make_images
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.scores.base import Score

NORMAL = 400  # largest number of in-distribution images that pass through the network again
FEWEST = 30  # smallest number of in-distribution images; with fewer, the weights are equal
PROXIES = 100  # of each of the makers
MIXTURES = 400
MIXED_SHARE = (0.35, 0.65)  # range of the share of the first image
RIDGE = 1e-3  # penalty on the squared weights, relative to the mean log loss
LARGEST = 700.0  # -log p; beyond it, p is not larger than the smallest floating-point number
SMALLEST = 0.02  # relative to the mean weight; members with less are left out

_log = logging.getLogger(__name__)


def learn_fusion_weights(
    classifier: RunningNetwork,
    scores: Mapping[str, Score],
    images: ImageSource,
    reference: Mapping[str, np.ndarray],
    *,
    seed: int,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, float]:
    """Return the weight of each member, in the order of ``scores``, with a mean of 1.

    Members whose weight is (nearly) 0 are missing.

    Args:
        classifier: Network set up to yield what the scores need.
        scores: M fitted members, none of which looks at more than one frame.
        images: In-distribution images to which the members were not fitted.
        reference: Scores of these images by name, float64 (N,) each: a proxy's p-value is its rank
            among them.
        seed: Random seed for the choice of images and the proxies.
        progress: Called with the stage, the number of images done and the total.
    """
    equal = dict.fromkeys(scores, 1.0)
    if len(scores) < 2:
        return equal
    if len(images) < FEWEST:
        _log.warning(
            'only %d images fit the fusion, and weights need at least %d: the weights of the fused '
            'score are equal; give more calibration images', len(images), FEWEST)
        return equal
    rng = np.random.default_rng([seed, len(images)])
    chosen = np.sort(rng.permutation(len(images))[:NORMAL])
    makers = [(kind, maker) for kind, named in MAKERS.items() for maker in named.values()]
    total, done = len(chosen) + len(makers) * PROXIES, 0
    what = 'weighting the scores'
    progress(what, done, total)
    resized = [classifier.preprocess.resized(images.image(int(i))) for i in chosen]
    pixels = np.stack(resized)
    p_values = {name: ConformalPValues(reference[name]) for name in scores}

    def terms_of(seen: Activations) -> np.ndarray:
        terms = np.stack([
            p_values[name].neg_log_p_values(score.score(seen)) for name, score in scores.items()
        ], axis=1)
        # The judge finds an image without a finite score unusual, whatever the weights are.
        return np.minimum(terms[~np.isnan(terms).any(axis=1)], LARGEST)

    normal = _run(classifier, pixels)
    predicted = normal.predicted
    unknown: dict[str, list[np.ndarray]] = {}
    done += len(pixels)
    for kind, maker in makers:
        progress(what, done, total)
        made = make_images(maker, pixels, predicted, PROXIES, rng)
        unknown.setdefault(kind, []).append(terms_of(_run(classifier, made)))
        done += PROXIES
    if len(np.unique(predicted)) > 1:
        unknown['mixture'] = [terms_of(mixtures(normal, MIXTURES, rng))]
    progress(what, total, total)
    weights = fit_weights(terms_of(normal), list(unknown.values()))
    if weights is None:
        _log.warning('no member tells proxies of unknown images apart; the weights are equal')
        return equal
    return {
        name: float(weight) for name, weight in zip(scores, weights, strict=True)
        if weight >= SMALLEST
    }


def fit_weights(
    normal: np.ndarray, unknown: Sequence[Sequence[np.ndarray]]
) -> np.ndarray | None:
    """Fit a logistic regression without negative weights.

    Args:
        normal: ``-log p`` of in-distribution images, float64 (N, M).
        unknown: The same of unknown images, float64 (n, M), by kind: every kind has the same
            weight, and so has every part of a kind. Parts without images are left out.

    Returns:
        float64 (M,), with a mean of 1; None if all are 0, or if there are no images.
    """
    kinds = [[part for part in kind if len(part)] for kind in unknown]
    kinds = [kind for kind in kinds if kind]
    if not len(normal) or not kinds:
        return None
    parts = [(part, 1 / (len(kinds) * len(kind) * len(part))) for kind in kinds for part in kind]
    values = np.concatenate([normal, *(part for part, _ in parts)])
    shares = np.concatenate([
        np.full(len(normal), 1 / len(normal)),
        *(np.full(len(part), share) for part, share in parts),
    ])
    signs = np.where(np.arange(len(values)) < len(normal), -1.0, 1.0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (values @ parameters[:-1] + parameters[-1])
        # d log(1 + exp(-m)) / dm = -1 / (1 + exp(m)), without an overflow
        slopes = -shares * signs * np.exp(-np.logaddexp(0, margins))
        weights = parameters[:-1]
        gradient = np.append(values.T @ slopes + 2 * RIDGE * weights, slopes.sum())
        return float(shares @ np.logaddexp(0, -margins) + RIDGE * weights @ weights), gradient

    members = normal.shape[1]
    start = np.append(np.full(members, 1 / members), -1.0)
    bounds = [(0, None)] * members + [(None, None)]
    options = {'ftol': 1e-12, 'gtol': 1e-8, 'maxiter': 1000}
    found = minimize(
        loss, start, jac=True, bounds=bounds, method='L-BFGS-B', options=options
    ).x[:-1]
    mean = found.mean()
    return found / mean if mean > 0 else None


def _run(classifier: RunningNetwork, pixels: np.ndarray) -> Activations:
    """Return the activations of images, uint8 (N, h, w, channels), that are finite."""
    normalised = classifier.preprocess.normalised
    parts = []
    for start in range(0, len(pixels), BATCH):
        interrupt.raise_if_requested()
        parts.append(classifier(np.stack([normalised(p) for p in pixels[start:start + BATCH]])))
    seen = Activations.concatenate(parts)
    finite = np.isfinite(seen.logits).all(axis=1) & np.isfinite(seen.features).all(axis=1)
    return seen if finite.all() else seen[finite]


def mixtures(images: Activations, most: int, rng: np.random.Generator) -> Activations:
    """Return images whose features lie between those of two images of different predicted classes.

    The early layers are those of one of the two: an unknown object need not disturb these.

    Args:
        images: In-distribution images.
        most: Largest number of mixtures.
        rng: Chooses the pairs and the shares.
    """
    predicted = images.predicted
    first, second = rng.integers(len(images), size=(2, 4 * most))
    differ = np.flatnonzero(predicted[first] != predicted[second])[:most]
    one, other = images[first[differ]], images[second[differ]]
    share = rng.uniform(*MIXED_SHARE, (len(differ), 1)).astype(np.float32)
    return replace(
        one, logits=share * one.logits + (1 - share) * other.logits,
        features=share * one.features + (1 - share) * other.features,
    )
