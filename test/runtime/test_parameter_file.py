"""Parameter files read without ROS: which blocks count for a node, and what they hold.

That rcl and rclpy read them alike is shown in test_parameter_file_against_rcl.py.
"""

from __future__ import annotations

import math

import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.parameter_file import find_node, parameters_for, read_parameter_file

NODE = '/nav_monitor'


def read(tmp_path, text, node=NODE):
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    return parameters_for(read_parameter_file(path), node)


def block(name, **parameters):
    lines = ''.join(f'    {key}: {value}\n' for key, value in parameters.items())
    return f'{name}:\n  ros__parameters:\n{lines}'


# Which blocks count.


@pytest.mark.parametrize(
    ('name', 'node', 'counts'),
    [
        ('/**', NODE, True),
        ('/**', '/robot/front/nav_monitor', True),
        ('/*', NODE, True),
        ('/*', '/robot/nav_monitor', False),
        ('nav_monitor', NODE, True),
        ('/nav_monitor', NODE, True),
        ('nav_monitor', '/robot/nav_monitor', False),
        ('/robot/nav_monitor', '/robot/nav_monitor', True),
        ('robot/nav_monitor', '/robot/nav_monitor', True),
        ('/robot/nav_monitor', NODE, False),
        ('/**/nav_monitor', NODE, True),
        ('/**/nav_monitor', '/a/b/nav_monitor', True),
        ('/*/nav_monitor', '/a/nav_monitor', True),
        ('/*/nav_monitor', '/a/b/nav_monitor', False),
        ('/robot/**', '/robot/nav_monitor', True),
        ('/robot/*', '/robot/nav_monitor', True),
        ('/robot/**', NODE, False),
        ('camera', NODE, False),
        ('nav_monitor_2', NODE, False),
    ],
)
def test_a_block_counts_for_the_nodes_that_its_name_matches(tmp_path, name, node, counts):
    found = read(tmp_path, block(name, a=1), node)
    assert found == ({'a': 1} if counts else None)


def test_namespaces_may_be_nested(tmp_path):
    text = (
        'robot:\n  front:\n    nav_monitor:\n      ros__parameters: {a: 1}\n'
        '    camera:\n      ros__parameters: {a: 2}\n'
        '  nav_monitor:\n    ros__parameters: {a: 3}\n'
    )
    assert read(tmp_path, text, '/robot/front/nav_monitor') == {'a': 1}
    assert read(tmp_path, text, '/robot/nav_monitor') == {'a': 3}
    assert read(tmp_path, text) is None


def test_later_blocks_take_precedence_however_general_their_name(tmp_path):
    general, own = block('/**', a=1, b=1), block('nav_monitor', a=2, c=2)
    assert read(tmp_path, general + own) == {'a': 2, 'b': 1, 'c': 2}
    assert read(tmp_path, own + general) == {'a': 1, 'b': 1, 'c': 2}
    # A name that comes again goes on where it was first.
    assert read(tmp_path, general + own + block('/**', a=3, b=3)) == {'a': 2, 'b': 3, 'c': 2}


def test_other_nodes_blocks_do_not_count(tmp_path):
    text = block('camera', roi='[1, 1, 2, 2]') + block(NODE, a=1) + block('/planner', device='cuda')
    assert read(tmp_path, text) == {'a': 1}


@pytest.mark.parametrize(
    ('names', 'found'),
    [
        (['/**'], NODE),
        (['camera'], NODE),
        (['nav_monitor'], NODE),
        (['/robot/nav_monitor'], '/robot/nav_monitor'),
        (['robot/nav_monitor', '/robot/nav_monitor', '/robot/camera'], '/robot/nav_monitor'),
        (['/robot/nav_monitor', 'nav_monitor'], NODE),
        (['/**/nav_monitor'], NODE),
    ],
)
def test_the_node_is_the_one_of_its_name(tmp_path, names, found):
    path = tmp_path / 'params.yaml'
    path.write_text(''.join(block(name, a=1) for name in names))
    assert find_node(read_parameter_file(path), 'nav_monitor') == found


def test_which_of_several_namespaces_is_meant_has_to_be_said(tmp_path):
    path = tmp_path / 'params.yaml'
    path.write_text(block('/a/nav_monitor', a=1) + block('/b/nav_monitor', a=2))
    with pytest.raises(NavMonitorError, match='/a/nav_monitor, /b/nav_monitor; .* --node'):
        find_node(read_parameter_file(path), 'nav_monitor')


# What they hold.


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-1', 0.1), ('1', 1), ('1.0', 1.0), ('010', 8), ('08', 8.0), ('0x1F', 31), ('-5', -5),
        ('.5', 0.5), ('5.', 5.0), ('1e3', 1000.0), ('.inf', math.inf), ('-.inf', -math.inf),
        ('inf', math.inf), ('yes', True), ('y', True), ('n', False), ('off', False),
        ('~', '~'), ('null', 'null'), ('1:30', '1:30'), ('1_000', '1_000'),
        ('2024-01-01', '2024-01-01'), ('"1e-1"', '1e-1'), ("'yes'", 'yes'), ('""', ''),
        ('!!str 5', '5'), ('9223372036854775807', 2**63 - 1), ('9223372036854775808', 2.0**63),
        ('1e400', '1e400'), ('[]', []), ('[1, 2]', [1, 2]), ('[0.1, 1e-1]', [0.1, 0.1]),
        ('[a, "1"]', ['a', '1']), ('[yes, n]', [True, False]), ('["", ""]', ['', '']),
        ('>-\n      a\n      b', 'a b'), ('9' * 5000, '9' * 5000),
    ],
)
def test_values_have_the_type_that_ros_gives_them(tmp_path, text, value):
    found = read(tmp_path, block(NODE, a=text))['a']
    assert found == value and type(found) is type(value)
    assert [type(item) for item in found] == [type(item) for item in value] if isinstance(
        value, list) else True


def test_nan_is_a_number(tmp_path):
    found = read(tmp_path, block(NODE, a='.nan', b='nan'))
    assert math.isnan(found['a']) and math.isnan(found['b'])


def test_mappings_are_names_with_dots(tmp_path):
    found = read(tmp_path, block(NODE, front='{roi: [0, 0, 1, 1], deep: {x: 1}}', **{'rear.x': 2}))
    assert found == {'front.roi': [0, 0, 1, 1], 'front.deep.x': 1, 'rear.x': 2}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (block('/**', a='[1, 2.5]'), 'line 3: .*parameter a has values of different types'),
        (block('/**', a='[[1], [2]]'), 'parameter a is a list that contains a'),
        (block('/**', a='[{b: 1}]'), 'parameter a is a list that contains a'),
        (block('/**', a=''), 'parameter a has no value'),
        ('/**:\n  ros__parameters:\n', 'ros__parameters of /\\*\\* must be a mapping'),
        ('/**:\n', 'expected names of nodes and'),
        ('a: 1\n', 'expected names of nodes and'),
        ('[1]\n', 'expected names of nodes and'),
        ('ros__parameters: {a: 1}\n', 'the name of a node is missing before ros__parameters'),
        (block('nav-monitor', a=1), "'nav-monitor' is not a valid name of a node"),
        (block('/a//b', a=1), "'/a//b' is not a valid name of a node"),
        (block('/**', a='&x 1', b='*x'), 'refers to other places'),
        (block('/**', **{'? [1, 2]\n    ': 1}), 'a key is not a name'),
        ('a: [', 'not readable YAML'),
    ],
)
def test_a_file_with_which_a_node_would_not_start_is_refused(tmp_path, text, said):
    with pytest.raises(NavMonitorError, match=said) as caught:
        read(tmp_path, text)
    assert '\n' not in str(caught.value) and 'params.yaml' in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NavMonitorError, match='params.yaml does not exist'):
        read_parameter_file(tmp_path / 'params.yaml')


def test_an_empty_file_is_for_no_node(tmp_path):
    assert read(tmp_path, '') is None
