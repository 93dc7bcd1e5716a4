"""The output folder of an evaluation is not overwritten unasked, and others' files never."""

from __future__ import annotations

import json

import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.output_folder import check_output

OWN = json.dumps({'bundle': 'b', 'inside': 'i', 'images': {}, 'false_alarms': {}, 'more': 1})


def filled(folder, **files):
    for name, content in files.items():
        (folder / name.replace('_', '.')).write_text(content)
    return folder


def test_new_and_empty_folders_are_taken(tmp_path):
    check_output(tmp_path)
    check_output(tmp_path / 'new')
    check_output(tmp_path, force=True)


def test_an_earlier_evaluation_is_replaced_if_asked_for(tmp_path):
    filled(tmp_path, metrics_json=OWN, report_html='', notes_txt='mine')
    with pytest.raises(NavMonitorError, match='already holds an evaluation; .* with --force'):
        check_output(tmp_path)
    check_output(tmp_path, force=True)


def test_a_folder_with_other_files_is_taken_if_asked_for(tmp_path):
    filled(tmp_path, notes_txt='mine')
    with pytest.raises(NavMonitorError, match='is not empty; .* with --force'):
        check_output(tmp_path)
    check_output(tmp_path, force=True)


@pytest.mark.parametrize('content', ['', '{', '[1]', '{"loss": 0.1}', '[' * 100_000])
def test_the_metrics_of_something_else_are_not_replaced(tmp_path, content):
    filled(tmp_path, metrics_json=content)
    with pytest.raises(NavMonitorError, match=r'metrics\.json does not belong to an evaluation'):
        check_output(tmp_path, force=True)


def test_a_report_of_something_else_is_not_replaced(tmp_path):
    filled(tmp_path, report_html='<html>')
    with pytest.raises(NavMonitorError, match=r'report\.html does not belong to an evaluation'):
        check_output(tmp_path, force=True)
