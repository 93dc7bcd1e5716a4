"""The options of all scores as tables, for the documentation and the command line."""

from __future__ import annotations

import textwrap

from nav_monitor_ros.scores.registry import SCORES
from nav_monitor_ros.scores.score_options import OptionDescription, describe

_WIDTH = 92  # width of the plain text


def all_options() -> list[tuple[str, OptionDescription]]:
    """Return the options of all scores in the order of ``SCORES``, each with its score's name."""
    return [
        (name, option) for name, score in SCORES.items() for option in describe(score.options_type)
    ]


def markdown_table() -> str:
    """Return all options as a Markdown table."""
    lines = ['| option | type | default | range | description |', '|---|---|---|---|---|']
    lines += [
        f'| `{score}.{option.name}` | {option.type} | `{option.default}` | {option.range} '
        f'| {option.description} |'
        for score, option in all_options()
    ]
    return '\n'.join(lines)


def plain_text() -> str:
    """Return all options as text for a terminal, in the format of ``fit --option``."""
    lines = []
    for score, option in all_options():
        facts = ', '.join(filter(None, (option.type, option.range)))
        lines.append(f'{score}.{option.name}={_shown(option.default)}  ({facts})')
        lines += textwrap.wrap(option.description.replace('`', ''), _WIDTH, initial_indent='    ',
                               subsequent_indent='    ')
    return '\n'.join(lines)


def _shown(default: object) -> str:
    return f'[{", ".join(default)}]' if isinstance(default, list) else str(default)
