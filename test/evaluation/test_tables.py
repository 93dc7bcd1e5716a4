"""The tables of an evaluation: names, means, and that they fit a terminal."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from rich.console import Console

from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.evaluation.metrics import mean_separations
from nav_monitor_ros.evaluation.results import Separation
from nav_monitor_ros.evaluation.split_expectation import SplitCell, share_of_splits_within
from nav_monitor_ros.evaluation.streams import StreamPlan
from nav_monitor_ros.evaluation.tables import (
    FPR,
    MISSED,
    TERMS,
    bound_sentence,
    tables,
    text_tables,
)

ROOT = Path(__file__).parents[2]
# The longest name of a score or peer, and a usual one of a source.
LONGEST = 'pytorch-ood MultiMahalanobis'


@pytest.fixture(scope='module')
def evaluation(tiny_bundle):
    judge = tiny_bundle.judge(also=['all'])
    running = load_network(
        tiny_bundle, device='cpu', trusted_packages=['tiny'], scores=judge.scores)
    outside = {
        'lying': from_arrays('lying', tiny.strange(5, 60)), 'same': tiny.source(6, 50),
        'imagenet_photos': from_arrays('dark', tiny.images(7, 40)[0] // 4),
    }
    return evaluate(
        running, judge, tiny.source(5, 120), outside, streams=StreamPlan(hours=0.2, seed=5))[0]


def with_peer(evaluation):
    """Return the evaluation with a peer, as good as ``msp``."""
    named = {
        name: {**scores, LONGEST: dataclasses.replace(scores['msp'], detected=None)}
        for name, scores in evaluation.separation.items()
    }
    return dataclasses.replace(
        evaluation, separation=named, means=mean_separations(named),
        microseconds={**evaluation.microseconds, LONGEST: 12345.0},
    )


def table_of(evaluation, beginning):
    [found] = [table for table in text_tables(evaluation) if table[0].startswith(beginning)]
    caption, headings, rows = found
    return caption, {row[0]: dict(zip(headings, row, strict=True)) for row in rows}


def test_both_directions_are_given_for_every_score_and_peer_by_source_and_as_means(evaluation):
    evaluation = with_peer(evaluation)
    scores = {*evaluation.microseconds}
    assert LONGEST in scores and len(scores) > 15
    _, means = table_of(evaluation, 'Means over all 3')
    assert set(means) == scores == set(evaluation.means)
    for name in evaluation.separation:
        _, rows = table_of(evaluation, f'{name} (')
        assert set(rows) == scores
        for score, row in rows.items():
            found = evaluation.separation[name][score]
            assert row[FPR] == f'{100 * found.fpr_at_95_recall:.2f}'
            assert row[MISSED] == f'{100 * found.ood_missed_at_95_id_kept:.2f}'
            assert row['AUROC'] == f'{100 * found.auroc:.2f}'
    for score, row in means.items():
        each = [evaluation.separation[name][score] for name in evaluation.separation]
        assert row[FPR] == f'{100 * np.mean([f.fpr_at_95_recall for f in each]):.2f}'
        assert row[MISSED] == f'{100 * np.mean([f.ood_missed_at_95_id_kept for f in each]):.2f}'
        assert row['worst AUROC'] == f'{100 * min(f.auroc for f in each):.2f}'


def test_means_give_every_source_the_same_weight():
    means = mean_separations({
        'a': {'x': Separation(1.0, 0.8, 0.0, 0.2, 0.5), 'y': Separation(0.5, 0.5, 1.0, 1.0, None)},
        'b': {'x': Separation(0.5, 0.4, 0.5, 0.4, 0.1), 'y': Separation(0.7, 0.5, 0.0, 0.0, None)},
    })
    assert dataclasses.asdict(means['x']) == pytest.approx({
        'auroc': 0.75, 'aupr': 0.6, 'fpr_at_95_recall': 0.25, 'ood_missed_at_95_id_kept': 0.3,
        'detected': 0.3,
    })
    assert means['y'].detected is None and means['y'].auroc == pytest.approx(0.6)
    assert mean_separations({}) == {}


def test_the_terms_are_explained_in_the_documentation_by_the_same_names():
    text = ' '.join((ROOT / 'docs' / 'evaluation.md').read_text().split())
    for term, meaning in TERMS.items():
        assert f'**{term}**: {meaning}' in text


def with_long_names(evaluation):
    """Return the evaluation with the path of a data set as the name of the in-distribution one."""
    name = '/home/robot/datasets/traffic_signs_2024/held_out/gtsrb.npz?is_val=1&group=y,track'
    def renamed(by_source):
        first, *others = by_source.items()
        return {name: first[1], **dict(others)}

    return dataclasses.replace(
        evaluation, images=renamed(evaluation.images),
        evidence_kinds=renamed(evaluation.evidence_kinds),
    )


@pytest.mark.parametrize('change', [lambda same: same, with_long_names])
@pytest.mark.parametrize('width', [80, 120])
def test_tables_fit_the_terminal_without_broken_numbers_or_names(evaluation, width, change):
    out = io.StringIO()
    console = Console(file=out, width=width)
    for table in tables(with_peer(change(evaluation))):
        console.print(table)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    lines = [line for line in text.splitlines() if LONGEST in line]
    assert len(lines) == 4  # three sources and the means
    for line in lines:
        assert len(re.findall(r'\d+\.\d\d\b', line)) >= 4
    # A number that was folded would leave a line with a single cell of digits.
    assert not re.search(r'^\s+\d{1,2}\s*$', text, re.MULTILINE)
    for heading in ('flagged', 'early layers', 'features', 'logits', 'recall', 'missed'):
        for word in heading.split():
            assert word in text
    kinds = evaluation.evidence_kinds['lying']
    [line] = [line for line in text.splitlines() if line.startswith(' lying ')]
    assert line.split()[:2] == ['lying', str(kinds.flagged)] and len(line.split()) == 6
    for caption, headings, rows in text_tables(with_peer(evaluation)):
        assert rows and all(len(row) == len(headings) for row in rows), caption


def test_the_share_of_splits_within_the_bound_stands_beside_the_false_alarms(
    evaluation, tiny_bundle
):
    calibration = tiny_bundle.calibration
    caption, rows = table_of(evaluation, 'False alarms on tiny-5')
    for score, row in rows.items():
        found = evaluation.false_alarms[score]
        if score == 'window_kl':
            assert found.expected_within is None and row['splits within'] == ''
            continue
        p_values = calibration.p_values_of(score)
        assert len(p_values.cells) == 1
        n = len(p_values)
        k = round(calibration.thresholds[score][0] * (n + 1)) - 1
        wanted = share_of_splits_within([SplitCell(n, k, 120)], 0.05)
        assert found.expected_within == pytest.approx(wanted, abs=1e-12)
        assert found.calibrated == n
        assert row['splits within'] == f'{100 * wanted:.2f}'
    fused = evaluation.false_alarms['fused']
    assert bound_sentence(evaluation) == (
        f'fused flagged {100 * fused.rate:.2f} % of 120; a bound of 5 % at 95 % confidence over '
        f'all frames should be met in {100 * fused.expected_within:.1f} % of the random splits '
        f'into {fused.calibrated} calibration and 120 test images (splits within)'
    )
    assert bound_sentence(evaluation) in caption


def test_for_tracks_no_share_of_splits_is_given_and_the_reason_is(tiny_bundle):
    judge = tiny_bundle.judge(also=['all'])
    running = load_network(
        tiny_bundle, device='cpu', trusted_packages=['tiny'], scores=judge.scores)
    tracks = tiny.source(5, 60, groups=np.repeat(np.arange(6), 10))
    evaluation, _ = evaluate(running, judge, tracks, {})
    assert evaluation.grouped == 'in-distribution'
    assert all(found.expected_within is None for found in evaluation.false_alarms.values())
    caption, rows = table_of(evaluation, 'False alarms on tiny-5')
    assert 'the in-distribution images come in groups' in caption
    assert 'splits within' not in rows['fused']
    single = tiny.source(5, 60, groups=np.arange(60))  # groups of one image
    assert evaluate(running, judge, single, {})[0].grouped == ''
    grouped = tiny_bundle.judge(also=['all'])
    grouped.calibration = dataclasses.replace(
        judge.calibration, effective_size=judge.calibration.effective_size - 20)
    for source, told in (
        (single, 'calibration'), (tracks, 'calibration and the in-distribution'),
    ):
        assert evaluate(running, grouped, source, {})[0].grouped == told


def test_the_length_of_the_stream_and_its_seed_are_told(evaluation):
    caption, rows = table_of(evaluation, 'Played as video: 12.0 min')
    assert 'drawn at random with seed 5' in caption
    assert evaluation.stream_seed == 5 and evaluation.streams['fused'].hours == pytest.approx(0.2)
    assert set(rows) == set(evaluation.false_alarms)
    caption, rows = table_of(evaluation, 'Played as video: median')
    assert 'streams of 3 s' in caption
    for name in evaluation.separation:
        assert rows['fused'][name].endswith(
            f'({100 * evaluation.streams["fused"].never_alerted[name]:.0f})')
