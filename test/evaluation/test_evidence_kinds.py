"""What flagged images are unusual in: the same as the verdicts on them, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.evaluation.evidence_kinds import (
    evidence_kinds,
    flagged_kinds,
    strongest_members,
)
from nav_monitor_ros.evaluation.scored_images import judge_images
from nav_monitor_ros.scores.evidence_kind import EvidenceKind


@pytest.fixture(scope='module')
def running(tiny_bundle):
    scores = tiny_bundle.judge(also=['all']).scores
    return load_network(tiny_bundle, device='cpu', trusted_packages=['tiny'], scores=scores)


def sources():
    """Return lying bars, noise, which the early layers notice, and usual images."""
    noise = np.random.default_rng(4).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    return {
        'lying': from_arrays('lying', tiny.strange(5, 60)), 'noise': from_arrays('noise', noise),
        'usual': tiny.source(6, 100),
    }


@pytest.mark.parametrize('decisive', ['fused', 'knn', 'energy'])
def test_kinds_of_a_batch_are_those_of_the_verdicts(tiny_bundle, running, decisive):
    judge = tiny_bundle.judge(decisive=decisive)
    seen = set()
    for source in sources().values():
        images = judge_images(running, judge, source)
        batch = run(running, source)
        verdicts = [judge.judge(batch[index : index + 1]) for index in range(len(batch))]
        assert [judge.members[member] for member in strongest_members(judge, images)] == [
            verdict.strongest_member for verdict in verdicts]
        kinds = evidence_kinds(judge, images).tolist()
        assert kinds == [v.evidence_kind.value if v.evidence_kind else '' for v in verdicts]
        counted = flagged_kinds(judge, images)
        assert counted.flagged == sum(verdict.is_ood for verdict in verdicts)
        assert counted.none_at_threshold == sum(v.is_ood and not v.flagged_kinds for v in verdicts)
        for kind in map(EvidenceKind, counted.strongest):
            assert counted.strongest[kind.value] == kinds.count(kind.value)
            flagged = [kind in verdict.flagged_kinds for verdict in verdicts]
            assert counted.at_threshold[kind.value] == sum(flagged)
        assert sum(counted.strongest.values()) == counted.flagged
        seen |= {*kinds} - {''}
    assert len(seen) > 1 if decisive == 'fused' else len(seen) == 1


def test_an_evaluation_counts_them_for_every_source(tiny_bundle, running):
    inside, *_ = tiny.source(5, 200), None
    evaluation, judged = evaluate(running, tiny_bundle.judge(also=['all']), inside, sources())
    assert list(evaluation.evidence_kinds) == ['tiny-5', 'lying', 'noise', 'usual']
    for name, found in evaluation.evidence_kinds.items():
        assert list(found.strongest) == [kind.value for kind in EvidenceKind]
        rate = (
            evaluation.false_alarms['fused'].rate if name == 'tiny-5'
            else evaluation.separation[name]['fused'].detected
        )
        assert found.flagged == round(rate * len(judged.sources[name]))
    assert evaluation.evidence_kinds['noise'].strongest['early_layers'] > 20
