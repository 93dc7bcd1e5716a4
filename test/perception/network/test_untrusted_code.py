"""Whatever the code of a network raises, it is one line that names the code."""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest
import tiny

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.interrupt import Interrupted
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.network.untrusted_code import foreign_code


class Stop(BaseException):
    """What some frameworks raise to unwind everything."""


RAISED = [SystemExit(3), SystemExit(), Stop('enough'), GeneratorExit()]
SPELT = ['SystemExit: 3', 'SystemExit', 'Stop: enough', 'GeneratorExit']


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes a module of that source; it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source):
        (tmp_path / 'stopping_net.py').write_text(source)

    yield write
    sys.modules.pop('stopping_net', None)


@pytest.mark.parametrize(('source', 'words'), [
    ('def make():\n    raise SystemExit(3)\n',
     r'stopping_net:make\(\) raised SystemExit: 3'),
    ('class Stop(BaseException):\n    pass\n\ndef make():\n    raise Stop("enough")\n',
     r'stopping_net:make\(\) raised Stop: enough'),
    ('import argparse\nargparse.ArgumentParser().parse_args(["--no"])\n\ndef make():\n    pass\n',
     r"network package 'stopping_net' cannot be imported: it raised SystemExit: 2"),
    ('from torch import nn\n\nclass make(nn.Module):\n    def eval(self):\n'
     '        raise SystemExit("not now")\n',
     r'stopping_net:make\(\) raised SystemExit: not now'),
])
def test_a_factory_that_ends_the_process_is_refused_by_name(package, source, words):
    package(source)
    with pytest.raises(NavMonitorError, match=words):
        NetworkSpec('stopping_net:make').build(['stopping_net'])


class Moody(tiny.Bars):
    """Raises what it is told to."""

    error: BaseException | None = None

    def forward(self, images):
        if self.error is not None:
            raise self.error
        return super().forward(images)


@pytest.mark.parametrize(('error', 'spelt'), list(zip(RAISED, SPELT, strict=True)))
def test_a_forward_pass_that_ends_the_process_is_one_error_that_names_the_network(error, spelt):
    network = Moody()
    classifier = Classifier(network, tiny.PREPROCESS)
    network.error = error
    batch = np.zeros((1, *classifier.input_shape), np.float32)
    with pytest.raises(NavMonitorError, match=f'the network Moody raised {spelt}$'):
        classifier(batch)
    with pytest.raises(NavMonitorError, match=f'the network Moody raised {spelt}$'):
        Classifier(network, tiny.PREPROCESS)


def test_ordinary_errors_pass_as_they_are():
    with pytest.raises(ZeroDivisionError), foreign_code('here'):
        raise ZeroDivisionError


def test_an_interrupt_of_the_user_passes_and_one_of_the_code_does_not():
    with pytest.raises(Interrupted), foreign_code('here'):
        raise Interrupted
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), foreign_code('here'):
            raise KeyboardInterrupt
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with pytest.raises(NavMonitorError, match='here raised KeyboardInterrupt'):
            with foreign_code('here'):
                raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
