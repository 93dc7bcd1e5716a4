"""The main result: one line for each source by the score that decides, and a warning."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import tiny
from rich.console import Console

from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.evaluation.metrics import chance_accuracy
from nav_monitor_ros.evaluation.report_data import evaluation_report
from nav_monitor_ros.evaluation.report_page import write_report
from nav_monitor_ros.evaluation.summary import accuracy_warning, result_lines
from nav_monitor_ros.evaluation.tables import tables, text_tables


@pytest.fixture(scope='module')
def evaluated(tiny_bundle):
    judge = tiny_bundle.judge(also=['msp'])
    running = load_network(
        tiny_bundle, device='cpu', trusted_packages=['tiny'], scores=judge.scores)
    inside = tiny.source(5, 120)
    outside = {'fused': from_arrays('fused', tiny.strange(5, 60)), 'same': tiny.source(6, 50)}
    evaluation, judged = evaluate(running, judge, inside, outside)
    return evaluation, evaluation_report(tiny_bundle, judge, inside, outside, evaluation, judged)


def with_stream(evaluation, **changes):
    stream = dataclasses.replace(evaluation.streams['fused'], **changes)
    return dataclasses.replace(evaluation, streams={**evaluation.streams, 'fused': stream})


def test_every_source_has_one_line_with_the_figures_of_the_tables(evaluated):
    evaluation, _ = evaluated
    strange, same, inside = result_lines(evaluation)
    detected = {n: found['fused'].detected for n, found in evaluation.separation.items()}
    assert detected['fused'] > 0.9 > 0.2 > detected['same']
    assert strange.startswith(f'fused: {100 * detected["fused"]:.2f} % of 60 images flagged, ')
    assert same.startswith(f'same: {100 * detected["same"]:.2f} % of 50 images flagged, ')
    alarms = evaluation.false_alarms['fused']
    assert inside.startswith(
        f'false alarms on tiny-5: {100 * alarms.rate:.2f} % of 120 images flagged (budget 5 %)')
    assert evaluation.streams['fused'].false_alarms == 0
    assert inside.endswith(', alert raised 0 times in 4 s of video')


@pytest.mark.parametrize(('median', 'never', 'said'), [
    (5.0, 0.0, 'alert after 5 frames (median)'), (1.0, 0.0, 'alert after 1 frame (median)'),
    (7.5, 0.25, 'alert after 7.5 frames (median), never in 25 % of the streams of 3 s'),
    (None, 0.75, 'alert never in 75 % of the streams of 3 s'),
    (None, 1.0, 'alert never (within 3 s)'),
])
def test_the_delay_of_the_alert_is_told(evaluated, median, never, said):
    evaluation = with_stream(
        evaluated[0], frames_to_alert={'fused': median, 'same': 1.0},
        never_alerted={'fused': never, 'same': 0.0})
    assert result_lines(evaluation)[0].endswith(f' images flagged, {said}')


@pytest.mark.parametrize(('count', 'hours', 'said'), [
    (1, 119 / 3600, '1 time in 119 s'), (0, 0.5, '0 times in 30.0 min'),
    (3, 100, '3 times in 100 h'),
])
def test_false_alerts_are_told_with_the_duration(evaluated, count, hours, said):
    evaluation = with_stream(evaluated[0], false_alarms=count, hours=hours)
    assert result_lines(evaluation)[-1].endswith(f', alert raised {said} of video')


def test_without_other_sources_the_false_alarms_remain(evaluated):
    evaluation = evaluated[0]
    alone = dataclasses.replace(evaluation, images={'tiny-5': 120}, separation={}, streams={})
    [line] = result_lines(alone)
    assert line.startswith('false alarms on tiny-5') and line.endswith('(budget 5 %)')
    assert result_lines(dataclasses.replace(alone, false_alarms={})) == []


@pytest.mark.parametrize(('accuracy', 'chance', 'warned'), [
    (0.97, 0.33, False), (0.5, 0.33, False), (0.49, 0.33, True), (0.0, 0.33, True),
    (0.55, 0.6, True),  # of two classes, one of which is frequent
    (0.98, 0.98, False),  # all images are of one class
    (None, None, False),
])
def test_a_network_that_is_hardly_right_is_warned_of(evaluated, accuracy, chance, warned):
    said = accuracy_warning(dataclasses.replace(evaluated[0], accuracy=accuracy, chance=chance))
    assert bool(said) == warned
    if warned:
        assert f'classifies {100 * accuracy:.1f} % of the labelled images of tiny-5' in said
        assert f'({100 * chance:.1f} % by chance)' in said


def test_chance_is_the_accuracy_of_the_same_predictions_in_random_order(evaluated):
    labels, predicted = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 5])
    rng = np.random.default_rng(0)
    shuffled = [(labels == rng.permutation(predicted)).mean() for _ in range(20_000)]
    assert chance_accuracy(labels, predicted) == pytest.approx(6 / 16)
    assert chance_accuracy(labels, predicted) == pytest.approx(np.mean(shuffled), abs=0.01)
    one = np.full(7, 3)
    assert chance_accuracy(one, np.array([3, 3, 3, 3, 3, 3, 0])) == pytest.approx(6 / 7)
    assert evaluated[0].to_dict()['chance'] == pytest.approx(1 / 3, abs=0.05)


def test_the_deciding_score_is_marked_in_the_plain_tables(evaluated):
    out = io.StringIO()
    console = Console(file=out, width=120)
    for table in tables(evaluated[0]):
        console.print(table)
    lines = out.getvalue().splitlines()
    marked = [line for line in lines if '(decides)' in line]
    assert all(line.split()[:2] == ['fused', '(decides)'] for line in marked)
    captions = [caption for caption, headings, _ in text_tables(evaluated[0])
                if headings[0] != 'source']
    assert len(marked) == len(captions)
    # The source of that name is no score.
    assert [line for line in lines if line.split()[:1] == ['fused'] and line not in marked]


def test_the_page_begins_with_the_result(evaluated, tmp_path):
    evaluation, report = evaluated
    assert list(report.result) == result_lines(evaluation) and not report.warning
    report = dataclasses.replace(report, warning='it is <hardly> right')
    write_report(tmp_path / 'report.html', report)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    places = [text.index(part) for part in (
        '<h2>fused decides</h2>', *(f'<li>{line}</li>' for line in report.result),
        'it is &lt;hardly&gt; right', f'<p>{report.lines[0]}</p>')]
    assert places == sorted(places)
