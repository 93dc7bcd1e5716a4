"""The table of ROS parameters: types, ranges, combinations, and what is written from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.camera.parameters import CAMERA_PARAMETERS
from nav_monitor_ros.ros.declared_parameters import plain
from nav_monitor_ros.ros.safety_stop.parameters import SAFETY_STOP_PARAMETERS
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all
from nav_monitor_ros.runtime.parameter_definition import Parameter, markdown_table, yaml_file

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}
ALL = [*PARAMETERS, *CAMERA_PARAMETERS, *SAFETY_STOP_PARAMETERS]
NUMBERS = [p for p in ALL if p.type in ('int', 'float')]


def named(parameter):
    return parameter.name


def holds_one(parameter):
    low, high = parameter.low, parameter.high
    return (low is None or low <= 1) and (high is None or high >= 1)


def refused(parameter, value):
    with pytest.raises(NavMonitorError) as caught:
        parameter.check(value)
    said = str(caught.value)
    assert said.startswith(f'parameter {parameter.name} is ') and '\n' not in said
    return said


# Each parameter alone.


@pytest.mark.parametrize('parameter', ALL, ids=named)
def test_every_default_passes_its_own_check_unchanged(parameter):
    checked = parameter.check(parameter.default)
    assert checked == parameter.default and type(checked) is type(parameter.default)


@pytest.mark.parametrize(
    'parameter', [p for p in ALL if p.type == 'float' and holds_one(p)], ids=named
)
def test_whole_numbers_serve_as_floats(parameter):
    checked = parameter.check(1)
    assert checked == 1.0 and type(checked) is float


@pytest.mark.parametrize('parameter', [p for p in ALL if p.type == 'int'], ids=named)
@pytest.mark.parametrize('value', [True, 1.0, 1.5, '1', None])
def test_only_whole_numbers_are_whole_numbers(parameter, value):
    assert 'it must be of type int' in refused(parameter, value)


@pytest.mark.parametrize('parameter', [p for p in ALL if p.type == 'float'], ids=named)
@pytest.mark.parametrize('value', [True, '1.0', None, [1.0]])
def test_a_bool_or_a_text_is_no_number(parameter, value):
    assert 'it must be of type float' in refused(parameter, value)


@pytest.mark.parametrize('parameter', [p for p in ALL if p.type == 'bool'], ids=named)
@pytest.mark.parametrize('value', [0, 1, 'true', None, 1.0])
def test_a_number_or_a_text_is_no_bool(parameter, value):
    assert 'it must be of type bool' in refused(parameter, value)


@pytest.mark.parametrize(
    'parameter', [p for p in ALL if p.type == 'string' and not p.numbers_too], ids=named)
@pytest.mark.parametrize('value', [1, False, None, ['a']])
def test_other_things_are_no_text(parameter, value):
    assert 'it must be of type string' in refused(parameter, value)


@pytest.mark.parametrize('parameter', [p for p in ALL if p.type == 'float'], ids=named)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_nan_and_infinity_are_refused(parameter, value):
    assert f'is {value}' in refused(parameter, value)


@pytest.mark.parametrize('low', [None, 0.0])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nan_and_infinity_are_refused_without_an_upper_end_too(low, value):
    refused(Parameter('p', 'float', 1.0, '', low=low), value)


@pytest.mark.parametrize('parameter', NUMBERS, ids=named)
def test_ranges_end_where_they_say(parameter):
    step = 1 if parameter.type == 'int' else 1e-6
    for edge, outside in ((parameter.low, -step), (parameter.high, step)):
        if edge is not None:
            convert = int if parameter.type == 'int' else float
            assert parameter.check(convert(edge)) == edge
            assert parameter.range in refused(parameter, convert(edge) + outside)


@pytest.mark.parametrize('parameter', [p for p in ALL if p.choices], ids=named)
def test_choices_are_a_closed_list(parameter):
    for choice in parameter.choices:
        assert parameter.check(choice) == choice
    said = refused(parameter, 'something else')
    assert said.endswith(', '.join(parameter.choices))
    assert 'must be one of' in refused(parameter, parameter.choices[0].upper())


@pytest.mark.parametrize('value', [(0, 0, 10, 10), [0, 0, 10, 10]])
def test_lists_may_come_as_tuples(value):
    assert BY_NAME['roi'].check(value) == [0, 0, 10, 10]


@pytest.mark.parametrize('value', [[0.0] * 4, [True] * 4, ['0'] * 4, 'text', 3, None, [0, None]])
def test_only_whole_numbers_make_a_region(value):
    assert 'it must be of type int[]' in refused(BY_NAME['roi'], value)


def test_a_region_does_not_start_outside_the_image():
    assert 'it must be >= 0' in refused(BY_NAME['roi'], [-1, 0, 10, 10])


@pytest.mark.parametrize('value', ['package', [1], [None], 3])
def test_only_texts_make_a_list_of_packages(value):
    assert 'it must be of type string[]' in refused(BY_NAME['trusted_packages'], value)


def test_a_text_for_a_list_is_told_the_form_of_a_list():
    """``trusted_packages:=my_net`` of the launch file is not how a parameter is written."""
    said = refused(BY_NAME['trusted_packages'], 'my_net')
    assert """it must be of type string[], such as "['my_net']\"""" in said


@given(
    st.sampled_from(ALL),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.lists(st.integers() | st.text() | st.floats() | st.none()),
)
def test_any_value_is_returned_in_the_right_type_or_refused(parameter, value):
    types = {'bool': bool, 'int': int, 'float': float, 'string': str}
    try:
        checked = parameter.check(value)
    except NavMonitorError as error:
        assert parameter.name in str(error)
        return
    assert type(checked) is types.get(parameter.type, list)
    assert parameter.check(checked) == checked
    if parameter.type == 'float':
        assert np.isfinite(checked)


def test_arrays_of_rclpy_become_lists():
    assert plain(np.array([1, 2])) == [1, 2]
    assert plain('text') == 'text'


def test_a_range_is_written_as_a_person_writes_it():
    assert Parameter('p', 'int', 1, '', low=1, high=5).range == '1 to 5'
    assert Parameter('p', 'int', 1, '', low=0).range == '>= 0'
    assert Parameter('p', 'string', 'a', '', choices=('a', 'b')).range == '`a`, `b`'
    assert Parameter('p', 'string', 'a', '').range == ''


# All together.


def test_the_defaults_fit_together():
    assert check_all(DEFAULTS) == DEFAULTS


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'roi': [0, 0, 0]}, 'roi has 3 numbers'),
        ({'roi': [0, 0, 10, 0]}, 'both be 0 or both above 0'),
        ({'roi': [0, 0, 0, 10]}, 'both be 0 or both above 0'),
        ({'device': 'gpu'}, "device is 'gpu'"),
        ({'device': 'cuda:'}, 'device'),
        ({'device': 'cuda:-1'}, 'device'),
        ({'device': '0'}, 'device'),
        ({'device': ''}, 'device'),
        ({'enter_count': 0}, 'enter_count is 0'),
        ({'latch': 1}, 'latch'),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(change, said):
    with pytest.raises(NavMonitorError, match=said.replace('[', r'\[')):
        check_all({**DEFAULTS, **change})


@pytest.mark.parametrize(
    'change',
    [
        {'roi': [5, 6, 10, 20]}, {'device': 'cuda'}, {'device': 'cuda:3'}, {'device': 'cpu'},
        {'image_timeout': 2}, {'frozen_timeout': 0},
    ],
)
def test_what_fits_together_is_returned_in_its_type(change):
    checked = check_all({**DEFAULTS, **change})
    assert checked == {**DEFAULTS, **change}
    assert all(type(checked[name]) is type(default) for name, default in DEFAULTS.items())


# The files that are written from the table.


def test_the_parameter_file_holds_exactly_the_defaults():
    read = yaml.safe_load(yaml_file(PARAMETERS, 'nav_monitor', 'runtime/monitor_parameters'))
    assert read == {'/**': {'ros__parameters': DEFAULTS}}
    types = {name: type(value) for name, value in read['/**']['ros__parameters'].items()}
    assert types == {name: type(default) for name, default in DEFAULTS.items()}


def test_the_shipped_parameter_file_is_the_written_one():
    written = yaml_file(PARAMETERS, 'nav_monitor', 'runtime/monitor_parameters')
    assert (ROOT / 'config' / 'monitor.yaml').read_text() == written


def test_the_documented_table_has_one_row_for_each_parameter():
    rows = markdown_table(PARAMETERS).splitlines()[2:]
    assert [row.split('`')[1] for row in rows] == [p.name for p in PARAMETERS]
    assert all(len(row.split(' | ')) == 5 for row in rows)
    assert all(('*Read-only.*' in row) == p.read_only
               for row, p in zip(rows, PARAMETERS, strict=True))


def test_a_layer_may_be_given_by_its_number():
    layer = BY_NAME['activation_layer']
    assert [layer.check(value) for value in ('conv1', '3', 3, -2)] == ['conv1', '3', '3', '-2']
    for value in (True, 1.0, [3], None):
        with pytest.raises(NavMonitorError, match='activation_layer'):
            layer.check(value)
    with pytest.raises(NavMonitorError, match='bundle is 3, a int; it must be of type string'):
        BY_NAME['bundle'].check(3)


@pytest.mark.parametrize(
    'table', [PARAMETERS, CAMERA_PARAMETERS, SAFETY_STOP_PARAMETERS],
    ids=['monitor', 'camera', 'safety_stop'],
)
def test_names_are_unique_and_descriptions_are_sentences(table):
    names = [parameter.name for parameter in table]
    assert len(set(names)) == len(names)
    for parameter in table:
        assert parameter.description.endswith('.') and '\n' not in parameter.description
        assert parameter.type in ('bool', 'int', 'float', 'string', 'int[]', 'string[]')


def test_the_table_can_be_read_without_ros():
    script = (
        'import sys, nav_monitor_ros.runtime.monitor_parameters; sys.exit("rclpy" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', script], cwd=ROOT, check=False).returncode == 0
