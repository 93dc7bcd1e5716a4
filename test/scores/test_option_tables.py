"""The tables of the scores' options name every option, with its default and its range."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from training_data import NEEDED, make_head

from nav_monitor_ros.scores.option_tables import all_options, markdown_table, plain_text
from nav_monitor_ros.scores.registry import SCORES, make_score
from nav_monitor_ros.scores.score_options import describe


def test_every_field_of_every_score_is_an_option():
    expected = [(name, f.name) for name, s in SCORES.items() for f in fields(s.options_type)]
    assert [(name, option.name) for name, option in all_options()] == expected
    assert len(expected) > 20


@pytest.mark.parametrize('name', SCORES)
def test_defaults_are_the_settings_of_a_score_made_without_options(name):
    head = make_head()
    classes, width = head.weight.shape
    score = make_score(name, {}, classes=classes, width=width, head=head)
    described = {option.name: option.default for option in describe(score.options_type)}
    assert described == score.settings
    assert set(NEEDED.get(name, {})) <= set(described)


def test_every_option_is_described_in_one_sentence():
    for name, option in all_options():
        said = option.description
        assert said[0].isupper() and said.endswith('.') and '\n' not in said, (name, option.name)
        assert option.type in ('int', 'float', 'string', 'list of names')


@pytest.mark.parametrize('table', [markdown_table, plain_text])
def test_tables_state_name_range_and_default(table):
    lines = table().splitlines()
    for name, option in all_options():
        found = re.compile(rf'(\| `)?{name}\.{option.name}\b')
        (line,) = filter(found.match, lines)
        assert option.range in line and option.type in line and str(option.default) in line
