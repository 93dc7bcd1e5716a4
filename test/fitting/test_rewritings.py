"""Rewriting a network without changing its function changes no verdict."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from rewritten_networks import (
    Blocks,
    Parts,
    Plan,
    Vit,
    folded,
    fused_relu,
    layers_of,
    plans,
    renamed,
    separated,
    softmaxed,
    with_constant,
    with_factor,
)
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, Engine
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.export import export_onnx
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.torch.classifier import Classifier

TOLERANCE = 1e-4
PLANS = plans(8)
OPTIONS = FitOptions(
    name='rewritten', false_alarm_rate=0.05, class_names=tiny.CLASSES, class_images=1000)
IMAGES = np.concatenate([
    tiny.images(3, 40)[0], tiny.strange(4, 20),
    np.random.default_rng(6).integers(0, 256, (10, tiny.SIDE, tiny.SIDE, 3), np.uint8),
    np.full((2, tiny.SIDE, tiny.SIDE, 3), 127, np.uint8),
])


@pytest.fixture(autouse=True, scope='module')
def _few_ranges():
    # Colour scales cost most of a fit as small as these.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('nav_monitor_ros.fitting.fit.RANGE_SAMPLE', 2)
        yield


class Judged:
    """A monitor that was fitted to a network, and its scores of some images."""

    def __init__(self, running: RunningNetwork) -> None:
        self.bundle: Bundle = fit(
            running, tiny.SPEC, tiny.source(1, 200), tiny.source(2, 150), OPTIONS)
        batch = np.stack([tiny.PREPROCESS.apply(image) for image in IMAGES])
        judge = self.bundle.judge(also='all')
        self.activations: Activations = running(batch)
        self.scores = judge.scores_of(self.activations)
        self.p_values = judge.p_values(self.activations)

    def flagged(self, name: str) -> np.ndarray:
        return self.p_values[name] <= self.limits(name)

    def limits(self, name: str) -> np.ndarray:
        return self.bundle.calibration.thresholds[name][self.activations.predicted]

    def calibration_scores(self, name: str) -> np.ndarray:
        calibration = self.bundle.calibration
        ranked = calibration.fused if name == FUSED else calibration.scores[name]
        return np.sort(np.concatenate([cell.scores for cell in ranked.cells]))


def judged(network: nn.Module) -> Judged:
    return Judged(Classifier(copy.deepcopy(network).eval(), tiny.PREPROCESS))


@cache
def layers(plan: Plan):
    return layers_of(plan)


@cache
def original(plan: Plan) -> Judged:
    return judged(Blocks(plan, layers(plan)))


def differences(one: Judged, other: Judged) -> list[str]:
    """Return in which scores and flags two monitors differ, besides rounding."""
    if list(one.scores) != list(other.scores):
        return [f'scores are {list(other.scores)}']
    if one.bundle.calibration.fusion_members != other.bundle.calibration.fusion_members:
        return [f'fused are {other.bundle.calibration.fusion_members}']
    found = []
    for name, expected in one.scores.items():
        ranked = one.calibration_scores(name)
        # A score near 0 has the size of its spread.
        band = TOLERANCE * np.maximum(np.abs(expected), ranked.std())
        if name == FUSED:  # far beyond all calibration scores, the tail amplifies rounding
            band = np.where(expected > 3 * ranked[-1], 10 * band, band)
        away = np.abs(other.scores[name] - expected)
        if not (away <= band).all():
            worst = np.max(away / np.maximum(band, 1e-30))
            found.append(f'{name} by {TOLERANCE * worst:.1e}')
        nearest = np.abs(ranked[None] - expected[:, None]).min(axis=1)
        changed = (one.flagged(name) != other.flagged(name)) & (nearest > band)
        if changed.any():
            found.append(f'{name} flags {changed.sum()} images otherwise')
    return found


REWRITINGS = {
    'constant on the logits': lambda plan: Blocks(plan, with_constant(layers(plan))),
    'factor moved': lambda plan: Blocks(plan, with_factor(layers(plan), plan)),
    'functions': lambda plan: Parts(plan, layers(plan)),
    'in place': lambda plan: Blocks(plan, layers(plan), inplace=True),
    'functions in place': lambda plan: Parts(plan, layers(plan), inplace=True),
    'batch norm folded': lambda plan: Blocks(plan, folded(layers(plan))),
    'renamed': lambda plan: renamed(Blocks(plan, layers(plan))),
    'softmax appended': lambda plan: softmaxed(Blocks(plan, layers(plan))),
    'fused': lambda plan: fused_relu(layers(plan), plan),
    'all together': lambda plan: softmaxed(
        Parts(plan, with_constant(folded(_moved(plan, layers(plan)))))),
}


def _moved(plan: Plan, parts):
    return with_factor(parts, plan, 0.031) if plan.homogeneous else parts


def applies(rewriting: str, plan: Plan) -> bool:
    if rewriting == 'factor moved':
        return plan.homogeneous
    if rewriting == 'fused':
        return plan.activation == 'relu'
    if rewriting == 'batch norm folded':
        return plan.normalised
    return 'in place' not in rewriting or plan.activation != 'gelu'


CASES = [
    pytest.param(plan, rewriting, id=f'network{plan.seed}-{rewriting}')
    for plan in PLANS for rewriting in REWRITINGS if applies(rewriting, plan)
]


@pytest.mark.parametrize(('plan', 'rewriting'), CASES)
def test_a_rewritten_network_is_judged_as_before(plan, rewriting):
    torch.manual_seed(1)
    assert differences(original(plan), judged(REWRITINGS[rewriting](plan))) == []


def test_attention_is_judged_alike_with_separate_and_with_packed_projections():
    vit = Vit()
    assert differences(judged(vit), judged(separated(vit))) == []
    assert judged(vit).bundle.scores['channel_means'].options.layers


@pytest.mark.parametrize('factor', [0.01, 100.0])
def test_a_factor_moved_between_the_layers_of_a_transformer_changes_nothing(factor):
    vit = Vit()
    other = copy.deepcopy(vit)
    with torch.no_grad():
        for values in other.norm.parameters():
            values *= factor
        other.head.weight /= factor
    assert differences(judged(vit), judged(other)) == []


# In ONNX form.


def exported(network: nn.Module, path) -> OnnxClassifier:
    """Return a network as ``nav_monitor export`` writes it."""
    export_onnx(Classifier(copy.deepcopy(network), tiny.PREPROCESS), path, passes=0)
    return OnnxClassifier(OnnxGraph.read(path), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME))


def foreign(network: nn.Module, path) -> OnnxClassifier:
    """Return a network as anybody exports it."""
    torch.onnx.export(
        network, (torch.rand(2, 3, tiny.SIDE, tiny.SIDE),), str(path), dynamo=True, verbose=False,
        external_data=False, dynamic_shapes=({0: torch.export.Dim('n')},),
    )
    return OnnxClassifier(OnnxGraph.read(path), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME))


@pytest.mark.parametrize(('kind', 'form'), [('cnn', exported), ('cnn', foreign), ('vit', foreign)])
def test_a_network_in_onnx_form_is_judged_as_in_torch(kind, form, tmp_path):
    plan = Plan(seed=3, residual=True, pooled=True)
    network = Blocks(plan, layers(plan)).eval() if kind == 'cnn' else Vit()
    torch_form = judged(network)
    assert differences(torch_form, Judged(form(network, tmp_path / 'network.onnx'))) == []


# The cases in which this was found.


def test_very_negative_logits_do_not_turn_vim_into_energy():
    plan = Plan(seed=0)
    shifted = copy.deepcopy(layers(plan))
    with torch.no_grad():
        shifted['head'].bias -= 82
    scores = judged(Blocks(plan, shifted)).scores
    ranks = [np.argsort(np.argsort(scores[name])) for name in ('vim', 'energy')]
    assert np.corrcoef(*ranks)[0, 1] < 0.99
    for name in ('vim', 'energy', 'max_logit', 'react', 'ash', 'scale'):
        assert np.allclose(scores[name], original(plan).scores[name], rtol=1e-3, atol=1e-3)


class Functional(nn.Module):
    """A network whose activations and pooling are functions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 5 * 5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        return self.head(functional.relu(self.conv2(maps)).flatten(1))


def test_noise_does_not_look_like_grey_to_the_early_layers_of_functional_networks():
    rng = np.random.default_rng(0)
    shape = (tiny.SIDE, tiny.SIDE, 3)
    grey = np.clip(rng.normal(100, 20, (400, 1, 1, 3)) + rng.normal(0, 4, (400, *shape)), 0, 255)
    grey = grey.astype(np.uint8)
    noise = rng.integers(0, 201, (60, *shape), np.uint8)  # with the mean of grey
    labels = rng.integers(0, 3, 400)
    data, held_out = (
        from_arrays(f'grey-{part.start}', grey[part], labels[part])
        for part in (slice(0, 200), slice(200, 400))
    )
    running = Classifier(Functional().eval(), tiny.PREPROCESS)
    options = FitOptions(
        scores={'channel_means': {}}, false_alarm_rate=0.05, class_names=tiny.CLASSES)
    score = fit(running, tiny.SPEC, data, held_out, options).scores['channel_means']
    values = [
        score.score(running(np.stack([tiny.PREPROCESS.apply(image) for image in images])))
        for images in (grey[200:], noise)
    ]
    truth = np.repeat([0, 1], [len(part) for part in values])
    assert roc_auc_score(truth, np.concatenate(values)) > 0.999
