"""The same verdicts on a GPU, by recorded passes, in two precisions. Needs a GPU."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from nav_monitor_ros.benchmark.synthetic_bundle import fitted_bundle, pictures
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import configure_for_scores, load_torch_network
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.fitting.train import train
from nav_monitor_ros.inspection.gradients import Differentiable
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.network.backends import TORCH, Engine
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.runtime.incident_frames import held_bytes
from nav_monitor_ros.runtime.monitor import Monitor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

IMAGES = [DecodedImage(pixels, 'rgb') for pixels in pictures(40, 3, (60, 80))]


class Dropping(nn.Module):
    """A residual addition in place, and dropout in the head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(24, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.conv(images))
        second = self.again(first)
        second += first
        return self.fc(self.drop(self.flatten(self.pool(self.relu(second)))))


class Undecided(Dropping):
    """A network that looks at its images and branches, which cannot be recorded."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if float(images.mean()) > 0 else -images)


def pixels(count: int, seed: int = 5) -> np.ndarray:
    return np.stack([tiny.PREPROCESS.apply(image) for image in tiny.images(seed, count)[0]])


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', [Dropping, Undecided])
def test_every_output_is_that_of_the_processor(kind, caplog):
    with caplog.at_level(logging.WARNING):
        on_gpu, on_cpu = (
            Classifier(kind(), tiny.PREPROCESS, device=device, background=-1)
            for device in ('cuda', 'cpu')
        )
        for number, taps in enumerate(([], ['again'], [], ['pool', 'conv'])):
            for classifier in (on_gpu, on_cpu):
                classifier.watch(['conv'])
                classifier.sample_dropout(5 + number)
                classifier.tap(taps)
            for count in (1, 4, 8, 9, 1):
                batch = pixels(count, seed=10 * number + count)
                found, expected = on_gpu(batch), on_cpu(batch)
                close(found.logits, expected.logits)
                close(found.features, expected.features)
                close(found.background, expected.background)
                close(found.samples, expected.samples)
                assert list(found.means) == list(expected.means) == ['conv']
                close(found.means['conv'], expected.means['conv'])
                assert list(found.maps) == taps
                for name in taps:
                    close(found.maps[name], expected.maps[name])
    assert ('runs without a CUDA graph' in caplog.text) == (kind is Undecided)


def test_what_one_pass_gave_outlives_the_next():
    classifier = Classifier(Dropping(), tiny.PREPROCESS, device='cuda')
    first = classifier(pixels(1, 1))
    kept = first.logits.copy()
    classifier(pixels(1, 2))
    assert np.array_equal(first.logits, kept)


@pytest.mark.parametrize('name', ['digits', 'traffic_signs'])
def test_shipped_bundles_judge_as_on_the_processor(name):
    bundle = load_bundle(name)
    by_gpu, by_cpu = (Monitor(bundle, backend=backend, device=device, also=['all'])
                      for backend, device in (('auto', 'cuda'), (TORCH, 'cpu')))
    assert by_gpu.classifier.engine == Engine(TORCH)
    assert str(by_gpu.classifier.device) == 'cuda:0'
    for image in IMAGES:
        found, expected = by_gpu.look(image).verdict, by_cpu.look(image).verdict
        assert (found.class_index, found.is_ood) == (expected.class_index, expected.is_ood)
        for score, value in expected.scores.items():
            if score != 'window_kl':  # adds up what all frames before gave
                assert found.scores[score].score == pytest.approx(value.score, rel=1e-3, abs=1e-3)


def test_tensorfloat_is_used_once_it_was_tried(tmp_path):
    bundle, calibration = fitted_bundle(tmp_path / 'b', 'resnet18')
    reference = load_torch_network(bundle, 'cpu', 0, ())
    configure_for_scores(reference, bundle.scores.values())
    export(bundle, reference, calibration, [TORCH], tmp_path / 'b', threads=0)
    bundle = load_bundle(tmp_path / 'b')
    on_gpu = Monitor(bundle, device='cuda')
    assert str(on_gpu.classifier.engine) == 'torch_tf32'
    assert Monitor(bundle, device='cpu').classifier.engine == Engine(TORCH)
    batch = pixels(1)
    assert batch.shape[1] == 3
    source = from_arrays('inside', pictures(100, 9, (48, 64)), np.zeros(100, np.int64))
    found, expected = run(on_gpu.classifier, source), run(reference, source)
    change = np.abs(found.logits - expected.logits).max() / np.abs(expected.logits).max()
    assert 1e-6 < change < 1e-2  # it is another precision, and not too rough
    flagged = on_gpu.judge.p_values(found)['fused'] <= on_gpu.judge.thresholds[found.predicted]
    assert flagged.mean() <= bundle.calibration.alpha + 0.09  # 3 sigma of 100 images
    # Whoever runs next in single precision gets it.
    plain = load_torch_network(bundle, 'cuda', 0, ())
    configure_for_scores(plain, bundle.scores.values())
    close(run(plain, source).features, expected.features)


def test_gradients_are_those_of_the_processor():
    batch, targets = pixels(3), np.array([0, 1, 3])
    on_gpu, on_cpu = (
        Differentiable(
            Classifier(Dropping(), tiny.PREPROCESS, device=device).network, batch.shape[1:]
        )
        for device in ('cuda', 'cpu')
    )
    close(on_gpu.input_gradient(batch, targets), on_cpu.input_gradient(batch, targets))
    close(
        on_gpu.weight_gradient(batch[0], 1, 'conv'), on_cpu.weight_gradient(batch[0], 1, 'conv')
    )


def test_training_takes_place_on_the_gpu():
    images = from_arrays('noise', pictures(200, 3, (28, 28)), np.arange(200) % 10)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    lines = []
    trained = train('digits', images, epochs=2, device='cuda', log=lines.append)
    assert torch.cuda.max_memory_allocated() > before and len(lines) == 2
    assert all(parameter.device.type == 'cpu' for parameter in trained.network.parameters())


def test_what_is_kept_of_a_recorded_pass_is_small():
    classifier = Classifier(Dropping(), tiny.PREPROCESS, device='cuda')
    classifier.tap(['conv'])
    found = classifier(pixels(1))
    assert held_bytes(found.features) == found.features.nbytes
