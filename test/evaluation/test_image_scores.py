"""Per-image scores as a file: every value of every image, in two formats, whole or not at all."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc

import numpy as np
import pytest
import tiny

from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation import image_scores
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.evaluation.image_scores import ImageTable, require_format
from nav_monitor_ros.evaluation.results import JudgedSources
from nav_monitor_ros.evaluation.scored_images import JudgedImages

FORMATS = ('npz', 'parquet')


@pytest.fixture(scope='module')
def judge(tiny_bundle):
    return tiny_bundle.judge(also=['all'])


@pytest.fixture(scope='module')
def sources():
    """Return labelled images, images of files with classes of their own, and unlabelled ones."""
    files = dataclasses.replace(
        from_arrays('files', tiny.strange(5, 30), np.arange(30) % 2, class_names=('lying', 'bär')),
        file_name=lambda place: f'folder/{place:02d}\udcff.png',
    )
    return {
        'tiny-5': tiny.source(5, 50), 'files': files.subset(np.arange(29, 9, -1)),
        'numbered': from_arrays('n', tiny.strange(6, 10), np.full(10, 7)),
        'bare': from_arrays('b', tiny.strange(7, 10)),
    }


@pytest.fixture(scope='module')
def judged(tiny_bundle, judge, sources):
    running = load_network(
        tiny_bundle, device='cpu', trusted_packages=['tiny'], scores=judge.scores)
    inside, *outside = sources.items()
    return evaluate(running, judge, inside[1], dict(outside))[1]


def read(path):
    if path.suffix == '.npz':
        with np.load(path) as archive:  # allow_pickle is False
            return {name: archive[name].tolist() for name in archive.files}
    parquet = pytest.importorskip('pyarrow.parquet', exc_type=ImportError)
    return parquet.read_table(path).to_pydict()


@pytest.fixture(scope='module', params=FORMATS)
def table(request, judge, sources, judged, tmp_path_factory):
    if request.param == 'parquet':
        pytest.importorskip('pyarrow', exc_type=ImportError)  # it needs numpy 2
    path = tmp_path_factory.mktemp('scores') / f'scores.{request.param}'
    ImageTable(judge, sources, judged).write(path)
    return read(path)


def test_there_is_a_row_for_every_image_and_a_column_for_every_score(table, judge):
    names = ('fused', *judge.scores)
    assert list(table) == [
        'source', 'image', 'label', 'class', 'class_index', 'confidence', 'flagged',
        'evidence_kind', *(f'score/{name}' for name in names),
        *(f'p_value/{name}' for name in names),
    ]
    assert {len(values) for values in table.values()} == {90}
    assert table['source'] == [*['tiny-5'] * 50, *['files'] * 20, *['numbered'] * 10,
                               *['bare'] * 10]


def test_every_number_is_the_one_that_was_computed(table, judged):
    images = list(judged.sources.values())
    for name in images[0].scores:
        values = np.concatenate([part.scores[name] for part in images])
        assert table[f'score/{name}'] == values.tolist()
    for name in images[0].p_values:
        values = np.concatenate([part.p_values[name] for part in images])
        assert table[f'p_value/{name}'] == values.tolist()
    assert table['confidence'] == np.concatenate([part.confidence for part in images]).tolist()
    assert table['class_index'] == np.concatenate([part.predicted for part in images]).tolist()
    assert table['class'] == [tiny.CLASSES[index] for index in table['class_index']]


def test_flags_are_those_of_the_default_score_and_only_flagged_images_have_a_kind(table, judge):
    thresholds = judge.thresholds[table['class_index']]
    assert table['flagged'] == (np.array(table['p_value/fused']) <= thresholds).tolist()
    assert any(table['flagged']) and not all(table['flagged'])
    assert [bool(kind) for kind in table['evidence_kind']] == table['flagged']
    assert {*table['evidence_kind']} <= {'', 'early_layers', 'features', 'logits'}


def test_images_are_named_by_file_or_number_and_labels_by_class_if_known(table):
    assert table['image'][:3] == ['0', '1', '2']
    assert table['image'][50:52] == ['folder/29\\udcff.png', 'folder/28\\udcff.png']
    truth = tiny.images(5, 50)[1]
    assert table['label'][:50] == [tiny.CLASSES[label] for label in truth]
    assert table['label'][50:54] == ['bär', 'lying', 'bär', 'lying']
    assert table['label'][70:80] == ['7'] * 10
    assert table['label'][80:] == [''] * 10


@pytest.mark.parametrize('kind', FORMATS)
def test_parts_of_any_size_make_the_same_file(
    kind, judge, sources, judged, tmp_path, monkeypatch, table
):
    if kind == 'parquet':
        pytest.importorskip('pyarrow', exc_type=ImportError)  # it needs numpy 2
    monkeypatch.setattr(image_scores, 'ROWS', 7)
    seen = []
    ImageTable(judge, sources, judged).write(
        tmp_path / f'a.{kind}', lambda *stage: seen.append(stage))
    assert read(tmp_path / f'a.{kind}') == table
    assert len(seen) >= 14 and {stage[0] for stage in seen} == {'per-image scores'}


@pytest.mark.parametrize('kind', FORMATS)
def test_memory_is_bounded_by_a_part(kind, judge, tmp_path, monkeypatch):
    """Beside the scores themselves, which an evaluation holds anyway."""
    if kind == 'parquet':
        pytest.importorskip('pyarrow', exc_type=ImportError)  # it needs numpy 2
    monkeypatch.setattr(image_scores, 'ROWS', 5_000)
    count = 100_000
    values = np.linspace(0, 1, count)
    names = ('fused', *judge.scores)
    images = JudgedImages(
        np.zeros(count, np.int64), values, dict.fromkeys(names, values),
        dict.fromkeys(names, np.full(count, 0.5)), np.zeros((0, 32), np.uint8),
        dict.fromkeys(judge.members, np.full(count, 'features')),
    )
    source = from_arrays('many', np.zeros((1, 2, 2), np.uint8))
    source = dataclasses.replace(
        source, places=np.zeros(count, np.int64), file_name=lambda place: 'a' * 50)
    table = ImageTable(judge, {'many': source}, JudgedSources({'many': images}))
    tracemalloc.start()
    table.write(tmp_path / f'a.{kind}')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All names would take 20 MB as an array, 10 MB as a list.
    assert peak < 6_000_000


@pytest.mark.parametrize('kind', FORMATS)
def test_an_unfinished_file_leaves_the_old_one(kind, judge, sources, judged, tmp_path):
    if kind == 'parquet':
        pytest.importorskip('pyarrow', exc_type=ImportError)  # it needs numpy 2
    path = tmp_path / f'a.{kind}'
    path.write_text('old')

    def fail(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ImageTable(judge, sources, judged).write(path, fail)
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_another_format_is_refused(tmp_path):
    for name in ('a.csv', 'a', 'a.NPZ'):
        with pytest.raises(NavMonitorError, match=r'written as \.npz or \.parquet'):
            require_format(tmp_path / name)
    require_format(tmp_path / 'a.npz')


def test_without_pyarrow_parquet_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(NavMonitorError, match=r"pip install 'nav_monitor_ros\[parquet\]'"):
        require_format(tmp_path / 'a.parquet')
    require_format(tmp_path / 'a.npz')


@pytest.mark.parametrize('kind', FORMATS)
def test_a_full_disk_is_reported_in_one_line(kind, judge, sources, judged, tmp_path, monkeypatch):
    if kind == 'parquet':
        pytest.importorskip('pyarrow', exc_type=ImportError)  # it needs numpy 2
    (tmp_path / 'folder').mkdir()
    path = tmp_path / 'folder' / f'a.{kind}'

    def full(self, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(type(path), 'replace', full)
    with pytest.raises(NavMonitorError, match=rf'cannot write .*a\.{kind}: No space left'):
        ImageTable(judge, sources, judged).write(path)
    assert not list((tmp_path / 'folder').iterdir())
