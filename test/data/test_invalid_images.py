"""Images on which the network gives NaN or infinity, wherever many images go through it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.files_on_disk import open_files
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.files.pictures import write_png
from nav_monitor_ros.fitting import training_pass
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_checkpoint import FitCheckpoint
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.tuning.recorder import TuningOptions, TuningRecorder

OPTIONS = FitOptions(
    name='tiny', false_alarm_rate=0.05, class_names=tiny.CLASSES,
    scores={
        'pattern': {}, 'gaussian': {}, 'energy': {}, 'channel_means': {'layers': ['body.conv']},
    },
)


class Fragile(nn.Module):
    """The tiny network, on which a marked image gives what it is marked with."""

    def __init__(self, value):
        super().__init__()
        self.body = tiny.network()
        self.value = value

    def forward(self, images):
        marked = (images[:, :, 0, :3] > 1.99).flatten(1).all(1) & (images[:, 0, 0, 3] < -1.9)
        spoilt = images + torch.where(marked, self.value, 0.0)[:, None, None, None]
        return self.body(spoilt)


def spoilt(source, *places):
    """Return a source of which some images are marked."""
    pixels = np.stack([source.image(i) for i in range(len(source))])
    for place in places:
        pixels[place, 0, :3], pixels[place, 0, 3] = 255, 0
    return from_arrays(source.name, pixels, source.own_labels)


def fragile(value=float('nan')):
    return Classifier(Fragile(value), tiny.PREPROCESS)


def arrays(bundle):
    return {
        f'{name}/{key}': array
        for name, score in bundle.scores.items() for key, array in score.tensors().items()
    } | dict(bundle.calibration.tensors())


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize('place', [3, 399])
def test_an_image_that_gives_no_number_is_named_at_once(monkeypatch, value, place):
    monkeypatch.setattr(training_pass, 'SAMPLE', 64)  # the last image is not in it
    read = []
    data = spoilt(tiny.source(1, 400), place)
    watched = dataclasses.replace(data, read=lambda p: read.append(p) or data.read(p))
    with pytest.raises(NavMonitorError, match=f'image {place} .*of tiny-1: .*not finite') as caught:
        fit(fragile(value), tiny.SPEC, watched, tiny.source(2, 200), OPTIONS)
    assert '\n' not in str(caught.value)


def test_it_is_named_before_the_images_that_come_after_it_are_read():
    read = []
    data = spoilt(tiny.source(1, 5000), *range(0, 5000, 20))
    watched = dataclasses.replace(data, read=lambda p: read.append(p) or data.read(p))
    with pytest.raises(NavMonitorError, match='not finite'):
        fit(fragile(), tiny.SPEC, watched, tiny.source(2, 200), OPTIONS)
    assert len(read) < 1000


def test_a_calibration_image_that_gives_no_number_is_named():
    with pytest.raises(NavMonitorError, match='image 7 .*of tiny-2: .*not finite'):
        fit(fragile(), tiny.SPEC, tiny.source(1, 400), spoilt(tiny.source(2, 200), 7), OPTIONS)


def test_a_file_is_named(tmp_path):
    source = spoilt(tiny.source(1, 30), 12)
    for place in range(30):
        write_png(tmp_path / f'{place:03}.png', source.image(place))
    folder = open_files(str(tmp_path), str(tmp_path), {})
    with pytest.raises(NavMonitorError, match=r'012\.png: the network gave'):
        fit(fragile(), tiny.SPEC, folder, tiny.source(2, 200), OPTIONS)


def test_left_out_they_change_nothing_else(monkeypatch, caplog):
    monkeypatch.setattr(training_pass, 'SAMPLE', 200)
    monkeypatch.setattr(training_pass, 'sample_and_rest', lambda count, seed: (
        np.arange(count - 203), np.arange(count - 203, count)  # the same order with and without
    ))
    data, calibration = tiny.source(1, 400), tiny.source(2, 200)
    bad, bad_calibration = [0, 60, 250, 399], [5, 199]
    skipping = dataclasses.replace(OPTIONS, skip_invalid=True)
    found = fit(
        fragile(), tiny.SPEC, spoilt(data, *bad), spoilt(calibration, *bad_calibration), skipping,
    )
    assert found.provenance['data']['images'] == 396
    assert found.provenance['calibration']['images'] == 198
    assert found.provenance['images_left_out'] == 6
    assert len(found.calibration_images) == 198
    assert 'left out, as they give NaN or infinity: image' in caplog.text
    assert 'and 1 more' in caplog.text
    for _, array in arrays(found).items():
        assert array.dtype.kind != 'f' or np.isfinite(array).all()
    assert all(np.isfinite(limits).all() for limits in found.layer_ranges.values())
    # Means are of the good images alone.
    good = np.setdiff1d(np.arange(400), bad)
    seen = fragile()(np.stack([tiny.PREPROCESS.apply(data.image(int(i))) for i in good]))
    right = seen.predicted == data.own_labels[good]
    for label in range(3):
        rows = seen.features[right & (data.own_labels[good] == label)]
        assert np.allclose(found.scores['gaussian'].mean[label], rows.mean(0), atol=1e-4)


def test_a_fit_that_was_interrupted_leaves_them_out_too(tmp_path, monkeypatch):
    monkeypatch.setattr(training_pass, 'SAMPLE', 64)
    data = spoilt(tiny.source(1, 400), *range(0, 400, 7))
    skipping = dataclasses.replace(OPTIONS, skip_invalid=True)
    calibration = tiny.source(2, 200)
    whole = fit(fragile(), tiny.SPEC, data, calibration, skipping)
    reads = []

    def failing(place):
        reads.append(place)
        if len(reads) > 300:
            raise KeyboardInterrupt
        return data.read(place)

    with pytest.raises(KeyboardInterrupt):
        fit(fragile(), tiny.SPEC, dataclasses.replace(data, read=failing), calibration, skipping,
            checkpoint=FitCheckpoint(tmp_path, 0), workers=1)
    kept = FitCheckpoint(tmp_path, 0)
    again = fit(fragile(), tiny.SPEC, data, calibration, skipping, checkpoint=kept)
    assert kept.resumed_at
    assert again.provenance['data'] == whole.provenance['data']
    assert again.provenance['images_left_out'] == whole.provenance['images_left_out']
    for name, array in arrays(whole).items():
        assert np.array_equal(array, arrays(again)[name]), name


def test_too_few_that_are_left_to_calibrate_are_refused():
    skipping = dataclasses.replace(OPTIONS, skip_invalid=True)
    with pytest.raises(NavMonitorError, match='too few'):
        fit(fragile(), tiny.SPEC, tiny.source(1, 400),
            spoilt(tiny.source(2, 200), *range(150)), skipping)


def test_a_network_that_gives_no_number_for_any_image_is_refused():
    skipping = dataclasses.replace(OPTIONS, skip_invalid=True)
    with pytest.raises(NavMonitorError, match='for all of 40 images'):
        fit(fragile(), tiny.SPEC, spoilt(tiny.source(1, 40), *range(40)),
            tiny.source(2, 200), skipping)


def test_evaluate_export_and_tuning_name_it(tmp_path, caplog):
    running = fragile()
    bundle = fit(running, tiny.SPEC, tiny.source(1, 400), tiny.source(2, 200), OPTIONS)
    with pytest.raises(NavMonitorError, match='image 9 .*of tiny-3'):
        evaluate(running, bundle.judge(also=['all']), spoilt(tiny.source(3, 30), 9), {})
    save_bundle(bundle, running, tmp_path / 'b', card='')
    other = spoilt(tiny.source(4, 200), 11)
    with pytest.raises(NavMonitorError, match='image 11 .*of tiny-4'):
        export(load_bundle(tmp_path / 'b'), running, other, ['onnxruntime'], tmp_path / 'b')
    recorder = TuningRecorder(
        tmp_path / 'tuning', running, spoilt(tiny.source(5, 30), 2), tiny.CLASSES,
        TuningOptions(), network='tiny',
    )
    assert recorder.record('last').layers[0].broken.any()  # goes on, since its page shows them
    assert 'last: the network gives NaN or infinity for image 2 ' in caplog.text
