"""What messages, pages and help texts claim, held against what the code does."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from nav_monitor_ros.cli.main import main, make_parser
from nav_monitor_ros.decision.calibration import images_for_a_class
from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence, make_evidence
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FUSED_MEMBERS, FitOptions

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]


def options_of(parser, path=()):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from options_of(below, (*path, name))
        else:
            yield ' '.join(path), action


def test_help_names_the_defaults_that_hold():
    wrong, seen = [], 0
    for command, action in options_of(make_parser()):
        said = re.search(r'\(default: ([^);]*)\)', action.help or '')
        if said is None or not action.default or action.default in ([], float('inf')):
            continue  # that of another place, told in words
        seen += 1
        text = said[1].replace('%%', '%')
        same = float(text) == action.default if isinstance(action.default, float) else (
            text == str(action.default))
        if not same:
            wrong.append((command, action.option_strings, text, action.default))
    assert not wrong and seen > 40


def test_help_and_pages_name_the_numbers_that_the_code_computes():
    fitting = dict.fromkeys([*(a.dest for c, a in options_of(make_parser()) if c == 'fit')])
    help_of = {a.dest: a.help or '' for c, a in options_of(make_parser()) if c == 'fit'}
    assert {'class_images', 'fuse'} <= set(fitting)
    enough = images_for_a_class(0.01, 0.95)
    assert f'; {enough} for 1 %' in help_of['class_images'].replace('%%', '%')
    assert f'(default: {",".join(FUSED_MEMBERS)})' in help_of['fuse']
    assert f'{enough} images for' in ' '.join(
        (ROOT / 'docs' / 'judging.md').read_text(encoding='utf-8').split())


def test_a_task_without_images_of_its_own_is_named(capsys, tmp_path):
    for task in ('fashion', 'traffic_signs'):
        assert main(['train', task, '--output', str(tmp_path / 'out')]) == 2
        assert f'{task} has no built-in images' in capsys.readouterr().err


def test_images_are_read_as_often_as_is_said():
    read = {'training': Counter(), 'calibration': Counter()}

    def counted(source, kind):
        def image(place, inner=source.read):
            read[kind][place] += 1
            return inner(place)

        return replace(source, read=image)

    fit(tiny.classifier(), tiny.SPEC, counted(tiny.source(1, 400), 'training'),
        counted(tiny.source(2, 200), 'calibration'),
        FitOptions(name='t', false_alarm_rate=0.05, class_names=tiny.CLASSES))
    times = Counter(read['training'].values())
    assert set(times) <= {1, 2, 3} and sum(times.values()) == 400
    # Of 400 images, all are compared with 200 calibration images.
    assert times[3] < 100 and times[1] == 0
    assert Counter(read['calibration'].values()) == {2: 200}


def frames_to_alert(rules):
    evidence = make_evidence(rules)
    strange = FrameEvidence(1e-6, True, 1e6)
    for number in range(1, 50):
        evidence.update(strange, 1 / 15)
        if evidence.is_ood:
            return number
    raise AssertionError('never')


def test_the_rule_is_told_as_it_is():
    told = EvidenceRules(evidence='k_of_n', enter_count=2, enter_window=7, exit_count=4).sentence
    assert told.startswith('2 flagged images of 7 raise') and '4 images in a row' in told
    assert frames_to_alert(EvidenceRules(evidence='k_of_n', enter_count=2, enter_window=7)) == 2
    told = EvidenceRules(false_alarms_per_hour=0.5).sentence
    assert '0.5 times per hour' in told and 'flagged images of' not in told
    # With the default a single image may be enough, so no number of them can be told.
    assert frames_to_alert(EvidenceRules()) < 3


def test_the_demos_page_tells_the_rule_and_how_many_images_were_played(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(ROOT / 'tools' / 'demo'), *sys.path])
    pytest.importorskip('matplotlib')
    from demo_page import write_page
    from demo_record import summarise
    from test_demo import make_record

    record = make_record([(1405, False), (3205, True)])
    summary = replace(summarise(record), received=30, judged=28, dropped=2, lost=3)
    write_page(
        tmp_path / 'index.html', record=record, summary=summary, pictures=[], camera='a camera',
        bundle='digits', rule=EvidenceRules().sentence)
    page = ' '.join((tmp_path / 'index.html').read_text(encoding='utf-8').split())
    assert 'sent 33 images over ROS 2 to the monitor, which judged 28 of them' in page
    assert EvidenceRules().sentence in page
    assert 'images in a row raise' not in page
