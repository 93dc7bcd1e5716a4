"""Networks of torch: built from their names, without running untrusted code."""

from __future__ import annotations

import functools
import sys
import types

import pytest
import tiny

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.specification import NetworkSpec


@pytest.fixture
def foreign(monkeypatch):
    """Provide a package with all sorts of factories."""
    module = types.ModuleType('foreign')
    module.Bars = tiny.Bars
    module.Family = type('Family', (), {'small': staticmethod(lambda: tiny.Bars(width=3))})
    module.number = 3
    module.text = lambda: 'a text'
    module.broken = functools.partial(int, 'a\nb')
    monkeypatch.setitem(sys.modules, 'foreign', module)


@pytest.mark.usefixtures('foreign')
def test_a_trusted_factory_is_called_with_its_arguments():
    network = NetworkSpec('foreign:Bars', {'classes': 7}).build(['foreign'])
    assert network.fc2.out_features == 7
    assert not network.training


@pytest.mark.usefixtures('foreign')
def test_a_factory_may_be_a_method_of_a_class():
    assert NetworkSpec('foreign:Family.small').build(['foreign']).fc1.out_features == 3


def test_torchvision_and_the_packages_own_networks_need_no_trust():
    network = NetworkSpec('torchvision:squeezenet1_1', {'num_classes': 3}).build()
    assert network.num_classes == 3
    assert NetworkSpec('nav_monitor_ros.perception.reference_networks:DigitsNet').build()


def test_code_of_an_untrusted_package_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / 'evil_package.py').write_text('raise SystemExit("ran")\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NavMonitorError, match='--trust evil_package'):
        NetworkSpec('evil_package:make').build(['evil', 'evil_package.make'])
    assert 'evil_package' not in sys.modules


@pytest.mark.usefixtures('foreign')
@pytest.mark.parametrize(
    ('spec', 'said'),
    [
        ('resnet18', 'package.module:factory'),
        (':Bars', 'package.module:factory'),
        ('foreign:', 'package.module:factory'),
        ('foreign:Missing', "'foreign' has no 'Missing'"),
        ('foreign:Family.large', "has no 'Family.large'"),
        ('foreign:number', 'cannot be called'),
        ('foreign:text', 'returned a str'),
        ('foreign:broken', 'failed'),
        ('foreign.part:Bars', 'cannot be imported'),
        ('torchvision:resnet19', "no network 'resnet19'"),
    ],
)
def test_a_bad_specification_is_refused_in_one_line(spec, said):
    with pytest.raises(NavMonitorError, match=said) as caught:
        NetworkSpec(spec).build(['foreign'])
    assert '\n' not in str(caught.value)


@pytest.mark.usefixtures('foreign')
def test_arguments_that_the_factory_lacks_are_named():
    with pytest.raises(NavMonitorError, match='depth=5'):
        NetworkSpec('foreign:Bars', {'depth': 5}).build(['foreign'])
