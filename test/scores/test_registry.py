"""Scores by name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.registry import SCORES, make_score


def test_an_unknown_score_or_option_is_named():
    with pytest.raises(NavMonitorError, match="no score 'knm'"):
        make_score('knm', {}, classes=2, width=2, head=None)
    with pytest.raises(NavMonitorError, match=r'; did you mean relative_mahalanobis\?$'):
        make_score('relative-mahalonobis', {}, classes=2, width=2, head=None)
    with pytest.raises(NavMonitorError, match='gama'):
        make_score('pattern', {'gama': 1}, classes=2, width=2, head=None)


@pytest.mark.parametrize('name', SCORES)
def test_every_score_has_a_test_file_that_states_its_formula(name):
    text = Path(__file__).with_name(f'test_{name}.py').read_text()
    assert 'def formula(' in text
    assert 'def test_equals_its_formula(' in text


@pytest.mark.parametrize('name', SCORES)
def test_every_docstring_states_what_the_score_needs_its_cost_and_its_source(name):
    text = ' '.join(inspect.getdoc(SCORES[name]).split())
    assert 'Needs ' in text and 'O(' in text and ' frame' in text
    assert 'Source: ' in text or 'et al., ' in text
    assert '``' in text or name in ('box', 'pattern')  # whose formula is a sentence


def test_every_score_declares_the_kind_of_its_evidence():
    kinds = {name: score.__dict__['evidence_kind'] for name, score in SCORES.items()}
    assert {name for name, kind in kinds.items() if kind is EvidenceKind.EARLY_LAYERS} == {
        'channel_means', 'layer_mahalanobis'}
    assert {name for name, kind in kinds.items() if kind is EvidenceKind.LOGITS} == {
        'msp', 'max_logit', 'energy', 'gen', 'fdbd', 'react', 'ash', 'scale', 'mc_dropout', 'decoy'}
    assert set(kinds.values()) == set(EvidenceKind)


def test_the_documentation_lists_the_scores_of_each_kind_of_evidence():
    text = (Path(__file__).parents[2] / 'docs' / 'judging.md').read_text()
    section = text[text.index('## Kinds of evidence'):text.index('## From scores to p-values')]
    listed = {
        cells[1].strip(' `'): re.findall(r'`(\w+)`', cells[3])
        for cells in (line.split('|') for line in section.splitlines() if line.startswith('| `'))
    }
    assert listed == {
        kind.value: [name for name, score in SCORES.items() if score.evidence_kind is kind]
        for kind in EvidenceKind
    }


def test_kinds_of_evidence_have_a_value_and_a_meaning():
    assert {kind.value: kind.sentence_part for kind in EvidenceKind} == {
        'early_layers': 'early layers: sensor or style',
        'features': 'features: content',
        'logits': 'logits: doubt between classes',
    }
