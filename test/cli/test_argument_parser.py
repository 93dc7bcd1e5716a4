"""Options that are misspelt, given twice or made of something else are refused by name."""

from __future__ import annotations

import argparse

import pytest

from nav_monitor_ros.cli.argument_parser import ArgumentParser
from nav_monitor_ros.cli.main import main, make_parser
from nav_monitor_ros.errors import did_you_mean

pytestmark = pytest.mark.once


def refused(capsys, *arguments):
    """Return the line with which the parser refuses arguments."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == ''
    assert said.err.startswith('usage: nav_monitor')
    return said.err.strip().splitlines()[-1]


def leaves(parser, path=()):
    """Yield each command with its parser."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield path, parser
    for action in below:
        for name, one in action.choices.items():
            yield from leaves(one, (*path, name))


COMMANDS = dict(leaves(make_parser()))


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['fit', '--ouput', 'b'], "nav_monitor fit: error: unknown option '--ouput'; did you "
                                  'mean --output?'),
        (['evaluate', 'digits', '--inside', 'a', '--odd=b'], 'did you mean --ood?'),
        (['export', 'b', '--for', 'all'], "unknown option '--for'; did you mean --force?"),
        (['export', 'b', '--cal=a'], "unknown option '--cal'; did you mean --calibration?"),
        (['fit', '--model', 'a', '--check', 'b'],
         "unknown option '--check'; did you mean --checkpoint or --checkpoint-seconds?"),
        (['view', 'grid', '--colour-scale', 'image'], 'did you mean --color-scale?'),
        (['replay', 'drive', '--html_page', 'a'], "unknown option '--html_page'"),
        (['shwo', 'digits'], 'did you mean show?'),
        (['view', 'saliance', 'digits'], 'did you mean saliency?'),
        (['benchmark', 'jugde'], 'did you mean judge?'),
        (['train', 'digit', '--output', 'a'], 'did you mean digits?'),
    ],
)
def test_a_misspelt_name_is_reported_with_the_nearest_one(capsys, arguments, said):
    assert said in refused(capsys, *arguments)


@pytest.mark.parametrize('path', COMMANDS, ids=' '.join)
def test_every_option_of_one_value_is_refused_when_it_is_given_twice(capsys, path):
    single = [
        action.option_strings[-1] for action in COMMANDS[path]._actions
        if isinstance(action, argparse._StoreAction) and action.option_strings
    ]
    for option in single:
        said = refused(capsys, *path, option, 'a', f'{option}=b')
        assert said.endswith(f'error: {option} is given twice; give it only once')
    assert single or path in {('show',)}


def test_values_that_look_like_options_are_accepted():
    parser = ArgumentParser(prog='one')
    parser.add_argument('--output')
    parser.add_argument('--list', action='append')
    parser.add_argument('words', nargs='*')
    found = parser.parse_args(
        ['--output', 'a', '--list=1', '--list', '2', '--', '--output', '--x y'])
    assert (found.output, found.list, found.words) == ('a', ['1', '2'], ['--output', '--x y'])
    with pytest.raises(SystemExit):
        parser.parse_args(['--output', 'a', '--output', 'b'])
    assert parser.parse_args(['--no option: a text']).words == ['--no option: a text']


@pytest.mark.parametrize('path', COMMANDS, ids=' '.join)
def test_no_option_of_any_command_is_taken_for_another_that_begins_with_it(capsys, path):
    parser = COMMANDS[path]
    assert not parser.allow_abbrev
    for option in parser._option_string_actions:
        if not option.startswith('--') or option[:-1] in parser._option_string_actions:
            continue
        said = refused(capsys, *path, option[:-1])
        assert f"error: unknown option '{option[:-1]}'; did you mean " in said
        assert option in said


@pytest.mark.parametrize('path', [(), ('view',), *COMMANDS], ids=' '.join)
def test_one_line_of_usage_names_what_is_required(capsys, path):
    with pytest.raises(SystemExit) as ended:
        main([*path, *(['--no-such-option'] if path in COMMANDS else [])])
    usage, _ = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and usage.startswith(f'usage: {" ".join(("nav_monitor", *path))} ')
    for action in COMMANDS[path]._actions if path in COMMANDS else ():
        for option in action.option_strings[-1:]:
            assert (f' {option} ' in usage) == action.required or option == '--help'


@pytest.mark.parametrize('path', COMMANDS, ids=' '.join)
def test_the_help_of_every_command_shows_an_example_of_it(capsys, path):
    with pytest.raises(SystemExit) as ended:
        main([*path, '--help'])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    _, _, example = said.rpartition('\nexample')
    assert f'  nav_monitor {" ".join(path)} ' in example


def test_the_nearest_name_is_found_whatever_its_spelling():
    known = ['relative_mahalanobis', 'knn', 'vim']
    assert did_you_mean('Relative-Mahalanobi', known) == '; did you mean relative_mahalanobis?'
    assert did_you_mean('energy', known) == '' and did_you_mean('', known) == ''
