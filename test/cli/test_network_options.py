"""The options for a network and its preprocessing."""

from __future__ import annotations

import argparse

import pytest

from nav_monitor_ros.cli.options.network import add_preprocessing
from nav_monitor_ros.perception.exif_orientation import EXIF
from nav_monitor_ros.perception.preprocess import COLORS, FITS, INTERPOLATIONS

pytestmark = pytest.mark.once


def test_the_choices_are_those_of_the_preprocessing():
    parser = argparse.ArgumentParser()
    add_preprocessing(parser)
    choices = {action.dest: action.choices for action in parser._actions if action.choices}
    assert {name: set(named) for name, named in choices.items()} == {
        'fit': {*FITS}, 'color': {*COLORS}, 'interpolation': {*INTERPOLATIONS}, 'exif': {*EXIF}
    }
