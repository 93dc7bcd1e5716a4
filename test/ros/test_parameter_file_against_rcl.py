"""The reader of parameter files against the real one, rcl's, as a node of rclpy sees it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

rclpy = pytest.importorskip('rclpy')

from nav_monitor_ros.errors import NavMonitorError  # noqa: E402
from nav_monitor_ros.ros.declared_parameters import overrides_of  # noqa: E402
from nav_monitor_ros.runtime.parameter_file import parameters_for, read_parameter_file  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
NODES = ['/nav_monitor', '/robot/nav_monitor', '/robot/front/nav_monitor']
NAMES = ['/**', '/*', 'nav_monitor', '/nav_monitor', 'robot/nav_monitor', '/robot/nav_monitor',
         '/**/nav_monitor', '/*/nav_monitor', '/robot/**', '/robot/*', 'camera', '/robot/camera']
SCALARS = ['1', '1e-1', '.5', '5.', '1e5', '010', '08', '0x1F', '-3', '+7', 'yes', 'n', 'OFF', '~',
           'null', 'text', '1:30', '1_000', '2024-01-01', '"1"', "'yes'", '.inf', '-.INF', 'inf',
           '1e400', '99999999999999999999', '!!str 5', '0.5e-3', 'Y', 'TRUE', '""', '0', '-0']


@pytest.fixture(scope='module')
def context():
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '--disable-rosout-logs'])
    yield context
    rclpy.shutdown(context=context)


def of_rcl(context, path, node):
    """Return what a node is given by rcl and rclpy; None where they refuse the file."""
    namespace, _, name = node.rpartition('/')
    try:
        started = rclpy.create_node(
            name, namespace=namespace or '/', context=context, use_global_arguments=False,
            cli_args=['--ros-args', '--params-file', str(path)], start_parameter_services=False,
            enable_rosout=False,
        )
    except Exception:
        return None
    try:
        # rcl knows no type of an empty list, and rclpy gives it as nothing.
        return {
            key: [] if value is None else list(value) if isinstance(value, (list, tuple)) else value
            for key, value in overrides_of(started).items()
        }
    finally:
        started.destroy_node()


def of_this(path, node):
    try:
        return parameters_for(read_parameter_file(path), node) or {}
    except NavMonitorError:
        return None


def comparable(found):
    """Return values with their types, NaN being equal to NaN."""
    if found is None:
        return None
    return {
        key: ('nan',) if isinstance(value, float) and math.isnan(value)
        else (type(value), value, [type(item) for item in value] if isinstance(value, list) else 0)
        for key, value in found.items()
    }


def assert_read_alike(context, path):
    for node in NODES:
        assert comparable(of_this(path, node)) == comparable(of_rcl(context, path, node)), node


values = st.one_of(
    st.sampled_from(SCALARS),
    st.integers(-10**6, 10**6).map(str),
    st.floats(allow_subnormal=False).map(lambda number: yaml.safe_dump(number).split()[0]),
    st.lists(st.integers(-9, 9).map(str), max_size=4).map(lambda items: f'[{", ".join(items)}]'),
    st.lists(st.sampled_from(['a', '"1"', "''"]), max_size=3).map(
        lambda items: f'[{", ".join(items)}]'),
    st.lists(st.sampled_from([text for text in SCALARS if ':' not in text]), max_size=3).map(
        lambda items: f'[{", ".join(items)}]'),
)
# libyaml, which rcl reads with, ends a plain text at a colon inside of braces and brackets.
nested = values.filter(lambda value: ':' not in value)
keys = st.sampled_from(['a', 'b', 'front.roi', 'evidence_level'])
entries = st.lists(
    st.tuples(keys, values) | st.tuples(
        st.just('rear'),
        st.lists(st.tuples(st.sampled_from(['x', 'y']), nested), min_size=1, max_size=2).map(
            lambda pairs: '{' + ', '.join(f'{k}: {v}' for k, v in pairs) + '}'),
    ),
    min_size=1, max_size=4,
)
blocks = st.lists(st.tuples(st.sampled_from(NAMES), entries), min_size=1, max_size=4)


@given(blocks)
@settings(max_examples=100, deadline=None)
def test_values_types_and_precedence_are_rcls(context, tmp_path_factory, blocks):
    path = tmp_path_factory.getbasetemp() / 'params.yaml'
    path.write_text(''.join(
        f'{name}:\n  ros__parameters:\n' + ''.join(f'    {key}: {value}\n' for key, value in pairs)
        for name, pairs in blocks
    ))
    assert_read_alike(context, path)


@pytest.mark.parametrize(
    'text',
    [
        'robot:\n  front:\n    nav_monitor:\n      ros__parameters: {a: 1}\n'
        '    camera:\n      ros__parameters: {a: 2}\n  nav_monitor:\n    ros__parameters: {a: 3}\n',
        '/robot:\n  nav_monitor:\n    ros__parameters: {a: 1, b: {c: 2, d: {e: 3}}, f: 4}\n',
        '/**:\n  nav_monitor:\n    ros__parameters: {a: 1}\n',
        '/**:\n  ros__parameters: {a: [1, 2.5]}\n',
        '/**:\n  ros__parameters:\n    a:\n',
        '/**:\n',
        'nav-monitor:\n  ros__parameters: {a: 1}\n',
        '/a//b:\n  ros__parameters: {a: 1}\n',
        'ros__parameters: {a: 1}\n',
        '/**:\n  ros__parameters: {a: &x 1, b: *x}\n',
        '/**:\n  ros__parameters: {a: 5, a: true}\n/**:\n  ros__parameters: {a: 0.5}\n',
        '/**:\n  ros__parameters:\n    a: |-\n      5\n    b: >-\n      x\n      y\n',
    ],
)
def test_forms_of_files_are_read_or_refused_as_rcl_does(context, tmp_path, text):
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    assert_read_alike(context, path)


@pytest.mark.parametrize('path', sorted((ROOT / 'config').glob('*.yaml')), ids=lambda p: p.name)
def test_the_shipped_files_are_read_as_rcl_does(context, path):
    assert_read_alike(context, path)
