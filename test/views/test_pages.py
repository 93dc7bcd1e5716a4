"""Every page of the product in a real browser: offline, without a complaint, and used by hand."""

from dataclasses import replace

import numpy as np
import pytest
import recorded
import tiny
from browser import Browser
from report_samples import made_up
from safetensors.torch import save_file
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.evaluation.report_data import Picture
from nav_monitor_ros.evaluation.report_page import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp('profile'))
    yield opened
    opened.close()


@pytest.fixture(scope='module')
def narrow(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp('profile'), 500, 1000)
    yield opened
    opened.close()


def run(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """Write every kind of page, each once, by its command."""
    folder = tmp_path_factory.mktemp('pages')
    drawn = ('--image', 'sample:digits', '--index', 7)
    run('view', 'volume', 'digits', *drawn, '--layer', 'conv4', '--output', folder / 'volume.vox',
        '--turnable', folder / 'turnable.html')
    run('view', 'weight-gradient', 'digits', '--images', 'sample:digits?limit=300',
        '--measured', 60, '--output', folder / 'weights.html')
    run('view', 'evolution', 'digits', *drawn, '--images', 'sample:digits?limit=300',
        '--steps', 12, '--frames', 5, '--output', folder / 'evolution.html')
    run('evaluate', 'digits', '--inside', 'sample:digits?limit=300',
        '--ood', 'noise=sample:noise?count=60', '--output', folder, '--force')
    digits, strange = (open_source(f'sample:{name}') for name in ('digits', 'triangles'))
    recorded.write_images(folder / 'drive', {'/camera/image_raw': [
        (strange if 20 <= i < 40 else digits).image(i) for i in range(60)
    ]})
    run('replay', folder / 'drive', '--bundle', 'digits', '--html', folder / 'replay.html',
        '--csv', folder / 'a.csv')
    (folder / 'b.csv').write_text((folder / 'a.csv').read_text().replace(',ood,', ',suspect,', 4))
    run('compare', folder / 'a.csv', folder / 'b.csv', '--bag', folder / 'drive',
        '--html', folder / 'compare.html')
    return folder


@pytest.fixture(scope='module')
def tuning(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tuning')
    run('train', 'digits', '--data', 'sample:digits?limit=4000', '--epochs', 1,
        '--record-tuning', folder / 'tuning', '--record-every', 0.34,
        '--output', folder / 'bundle')
    run('view', 'tuning', folder / 'tuning', '--permutations', 20,
        '--output', folder / 'tuning.html')
    return folder / 'tuning.html'


PAGES = ('volume.html', 'weights.html', 'evolution.html', 'report.html', 'replay.html',
         'compare.html')


@pytest.mark.parametrize('name', PAGES)
def test_a_page_fits_a_telephone(browser, pages, name):
    browser.resize(320)
    browser.open(pages / name)
    assert browser.overflow() <= 0
    for drawing in browser.find_all('.timeline'):
        # Too wide for the window, it is moved across and not made too small to be read.
        assert drawing.size['width'] >= 700
    browser.resize(1200)


@pytest.mark.parametrize('name', PAGES)
def test_a_page_is_drawn_offline_without_a_complaint(browser, narrow, pages, name):
    for window in (browser, narrow):
        window.open(pages / name)
        assert window.picture().std() > 10
        assert window.overflow() <= 0
        for image in window.find_all('img'):
            assert window.script('return arguments[0].complete && arguments[0].naturalWidth', image)
        window.assert_well()


@pytest.mark.parametrize('name', ['replay.html', 'compare.html'])
def test_a_mark_of_a_timeline_leads_to_its_picture(browser, pages, name):
    browser.open(pages / name)
    marks, figures = browser.find_all('.timeline a'), browser.find_all('figure')
    assert len(marks) >= len(figures) > 0
    wanted = browser.script('return arguments[0].getAttribute("href")', marks[0])
    ActionChains(browser.driver).move_to_element(marks[0]).click().perform()
    browser.wait('return document.querySelector("figure:target") !== null', 'the picture')
    shown = browser.find('figure:target')
    assert f'#{shown.get_attribute("id")}' == wanted
    box = browser.script(
        'const b = arguments[0].getBoundingClientRect(); return [b.top, innerHeight]', shown)
    assert 0 <= box[0] < box[1]
    assert browser.find('figure:target img').size['width'] > 20
    browser.assert_well()


@pytest.mark.parametrize(('name', 'count'), [
    ('volume.html', 3), ('weights.html', 1), ('evolution.html', 1),
])
def test_sliders_move_and_play(browser, pages, name, count):
    browser.open(pages / name)
    sliders = browser.find_all('.slides')
    assert len(sliders) >= count
    for number in range(len(sliders)):
        root = f'(document.querySelectorAll(".slides")[{number}])'
        browser.script(f'{root}.id = "probe{number}"')
        one = f'#probe{number}'
        last = int(browser.find(f'{one} input').get_attribute('max'))
        browser.slide(f'{one} input', 0)
        first, told = browser.picture(f'{one} .slots'), browser.find(f'{one} output').text
        browser.slide(f'{one} input', last)
        second = browser.picture(f'{one} .slots')
        assert browser.find(f'{one} output').text != told
        assert first.shape != second.shape or not np.array_equal(first, second)
        browser.press(f'{one} input', Keys.ARROW_LEFT)
        assert browser.find(f'{one} input').get_attribute('value') == str(last - 1)
        button = f'{one} button'
        browser.find(button).click()
        assert browser.find(button).text == 'Pause'
        browser.wait(
            f'return document.querySelector("{one} input").value !== "{last - 1}"', 'it to play'
        )
        browser.find(button).click()
        assert browser.find(button).text == 'Play'
        now = browser.find(f'{one} input').get_attribute('value')
        # Longer than a step; what stands still cannot be waited for.
        browser.driver.execute_async_script('setTimeout(arguments[0], 700)')
        assert browser.find(f'{one} input').get_attribute('value') == now
    browser.assert_well()


def test_a_volume_that_cannot_be_drawn_is_said_to_be_so(pages, tmp_path):
    without = Browser(tmp_path / 'profile', flags=['--disable-3d-apis'])
    try:
        without.open(pages / 'turnable.html')
        context = 'return document.createElement("canvas").getContext("webgl2")'
        assert without.script(context) is None
        told = without.find('#not-drawn')
        assert told.is_displayed() and 'WebGL 2, which is not available' in told.text
        assert 'page with slices' in told.text
        assert (without.picture()[400:600].astype(int).min(axis=2) < 100).any()
    finally:
        without.close()


def test_pages_with_long_names_of_classes_fit_a_telephone(browser, tmp_path):
    """A word that is wider than the window is broken; names beyond Latin stay what they are."""
    names = ('Donaudampfschifffahrtsgesellschaftskapitänsmütze_der_österreichischen_Marine',
             'a very long class name that goes on and on without any end in sight', 'größe 数字')
    network = tiny.classifier()
    bundle = tiny.fitted(network, class_names=names)
    save_bundle(bundle, network, tmp_path / 'bundle', card=model_card(bundle))
    for number, weights in enumerate((tiny.Bars().state_dict(), tiny.network().state_dict())):
        save_file(weights, tmp_path / f'{number}.safetensors')
    pixels, labels = tiny.images(3, 60)
    np.savez(tmp_path / 'images.npz', x=pixels, y=labels)
    recorded.write_images(tmp_path / 'drive', {
        '/front/a_topic_with_a_rather_long_name/image_raw':
            [*tiny.images(7, 12)[0], *tiny.strange(7, 12)]})
    own = (tmp_path / 'bundle', '--trust', 'tiny')
    run('tuning', 'record', *own, '--images', tmp_path / 'images.npz', '--output', tmp_path / 't',
        '--weights', tmp_path / '0.safetensors', '--weights', tmp_path / '1.safetensors')
    run('view', 'tuning', tmp_path / 't', '--permutations', 3, '--output', tmp_path / 'tuning.html')
    run('view', 'weight-gradient', *own, '--images', tmp_path / 'images.npz', '--measured', 9,
        '--output', tmp_path / 'weights.html')
    run('evaluate', *own, '--inside', tmp_path / 'images.npz', '--output', tmp_path, '--force')
    run('replay', tmp_path / 'drive', '--bundle', *own, '--html', tmp_path / 'replay.html',
        '--csv', tmp_path / 'a.csv')
    run('compare', tmp_path / 'a.csv', tmp_path / 'a.csv', '--html', tmp_path / 'compare.html')
    browser.resize(360)
    for page in ('tuning', 'weights', 'report', 'replay', 'compare'):
        browser.open(tmp_path / f'{page}.html')
        if page == 'tuning':
            browser.wait('return document.querySelector(".legend i") !== null', 'the legend')
        assert browser.overflow() <= 0, page
    browser.resize(1200)


@pytest.mark.parametrize(('name', 'words'), [
    ('volume.html', 'The slider needs JavaScript'),
    ('evolution.html', 'The slider needs JavaScript'),
    ('weights.html', 'The slider needs JavaScript'),
    ('turnable.html', 'drawn by JavaScript, which is switched off'),
])
def test_without_javascript_a_page_says_what_is_missing(browser, pages, name, words):
    browser.driver.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': True})
    try:
        browser.driver.get((pages / name).resolve().as_uri())
        assert words in ' '.join(browser.find('body').text.split())
        if name != 'turnable.html':
            assert not browser.find('.slides .controls').is_displayed()
            assert all(image.size['width'] > 20 for image in browser.find_all('img'))
    finally:
        browser.driver.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': False})


SIZES = [(8, 8), (8, 100), (27, 27), (38, 38), (64, 64), (65, 65), (64, 12), (96, 96), (97, 97),
         (240, 320), (720, 1280), (1280, 720), (3, 400)]
LONG = ('7', 'a very long class name that goes on and on without any end in sight',
        'Donaudampfschifffahrtsgesellschaftskapitänsmütze' * 2, '数字识别网络的类别名称' * 3)


@pytest.mark.parametrize('width', [1200, 400, 320])
def test_no_thumbnail_covers_its_caption_whatever_the_size_of_the_images(browser, tmp_path, width):
    rng = np.random.default_rng(0)
    shown = tuple(
        Picture('photographs', rng.integers(0, 256, (*size, 3), np.uint8), LONG[number % 4], 0.9,
                0.02)
        for number, size in enumerate(SIZES)
    )
    write_report(tmp_path / 'report.html', replace(made_up(), missed=shown, false_alarms=shown[:3]))
    browser.resize(width)
    browser.open(tmp_path / 'report.html')
    boxes = browser.script("""
      return [...document.querySelectorAll('.pictures figure')].map(figure => {
        const [own, image, caption] = [figure, ...figure.querySelectorAll('img, figcaption')]
          .map(element => element.getBoundingClientRect());
        return [own.left, own.right, image.left, image.right, image.bottom, caption.top,
                caption.left, caption.right, image.width, image.height];
      });""")
    assert len(boxes) == len(SIZES) + 3
    for left, right, from_x, to_x, bottom, top, text_left, text_right, wide, high in boxes:
        assert bottom <= top, 'an image covers its caption'
        assert left <= from_x and to_x <= right and left <= text_left and text_right <= right
        assert 1 <= wide <= 100 and 1 <= high <= 100
    assert browser.overflow() <= 0
    browser.assert_well()
    browser.resize(1200)


def test_a_volume_is_turned_round(browser, pages):
    browser.open(pages / 'turnable.html')
    browser.wait('return document.querySelector("canvas") !== null', 'k3d')
    drawn = 'const c = document.querySelector("canvas"); return c.width > 100 && c.height > 100'
    browser.wait(drawn, 'the canvas')

    def voxels():
        seen = browser.picture().astype(int)[150:, :900]
        return seen, int((np.ptp(seen, axis=2) > 25).sum())  # coloured pixels

    for _ in range(100):
        before, colored = voxels()
        if colored > 5000:
            break
        browser.driver.execute_async_script('setTimeout(arguments[0], 200)')
    assert colored > 5000
    ActionChains(browser.driver).move_to_element(browser.find('canvas')).click_and_hold() \
        .move_by_offset(120, 30).move_by_offset(60, 20).release().perform()
    for _ in range(100):
        after, colored = voxels()
        if (after != before).any(axis=2).mean() > 0.02:
            break
        browser.driver.execute_async_script('setTimeout(arguments[0], 200)')
    assert (after != before).any(axis=2).mean() > 0.02 and colored > 3000
    browser._collect()
    # The driver's remarks on how fast pictures are read back are about the test.
    browser.complaints = [said for said in browser.complaints if 'GL Driver Message' not in said]
    browser.assert_well()


# The page of class tuning.


def ready(browser, page):
    browser.open(page)
    browser.wait('return window.tuning && window.tuning.ready', 'the page to be unpacked')


def cells(browser):
    """Return how many components there are, and what each one is."""
    return browser.script("""
        const seen = [];
        for (let i = 0; ; i += 1) {
          let one;
          try { one = tuning.cell(i); } catch { break; }
          seen.push({...tuning.look(i), color: tuning.colorOf(i)});
        }
        return seen;
    """)


def pixel(browser, component):
    """Return the colour of a cell near its corner, away from its letter, (3,)."""
    browser.script(
        'const [x, y] = tuning.cell(arguments[0]); window.scrollBy(0, y - 500);', component
    )
    x, y, side = browser.script('return tuning.cell(arguments[0])', component)
    return browser.picture()[round(y - side * 0.36), round(x - side * 0.36)].astype(int)


def test_tuning_is_drawn_as_it_is(browser, tuning):
    ready(browser, tuning)
    seen = cells(browser)
    assert len(seen) == 24 + 48 + 128 + 10
    output = seen[-10:]
    assert [one['label'] for one in output] == list(range(10))
    assert all(one['value'] > 0.5 and one['above'] for one in output)
    for component in (0, 50, len(seen) - 1):
        if not seen[component]['dead']:
            wanted = [int(v) for v in seen[component]['color'][4:-1].split(',')]
            assert np.abs(pixel(browser, component) - wanted).max() <= 3
    browser.assert_well()


def test_tuning_follows_slider_play_switch_and_measure(browser, tuning):
    ready(browser, tuning)
    last = browser.picture('#layers')
    told = browser.find('#when').text
    assert 'epoch 1' in told and 'accuracy' in told
    browser.slide('#time', 0)
    assert 'untrained' in browser.find('#when').text
    first = browser.picture('#layers')
    assert (first != last).mean() > 0.02
    browser.find('#play').click()
    assert browser.find('#play').text == 'Pause'
    browser.wait('return tuning.index > 0', 'it to play')
    browser.wait('return !tuning.playing && document.querySelector("#when").textContent'
                 '.includes("epoch 1")', 'it to end')
    assert browser.find('#play').text == 'Play'
    assert np.array_equal(browser.picture('#layers'), last)
    browser.press('#time', Keys.HOME)
    assert browser.script('return tuning.index') == 0
    before = browser.picture('#layers')
    browser.script('document.querySelectorAll("#kinds input")[1].click()')
    assert browser.script('return tuning.kind') == 1
    predicted = browser.picture('#layers')
    assert (predicted != before).mean() > 0.001  # untrained, both labels differ most
    browser.script(
        'const m = document.querySelector("#measure"); m.value = 3;'
        'm.dispatchEvent(new Event("change"));'
    )
    assert 'mutual information' in browser.find('#about').text
    assert (browser.picture('#layers') != predicted).mean() > 0.02
    browser.assert_well()


def test_a_click_on_a_component_shows_its_classes_and_images(browser, tuning):
    ready(browser, tuning)
    canvases = browser.find_all('#layers canvas')
    component = browser.script('return 24 + 48 + 128 + 4')  # the output of class 4
    box = browser.script(
        'const b = arguments[0].getBoundingClientRect(); const c = tuning.cell(arguments[1]);'
        'return [c[0] - b.left, c[1] - b.top]', canvases[-1], component,
    )
    browser.click_at(canvases[-1], *box)
    assert browser.script('return tuning.selected') == component
    panel = browser.find('#panel').text
    assert 'output, component 4' in panel and 'for class 4' in panel
    assert len(browser.find_all('#panel tr')) == 11
    tiles = browser.find_all('#panel .tiles canvas')
    assert len(tiles) == 8
    pictures = [
        browser.script(
            'const c = arguments[0];'
            'return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data)',
            tile,
        ) for tile in tiles
    ]
    assert min(np.std(picture) for picture in pictures) > 20
    # Those are images of a four, most of them.
    said = [figure.text for figure in browser.find_all('#panel .tiles figure')]
    assert sum(text == '4' for text in said) >= 6
    browser.script('arguments[0].focus()', canvases[-1])
    canvases[-1].send_keys(Keys.ARROW_RIGHT)
    assert browser.script('return tuning.selected') == component + 1
    assert 'component 5' in browser.find('#panel').text
    browser.assert_well()


def test_tuning_fits_a_narrow_window(narrow, tuning):
    ready(narrow, tuning)
    assert narrow.overflow() <= 0
    narrow.assert_well()
