"""What a network returns: logits or what was made of them, one output or several, or no classes."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import tiny
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.gradients import Differentiable
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.logits import SelectedOutput
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.network.torch.structure import probe_structure

TEMPERATURE = 2.5
SIDE = tiny.SIDE
BATCH = np.random.default_rng(5).normal(size=(6, 3, SIDE, SIDE)).astype(np.float32)


class Pooled(nn.Module):
    """Classifies by convolutions alone: no linear layer comes before what it ends in."""

    def __init__(self, end, classes=4):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 8, 3)
        self.score = nn.Conv2d(8, classes, 1)
        nn.init.normal_(self.score.weight, std=3.0)
        self.end = end

    def forward(self, images):
        return self.end(self.score(functional.relu(self.conv(images))).mean((2, 3)))


class Headed(nn.Module):
    """The same features with a linear head."""

    def __init__(self, end, classes=4):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, classes)
        nn.init.normal_(self.fc.weight, std=3.0)
        self.end = end

    def forward(self, images):
        return self.end(self.fc(functional.relu(self.conv(images)).mean((2, 3))))


class AsModule(nn.Module):
    """Runs a function, so that ``torch.onnx.export`` sees a module like any other."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, rows):
        return self.function(rows)


def written_out(rows):
    raised = torch.exp(rows - rows.amax(1, keepdim=True))
    return raised / raised.sum(1, keepdim=True)


SOFTMAXES = {
    'module': nn.Softmax(1),
    'last axis': nn.Softmax(-1),
    'function': lambda z: functional.softmax(z, dim=1),
    'method': lambda z: z.softmax(-1),
    'reshaped': lambda z: z.softmax(1).reshape(-1, 2, 2).flatten(1),
    'squeezed': lambda z: z[:, :, None, None].softmax(1).squeeze(-1).squeeze(-1),
    'written out': written_out,
    'exp of log': lambda z: z.log_softmax(1).exp(),
    'log': nn.LogSoftmax(1),
    'log as a function': lambda z: functional.log_softmax(z, dim=1),
    'log of it': lambda z: z.softmax(1).log(),
}
SIGMOIDS = {
    'sigmoid module': nn.Sigmoid(),
    'sigmoid function': torch.sigmoid,
    'sigmoid method': lambda z: z.sigmoid(),
    'sigmoid in place': lambda z: z.sigmoid_(),
    'sigmoid reshaped': lambda z: z.sigmoid().reshape(-1, 2, 2).flatten(1),
}
TEMPERED = {
    'softmax': lambda z: (z / TEMPERATURE).softmax(1),
    'multiplied': lambda z: functional.softmax(z * (1 / TEMPERATURE), 1),
    'in place': lambda z: z.div_(TEMPERATURE).softmax(1),
    'log softmax': lambda z: functional.log_softmax(z / TEMPERATURE, 1),
    'no softmax': lambda z: z / TEMPERATURE,
    'sigmoid': lambda z: torch.sigmoid(z / TEMPERATURE),
}


def centred(rows):
    return rows - rows.mean(axis=1, keepdims=True)


def confidences(logits):
    return torch.from_numpy(logits).double().softmax(1).numpy()


@pytest.fixture(scope='module')
def expected():
    """Return the logits of the two networks without an end."""
    return {
        kind: kind(nn.Identity()).eval()(torch.from_numpy(BATCH)).detach().numpy()
        for kind in (Pooled, Headed)
    }


@pytest.mark.parametrize('end', SOFTMAXES)
@pytest.mark.parametrize('kind', [Pooled, Headed])
def test_the_logits_are_those_before_a_softmax_however_it_is_written(expected, kind, end):
    layer = 'conv' if kind is Pooled else 'penultimate'
    found = Classifier(kind(SOFTMAXES[end]), tiny.PREPROCESS, layer=layer)(BATCH)
    assert np.allclose(centred(found.logits), centred(expected[kind]), atol=2e-4)
    assert np.allclose(confidences(found.logits), confidences(expected[kind]), atol=1e-5)


@pytest.mark.parametrize('end', SIGMOIDS)
@pytest.mark.parametrize('kind', [Pooled, Headed])
def test_the_logits_are_those_before_a_sigmoid(expected, kind, end):
    layer = 'conv' if kind is Pooled else 'penultimate'
    found = Classifier(kind(SIGMOIDS[end]), tiny.PREPROCESS, layer=layer)(BATCH)
    assert np.allclose(found.logits, tiny.centred(expected[kind]), atol=1e-3)


@pytest.mark.parametrize('end', TEMPERED)
def test_a_temperature_belongs_to_logits_and_head(expected, end):
    classifier = Classifier(Headed(TEMPERED[end]), tiny.PREPROCESS)
    found = classifier(BATCH)
    wanted = tiny.centred(expected[Headed] / TEMPERATURE)
    assert np.allclose(found.logits, wanted, rtol=1e-4, atol=1e-5)
    assert np.allclose(classifier.head.logits(found.features), found.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('end', [
    lambda z: z.reshape(-1, 5, 2).softmax(1).reshape(-1, 10),
    lambda z: z.reshape(-1, 5, 2).softmax(2).flatten(1),
    lambda z: z.reshape(-1, 2, 5).log_softmax(1).flatten(1),
    lambda z: z.reshape(-1, 2, 5).transpose(1, 2).softmax(-1).transpose(1, 2).flatten(1),
])
@pytest.mark.parametrize('kind', [Pooled, Headed])
def test_a_softmax_over_groups_of_classes_is_none_over_all(kind, end):
    network = kind(end, classes=10).eval()
    assert probe_structure(network, (3, SIDE, SIDE)).head is None
    running = Classifier(network, tiny.PREPROCESS, layer='conv')
    found = running(BATCH)
    returned = network(torch.from_numpy(BATCH)).detach()
    assert np.allclose(found.logits, tiny.centred(returned), atol=1e-6)
    assert running.head is None


@pytest.mark.parametrize('end', [nn.Softmax(0), nn.LogSoftmax(0), lambda z: z - z.mean(0)])
@pytest.mark.parametrize('kind', [Pooled, Headed])
def test_a_network_whose_answers_depend_on_the_other_images_is_refused(kind, end):
    with pytest.raises(NavMonitorError, match='depends on the other images of its batch'):
        Classifier(kind(end), tiny.PREPROCESS, layer='conv')


def test_a_certain_answer_stays_certain():
    certain = Pooled(lambda z: (z * 100).softmax(1))
    shown = confidences(Classifier(certain, tiny.PREPROCESS, layer='conv')(BATCH).logits)
    own = certain(torch.from_numpy(BATCH)).detach().numpy()
    assert own.max(1).max() > 0.9999
    assert np.allclose(shown, own, atol=1e-5) and np.isfinite(shown).all()


def test_answers_that_a_float_rounds_to_0_and_1_are_finite():
    for end in (lambda z: (z * 1e4).softmax(1), lambda z: torch.sigmoid(z * 1e4)):
        found = Classifier(Pooled(end), tiny.PREPROCESS, layer='conv')(BATCH)
        assert np.isfinite(found.logits).all()


def test_values_that_only_look_like_probabilities_of_one_class_are_logits():
    for end in (torch.tanh, lambda z: z.abs(), lambda z: functional.normalize(z).abs()):
        network = Pooled(end).eval()
        found = Classifier(network, tiny.PREPROCESS, layer='conv')(BATCH)
        returned = network(torch.from_numpy(BATCH)).detach()
        assert np.allclose(found.logits, tiny.centred(returned), atol=1e-6)


def test_the_head_of_a_network_with_spoilt_weights_is_found():
    network = Headed(nn.Identity()).eval()
    network.fc.weight.data[1, 2] = float('nan')
    assert probe_structure(network, (3, SIDE, SIDE)).head == 'fc'


def test_a_bent_output_is_no_temperature():
    for end in (torch.tanh, lambda z: torch.tanh(z * 1e-2), lambda z: z * z.abs()):
        assert probe_structure(Headed(end).eval(), (3, SIDE, SIDE)).head is None


def test_a_head_that_gives_a_sequence_of_one_token_is_found():
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(3 * SIDE * SIDE, 9), nn.Linear(9, 4)

        def forward(self, images):
            return self.head(self.embed(images.flatten(1)[:, None])).softmax(-1)[:, 0]

    classifier = Classifier(Token(), tiny.PREPROCESS)
    found = classifier(BATCH)
    assert found.features.shape == (6, 9) and found.logits.shape == (6, 4)
    assert np.allclose(classifier.head.logits(found.features), found.logits, atol=1e-4)


@pytest.mark.parametrize(('kind', 'end'), [
    (Pooled, SOFTMAXES['module']), (Pooled, SIGMOIDS['sigmoid module']),
    (Headed, TEMPERED['softmax']),
])
def test_gradients_are_those_of_the_same_logits(kind, end):
    network = kind(end).eval()
    layer = 'conv' if kind is Pooled else 'penultimate'
    logits = Classifier(network, tiny.PREPROCESS, layer=layer)(BATCH).logits
    differentiable = Differentiable(network, (3, SIDE, SIDE))
    found = differentiable.logits(differentiable.tensor(BATCH))
    assert np.allclose(tiny.centred(found.detach().numpy()), logits, atol=1e-4)
    assert np.abs(differentiable.input_gradient(BATCH[:2], np.array([0, 1]))).max() > 1e-3


# ------------------------------------------------------------------ the same in ONNX form


def exported(network, path, **options):
    torch.onnx.export(
        network.eval(), (torch.rand(2, 3, SIDE, SIDE),), str(path), dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim('n')},), **{'external_data': False, **options},
    )
    return path


def onnx_of(path, layer='penultimate', output=None):
    return start_network(NetworkSpec('onnx', output=output), path, tiny.PREPROCESS, layer=layer)


@pytest.mark.parametrize('end', [*SOFTMAXES, *(end for end in SIGMOIDS if 'place' not in end)])
def test_an_onnx_file_has_the_logits_of_its_network(expected, tmp_path, end):
    ends = {**SOFTMAXES, **SIGMOIDS}
    path = exported(Pooled(AsModule(ends[end])), tmp_path / 'a.onnx')
    layer = next(one.name for one in OnnxGraph.read(path).layers if one.kind == 'Conv')
    found = onnx_of(path, layer)(BATCH)
    assert np.allclose(centred(found.logits), centred(expected[Pooled]), atol=1e-3)


@pytest.mark.parametrize('end', [e for e in TEMPERED if e != 'in place'])
def test_a_temperature_in_an_onnx_file_belongs_to_logits_and_head(expected, tmp_path, end):
    running = onnx_of(exported(Headed(AsModule(TEMPERED[end])), tmp_path / 'a.onnx'))
    found = running(BATCH)
    assert np.allclose(centred(found.logits), centred(expected[Headed] / TEMPERATURE), atol=1e-4)
    assert np.allclose(running.head.logits(found.features), found.logits, rtol=1e-4, atol=1e-4)


def test_what_an_onnx_network_returns_is_noted_in_its_bundle(tmp_path):
    path = exported(Pooled(AsModule(written_out), classes=3), tmp_path / 'a.onnx')
    layer = next(one.name for one in OnnxGraph.read(path).layers if one.kind == 'Conv')
    running = onnx_of(path, layer)
    bundle = tiny.fitted(
        running, NetworkSpec('onnx'), scores={'gaussian': {}, 'energy': {}, 'msp': {}},
        class_names=tiny.CLASSES,
    )
    save_bundle(bundle, running, tmp_path / 'bundle', card=model_card(bundle))
    assert OnnxGraph.read(tmp_path / 'bundle' / 'model.onnx').form == 'probabilities'
    again = load_network(load_bundle(tmp_path / 'bundle'))
    assert np.array_equal(again(BATCH).logits, running(BATCH).logits)


# ------------------------------------------------------------------ several outputs, or none


class Several(nn.Module):
    """The tiny network with its features beside its scores."""

    def __init__(self, form=tuple):
        super().__init__()
        self.body = tiny.network()
        self.form = form

    def forward(self, images):
        scores = self.body(images)
        return self.form((images.flatten(1)[:, :7], scores))


Both = namedtuple('Both', 'features scores')
FORMS = {
    'tuple': (tuple, 1), 'list': (list, -1), 'named tuple': (lambda both: Both(*both), 'scores'),
    'dictionary': (lambda both: OrderedDict(features=both[0], scores=both[1]), 'scores'),
    'dictionary by number': (lambda both: {'features': both[0], 'scores': both[1]}, 1),
}


def several(form='tuple'):
    """Return a network with two outputs, for ``test_logits:several``."""
    return Several(FORMS[form][0])


@pytest.mark.parametrize('form', FORMS)
def test_one_of_several_outputs_is_monitored(tmp_path, form):
    weights = tmp_path / 'w.safetensors'
    save_file(Several().state_dict(), weights)
    spec = NetworkSpec('test_logits:several', {'form': form}, FORMS[form][1])
    running = start_network(spec, weights, tiny.PREPROCESS, device='cpu')
    assert np.array_equal(running(BATCH).logits, tiny.classifier()(BATCH).logits)
    bundle = tiny.fitted(running, spec)
    save_bundle(bundle, running, tmp_path / 'bundle', card=model_card(bundle))
    again = load_bundle(tmp_path / 'bundle')
    assert again.network == spec
    found = load_network(again, device='cpu', trusted_packages=['test_logits'])
    assert np.array_equal(found(BATCH).logits, running(BATCH).logits)
    gradients = Differentiable(found.network, (3, SIDE, SIDE))
    assert gradients.input_gradient(BATCH[:1], np.array([1])).any()


def test_several_outputs_of_which_none_is_named_are_listed():
    listed = r'features \(2, 7\), scores \(2, 3\).*--output-index'
    with pytest.raises(NavMonitorError, match=listed):
        Classifier(several('dictionary'), tiny.PREPROCESS)
    for wanted in (2, -3, 'logits'):
        network = several()
        network.register_forward_hook(SelectedOutput(wanted))
        with pytest.raises(NavMonitorError, match=f"no output '{wanted}'.*0 .*1 "):
            Classifier(network, tiny.PREPROCESS)


def test_several_outputs_of_an_onnx_file(tmp_path):
    path = exported(Several(), tmp_path / 'a.onnx', output_names=['features', 'scores'])
    with pytest.raises(NavMonitorError, match=r'0 features .*1 scores .*--output-index'):
        onnx_of(path)
    with pytest.raises(NavMonitorError, match="no output 'logits'.*0 features"):
        onnx_of(path, output='logits')
    expected = tiny.classifier()(BATCH).logits
    for output in (1, -1, 'scores'):
        running = onnx_of(path, output=output)
        assert np.allclose(running(BATCH).logits, expected, atol=1e-4)
    spec = NetworkSpec('onnx', output='scores')
    bundle = tiny.fitted(running, spec)
    save_bundle(bundle, running, tmp_path / 'bundle', card=model_card(bundle))
    again = load_network(load_bundle(tmp_path / 'bundle'))
    assert np.array_equal(again(BATCH).logits, running(BATCH).logits)


class Boxes(nn.Module):
    def forward(self, images):
        return [{'boxes': torch.zeros(1, 4), 'scores': torch.ones(1)} for _ in images]


@pytest.mark.parametrize(('network', 'side', 'said'), [
    (lambda: torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=2), 64, r'boxes.*detectors.*classifiers'),
    (lambda: torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=2), 32, r'out.*segmentation.*classifiers'),
    (Boxes, 12, r'boxes, scores.*detectors.*this monitors classifiers'),
    (lambda: nn.Conv2d(3, 5, 1), 12, r'map.*segmentation.*this monitors classifiers'),
    (lambda: nn.Sequential(nn.Flatten(2)), 12, r'\(2, 3, 144\).*this monitors classifiers'),
])
def test_networks_that_are_no_classifiers_are_told_what_this_monitors(network, side, said):
    with pytest.raises(NavMonitorError, match=said) as caught:
        probe_structure(network().eval(), (3, side, side))
    assert '\n' not in str(caught.value)


# ------------------------------------------------------------------ other people's ONNX files


def test_a_batch_axis_of_minus_one_is_any_number(tmp_path):
    import onnx

    path = exported(tiny.network(), tmp_path / 'a.onnx')
    model = onnx.load(path)
    for info in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        dim = info.type.tensor_type.shape.dim[0]
        dim.ClearField('dim_param')
        dim.dim_value = -1
    path.write_bytes(model.SerializeToString())
    running = onnx_of(path)
    expected = tiny.classifier()(BATCH)
    for count in (1, 6):
        assert np.allclose(running(BATCH[:count]).logits, expected.logits[:count], atol=1e-4)
    assert running.width == tiny.WIDTH


def test_weights_beside_an_onnx_file_are_read_and_move_into_the_bundle(tmp_path):
    import onnx

    whole = onnx.load(exported(tiny.network(), tmp_path / 'whole.onnx'))
    folder = tmp_path / 'network'
    folder.mkdir()
    onnx.save_model(
        whole, str(folder / 'a.onnx'), save_as_external_data=True, location='a.onnx.data',
        size_threshold=0,
    )
    running = onnx_of(folder / 'a.onnx')
    assert np.allclose(running(BATCH).logits, tiny.classifier()(BATCH).logits, atol=1e-4)
    bundle = tiny.fitted(running, NetworkSpec('onnx'))
    save_bundle(bundle, running, tmp_path / 'bundle', card=model_card(bundle))
    assert load_network(load_bundle(tmp_path / 'bundle'))(BATCH).logits.shape == (6, 3)
    with pytest.raises(NavMonitorError, match=r'in another file.*external_data=False'):
        OnnxGraph.read(folder / 'a.onnx')  # as a bundle's is read
    data = (folder / 'a.onnx.data').read_bytes()
    (folder / 'a.onnx.data').write_bytes(data[:-8])
    with pytest.raises(NavMonitorError, match=r'a\.onnx\.data is too short'):
        onnx_of(folder / 'a.onnx')
    (folder / 'a.onnx.data').unlink()
    with pytest.raises(NavMonitorError, match=r'data, which does not exist.*external_data'):
        onnx_of(folder / 'a.onnx')


@pytest.mark.parametrize('place', ['../secret', '/etc/hostname', 'link'])
def test_weights_outside_of_an_onnx_files_folder_are_not_opened(tmp_path, place):
    import onnx

    whole = onnx.load(exported(tiny.network(), tmp_path / 'whole.onnx'))
    folder = tmp_path / 'network'
    folder.mkdir()
    (tmp_path / 'secret').write_bytes(bytes(100_000))
    (folder / 'link').symlink_to(tmp_path / 'secret')
    for tensor in whole.graph.initializer:
        tensor.ClearField('raw_data')
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = 'location', place
    (folder / 'a.onnx').write_bytes(whole.SerializeToString())
    with pytest.raises(NavMonitorError, match='outside its folder'):
        onnx_of(folder / 'a.onnx')
