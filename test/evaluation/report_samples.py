"""Synthetic evaluations, and a parser for their page."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
from sklearn.metrics import roc_auc_score

from nav_monitor_ros.evaluation.report_data import Picture, ReportData
from nav_monitor_ros.evaluation.report_page import write_report

VOID = {'meta', 'img', 'br', 'link', 'input', 'hr'}
INSIDE = 'digits: test'


class Page(HTMLParser):
    """Parsed page; parsing fails if elements are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('style', 'script'):
            self.words.append(data)

    @property
    def text(self):
        return ' '.join(' '.join(self.words).split())

    def having(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def pictures(source, count, shape=(28, 28)):
    rng = np.random.default_rng(1)
    return tuple(
        Picture(source, rng.integers(0, 256, shape, dtype=np.uint8), f'class {i}', 0.875, 0.02)
        for i in range(count)
    )


def made_up(*, images=400, outside=('triangles', 'photographs'), ours=8, peers=3):
    """Return the data of an evaluation: better scores first, p-values only for this package's."""
    rng = np.random.default_rng(0)
    own = ['fused', *(f'score {n}' for n in range(1, ours))]
    names = [*own, *(f'pytorch-ood {n}' for n in range(peers))]
    held_out = np.sort(rng.normal(size=1000))
    scores = {
        source: {
            name: rng.normal(0 if source == INSIDE else 3 / (1 + n), 1, images)
            for n, name in enumerate(names)
        }
        for source in (INSIDE, *outside)
    }
    p_values = {
        source: {
            name: (1 + 1000 - held_out.searchsorted(found[name])) / 1001 for name in own
        }
        for source, found in scores.items()
    }
    table = ('All sources', ['score', 'mean AUROC'], [[n, '97.12 %'] for n in names])
    return ReportData(
        title='digits', lines=('Network tiny, 10 classes.', 'Made on a Monday.'), inside=INSIDE,
        default='fused', scores=scores, p_values=p_values,
        areas={
            source: {
                name: roc_auc_score(
                    np.repeat([0, 1], images),
                    np.concatenate([scores[INSIDE][name], scores[source][name]]))
                for name in names
            }
            for source in outside
        },
        flagged={
            source: {name: (p <= 0.01).mean() for name, p in found.items()}
            for source, found in p_values.items()
        },
        thresholds=dict.fromkeys(own, (0.01, 0.01)),
        tables=(table, ('False alarms', ['score', 'measured'], [['fused', '0.91 %']])),
        missed=pictures(outside[0], 3) if outside else (),
        false_alarms=pictures(INSIDE, 2, (480, 640, 3)),
    )


def read(tmp_path, data):
    path = tmp_path / 'report.html'
    write_report(path, data)
    return Page(path.read_text(encoding='utf-8'))
