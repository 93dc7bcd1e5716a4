"""Plain YAML: numbers as ROS 2 reads them, wherever a person writes one."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nav_monitor_ros.cli.options.network import key_value
from nav_monitor_ros.files.untrusted_yaml import plain_value, read_yaml, write_yaml

NUMBERS = {
    '1e-1': 0.1, '1E5': 1e5, '-2e+3': -2000.0, '1.5e2': 150.0, '.5': 0.5, '5.': 5.0, '0.1': 0.1,
    '-.inf': -math.inf, '7': 7, '+7': 7, '-7': -7, '010': 8, '0x1F': 31, '0': 0,
}
TEXTS = ['1:30', '1_000', '2024-01-01', '08', '1e', 'e1', '1e-', '.', '+', 'inf', 'nan', '0b1', '=',
         '<<', 'y', 'N']


@pytest.mark.parametrize('text', NUMBERS)
def test_a_number_is_one_on_the_command_line_and_in_a_file(tmp_path, text):
    path = tmp_path / 'file.yaml'
    path.write_text(f'{{a: {text}, b: [{text}]}}')
    read = read_yaml(path)
    for value in (plain_value(text), key_value(f'width={text}')[1], read['a'], *read['b']):
        assert value == NUMBERS[text] and type(value) is type(NUMBERS[text])


@pytest.mark.parametrize('text', TEXTS)
def test_what_ros_takes_for_a_text_is_no_number_and_no_date(tmp_path, text):
    path = tmp_path / 'file.yaml'
    path.write_text(f'a: {text}')
    assert key_value(f'name={text}') == ('name', text)
    assert read_yaml(path) == {'a': text}


def test_quotes_make_a_text():
    assert plain_value('"1e-1"') == '1e-1' and plain_value("'7'") == '7'


def test_bools_lists_and_nothing_are_read_too():
    assert [plain_value(text) for text in ('yes', 'False', 'ON')] == [True, False, True]
    assert plain_value('[1, 1e-1, a]') == [1, 0.1, 'a']
    assert plain_value('null') is plain_value('~') is plain_value('') is None
    assert plain_value('[]') == []


@pytest.mark.parametrize(
    'text', ['*x', 'a: b: c', '[1', '{', '!!python/name:os.system', '"', '9' * 5000]
)
def test_what_is_no_yaml_is_a_text(text):
    assert plain_value(text) == text


def test_a_byte_order_mark_does_not_count(tmp_path):
    path = tmp_path / 'file.yaml'
    path.write_bytes(b'\xef\xbb\xbfa: 1')
    assert read_yaml(path) == {'a': 1}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
        | st.text(st.characters(codec='utf-8', exclude_categories=['Cc', 'Cs', 'Co', 'Cn']))
        | st.from_regex(r'[-+]?[0-9]{1,3}[eE.:_xbo-]?[-+]?[0-9]{0,3}', fullmatch=True),
        lambda values: st.lists(values, max_size=4),
        max_leaves=8,
    )
)
def test_what_is_written_is_read_back_here_and_as_yaml_1_1(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / 'written.yaml'
    write_yaml(path, {'value': value})
    assert read_yaml(path) == {'value': value}
    assert yaml.safe_load(path.read_text(encoding='utf-8')) == {'value': value}
