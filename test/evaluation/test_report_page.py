"""The page of an evaluation: that it stands alone, says everything, and survives odd input."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from dataclasses import replace

import cv2
import numpy as np
import pytest
from report_samples import (
    INSIDE,
    Page,
    made_up,
    pictures,
    read,
)

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.report_data import Picture, ReportData
from nav_monitor_ros.evaluation.report_page import write_report
from nav_monitor_ros.evaluation.tables import TERMS


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    return read(tmp_path_factory.mktemp('report'), made_up())


def test_page_says_every_fact_source_score_and_table(page):
    data = made_up()
    wanted = [data.title, *data.lines, *data.scores, *data.scores[INSIDE]]
    for caption, headings, rows in data.tables:
        wanted += [caption, *headings, *(cell for row in rows for cell in row)]
    assert not [text for text in wanted if text not in page.text]
    assert len(page.having('table')) == 2
    # Each source: two ROC plots and a histogram; and the calibration plot.
    figures = [svg['aria-label'] for svg in page.having('svg') if svg.get('role') == 'img']
    assert len(figures) == len(set(figures)) == 2 * 3 + 1


def test_words_of_the_tables_are_explained_before_the_first_table(page):
    before = page.text[:page.text.index('score mean AUROC')]
    for term, meaning in TERMS.items():
        assert f'{term} {meaning}' in before


def test_legends_say_what_every_line_of_the_figures_is(page):
    words = page.text.split('If p-values are calibrated')[1]
    calibration = words[:words.index(f'triangles against {INSIDE}')]
    for drawn in ('fused', '95% interval of fused', 'share equal to the p-value', 'threshold p ='):
        assert drawn in calibration
    for source in ('triangles', 'photographs'):
        part = page.text[page.text.index(f'{source} against {INSIDE} 400 images'):]
        for drawn in ('fused at its threshold', 'guessing', f'{source} flagged:', 'threshold p ='):
            assert drawn in part[:part.index('Histogram') + 600]


def test_page_needs_nothing_from_elsewhere(tmp_path):
    write_report(tmp_path / 'report.html', made_up())
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert not re.findall(r'https?:|//[a-z]', re.sub(r'base64,[^"]*', '', text))
    assert '@import' not in text
    page = Page(text)
    assert {'script', 'iframe', 'object'}.isdisjoint(tag for tag, _ in page.elements)
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ('src', 'href', 'xlink:href'):
                assert value.startswith(('#', 'data:')), (tag, name)
            assert not name.startswith('on')


def test_every_reference_on_the_page_leads_somewhere(page):
    names = {attributes['id'] for _, attributes in page.elements if 'id' in attributes}
    used = {a['href'][1:] for _, a in page.elements if a.get('href', '').startswith('#')}
    for _, attributes in page.elements:
        for value in attributes.values():
            used.update(re.findall(r'url\(#([^)]*)\)', value or ''))
    assert used
    assert used <= names


def test_names_that_look_like_markup_stay_text(tmp_path):
    odd = '<script>alert("1")</script> & $x_{2}$ --> 数字 \udcff'
    data = made_up(ours=2, peers=0)
    scores = {f'{odd}{n}': {odd: v['score 1'], 'fused': v['fused']}
              for n, v in enumerate(data.scores.values())}
    p_values = {f'{odd}{n}': {odd: v['score 1'], 'fused': v['fused']}
                for n, v in enumerate(data.p_values.values())}
    page = read(tmp_path, ReportData(
        title=odd, lines=(odd,), inside=f'{odd}0', default=odd, scores=scores, p_values=p_values,
        thresholds={odd: (0.01, 0.01)},
        areas={}, flagged={}, tables=((odd, [odd, odd], [[odd, odd]]),),
        missed=(Picture(odd, np.zeros((8, 8), np.uint8), odd, 0.5, 0.5),), false_alarms=(),
    ))
    assert not page.having('script')
    assert page.text.count(odd.replace('\udcff', '\\udcff')) > 10


def test_default_rows_are_marked_and_only_those(tmp_path):
    rows = [['fused', '1'], ['fused, at its threshold', '2'], ['fused more', '3'], []]
    data = replace(made_up(), tables=(('t', ['a', 'b'], rows),))
    page = read(tmp_path, data)
    marked = [a for a in page.having('tr') if a.get('class') == 'default']
    assert len(marked) == 2


def test_large_evaluations_make_a_small_page(tmp_path):
    outside = tuple(f'source {n}' for n in range(6))
    data = replace(
        made_up(images=10_000, outside=outside, ours=12, peers=13),
        missed=pictures('source 0', 24, (32, 32, 3)),
        false_alarms=pictures(INSIDE, 24, (224, 224, 3)),
    )
    write_report(tmp_path / 'report.html', data)
    assert (tmp_path / 'report.html').stat().st_size < 3_000_000


def decoded(page):
    for image in page.having('img'):
        content = base64.b64decode(image['src'].removeprefix('data:image/png;base64,'))
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape[:2] == (int(image['height']), int(image['width']))
        yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def test_small_pictures_are_enlarged_pixel_by_pixel_and_keep_their_colours(tmp_path):
    pixels = np.random.default_rng(4).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    shown = Picture('photographs', pixels, 'seven', 0.987, 0.0123)
    page = read(tmp_path, replace(made_up(), missed=(shown,), false_alarms=()))
    (drawn,) = decoded(page)
    assert drawn.shape == (60, 96, 3)
    np.testing.assert_array_equal(drawn[1::3, 1::3], pixels)
    assert 'photographs “seven”, 98.7% p = 0.012' in page.text


@pytest.mark.parametrize('shape', [(28, 28), (28, 28, 1), (480, 640, 3), (1, 1), (2000, 3)])
def test_pictures_of_any_size_fit_the_grid(tmp_path, shape):
    page = read(tmp_path, replace(made_up(), missed=pictures('a', 1, shape), false_alarms=()))
    (drawn,) = decoded(page)
    assert 64 <= max(drawn.shape[:2]) <= 128


def test_no_pictures_are_said_to_be_none(tmp_path):
    page = read(tmp_path, replace(made_up(), missed=(), false_alarms=()))
    assert not page.having('img')
    assert page.text.count('None.') == 2


def with_values(data, source, score=None, p_value=None):
    """Return data in which a source has other values, the same for every score."""
    scores, p_values = dict(data.scores), dict(data.p_values)
    if score is not None:
        scores[source] = dict.fromkeys(data.scores[source], np.asarray(score, float))
    if p_value is not None:
        p_values[source] = dict.fromkeys(data.p_values[source], np.asarray(p_value, float))
    return replace(data, scores=scores, p_values=p_values)


def one_image(data):
    return with_values(data, 'triangles', [3.0], [0.001])


def constant(data):
    for source in data.scores:
        data = with_values(data, source, np.zeros(50), np.ones(50))
    return data


def infinite(data):
    return with_values(data, 'triangles', [np.inf, -np.inf, np.nan, 0.0], [0.0, 1.0, np.nan, 0.5])


def no_images(data):
    return with_values(data, 'triangles', [], [])


def one_image_inside(data):
    return with_values(data, INSIDE, [0.0], [1.0])


def no_p_values(data):
    return replace(data, p_values={name: {} for name in data.scores}, thresholds={},
                   flagged={})


def no_p_values_and_constant(data):
    return no_p_values(constant(data))


def no_thresholds(data):
    return replace(data, thresholds={})


def default_is_no_score(data):
    return replace(data, default='gone')


def extreme_thresholds(data):
    return replace(data, thresholds={'fused': (0.0, 1.0)})


def no_outside(data):
    return replace(data, scores={INSIDE: data.scores[INSIDE]},
                   p_values={INSIDE: data.p_values[INSIDE]})


def nothing(data):
    return ReportData('', (), 'a', 'b', {'a': {}}, {'a': {}}, {}, {}, {}, (), (), ())


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('change', [
    one_image, constant, infinite, no_images, one_image_inside, no_p_values,
    no_p_values_and_constant, no_thresholds, default_is_no_score, extreme_thresholds, no_outside,
    nothing,
])
def test_degenerate_evaluations_make_a_page_without_a_warning(tmp_path, change):
    data = change(made_up(ours=3, peers=1))
    page = read(tmp_path, data)
    assert not [name for name in data.scores if name not in page.text]
    paths = ' '.join(path.get('d', '') for path in page.having('path'))
    assert 'nan' not in paths and 'inf' not in paths


def test_settings_of_the_users_own_plots_do_not_count_and_stay(tmp_path):
    import matplotlib

    write_report(tmp_path / 'a.html', made_up(ours=2, peers=0))
    with matplotlib.rc_context({'axes.facecolor': 'red', 'font.size': 30, 'svg.fonttype': 'path'}):
        write_report(tmp_path / 'b.html', made_up(ours=2, peers=0))
        assert matplotlib.rcParams['font.size'] == 30
    assert (tmp_path / 'a.html').read_bytes() == (tmp_path / 'b.html').read_bytes()


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'report.html'
    write_report(path, made_up(ours=2, peers=0))
    before = path.read_bytes()

    def full(self, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(type(path), 'replace', full)
    with pytest.raises(NavMonitorError, match=r'cannot write .*report\.html: No space left'):
        write_report(path, made_up())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ['report.html']


def test_a_page_that_cannot_be_drawn_leaves_the_old_one(tmp_path):
    path = tmp_path / 'report.html'
    path.write_text('old')
    broken = replace(made_up(ours=2, peers=0), missed=(None,))
    with pytest.raises(AttributeError):
        write_report(path, broken)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_pages_place_is_an_error_for_the_user(tmp_path):
    (tmp_path / 'report.html').mkdir()
    with pytest.raises(NavMonitorError, match='cannot write'):
        write_report(tmp_path / 'report.html', made_up(ours=2, peers=0))
    assert [file.name for file in tmp_path.iterdir()] == ['report.html']


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs chromium')
@pytest.mark.parametrize('width', [500, 1200])
def test_a_browser_shows_the_page(tmp_path, width):
    write_report(tmp_path / 'report.html', made_up())
    shot = tmp_path / 'shot.png'
    subprocess.run(
        [shutil.which('chromium'), '--headless', '--no-sandbox', '--disable-gpu',
         '--hide-scrollbars', f'--user-data-dir={tmp_path / "profile"}', f'--screenshot={shot}',
         f'--window-size={width},4000', (tmp_path / 'report.html').as_uri()],
        check=True, capture_output=True, timeout=120,
    )
    picture = cv2.imread(str(shot))
    assert picture.shape == (4000, width, 3)
    # Something everywhere, in the curves' colours too: blue and vermillion, as OpenCV's BGR.
    assert all(part.std() > 5 for part in np.array_split(picture[:2400], 4))
    for color in ((0xB2, 0x72, 0x00), (0x00, 0x5E, 0xD5)):
        assert (abs(picture.astype(int) - color).max(axis=2) < 8).sum() > 200
