"""Names that a terminal cannot show or would act upon, in every command and from every library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from recorded import write_images
from safetensors.torch import save_file

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.cli.console import table_console
from nav_monitor_ros.errors import NavMonitorError, one_line, printable

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
NAMES = ('straße', '数字', '[red]a  b[/]')
# Runs commands one after the other in one process, which imports torch once.
RUNNER = """
import json, sys, traceback
from nav_monitor_ros.cli.main import main
ended = []
for arguments in json.load(open(sys.argv[1], encoding='utf-8')):
    print('==', file=sys.stdout)
    print('==', file=sys.stderr)
    try:
        ended.append(main(arguments))
    except SystemExit as end:
        ended.append(end.code)
    except BaseException:
        traceback.print_exc()
        ended.append(-1)
    sys.stdout.flush()
print('==' + json.dumps(ended))
"""
ASCII = {'LC_ALL': 'C', 'LANG': 'C', 'PYTHONUTF8': '0', 'PYTHONIOENCODING': 'ascii',
         'PYTHONCOERCECLOCALE': '0'}
LATIN = {'LC_ALL': 'C', 'PYTHONUTF8': '1', 'PYTHONIOENCODING': 'iso8859-1'}
UTF_8 = {'LC_ALL': 'C.UTF-8', 'PYTHONUTF8': '1', 'PYTHONIOENCODING': 'utf-8'}


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}
    paths = [str(ROOT), str(ROOT / 'test'), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return {**kept, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'COLUMNS': '160',
            'OMP_NUM_THREADS': '1', **more}


@pytest.fixture(scope='module')
def desk(tmp_path_factory):
    """Return a folder with a bundle of odd class names, images and a bag."""
    folder = tmp_path_factory.mktemp('desk')
    running = tiny.classifier()
    bundle = tiny.fitted(running, class_names=NAMES)
    save_bundle(bundle, running, folder / 'bundle', card=model_card(bundle))
    pixels, labels = tiny.images(3, 60)
    np.savez(folder / 'inside.npz', x=pixels, y=labels)
    np.savez(folder / 'strange.npz', x=tiny.strange(4, 40))
    drive = [*tiny.images(7, 20)[0], *tiny.strange(7, 12)]
    write_images(folder / 'drive', {'/front/image': drive})
    return folder


def commands(desk, out):
    """Return commands that show names, and one for each way to fail with a name."""
    trusted = ['--trust', 'tiny', '--device', 'cpu']
    bundle, inside = str(desk / 'bundle'), str(desk / 'inside.npz')
    looked = [bundle, '--image', inside, *trusted]
    return [
        ['show', bundle],
        ['evaluate', bundle, '--inside', inside, '--ood', f'größe[red]={desk / "strange.npz"}',
         *trusted, '--output', str(out / 'evaluation')],
        ['replay', str(desk / 'drive'), '--bundle', bundle, *trusted, '--csv',
         str(out / 'a.csv'), '--html', str(out / 'a.html'), '--output', str(out / 'judged')],
        ['compare', str(out / 'a.csv'), str(out / 'judged'), '--html', str(out / 'c.html')],
        ['view', 'layers', bundle, *trusted],
        ['view', 'grid', *looked, '--output', str(out / 'grid.png')],
        ['view', 'backprop', *looked, '--output', str(out / 'backprop.png')],
        ['fit', '--model', 'tiny:Bars', '--weights', str(desk / 'größe\x1b[31m\n.pth'),
         '--data', inside, '--calibration', inside, '--size', '12x12', '--output',
         str(out / 'fitted')],
        ['show', str(desk / 'größe\udcff\x1b]0;title\x07')],
        ['evaluate', bundle, '--inside', 'größe'],
        ['view', 'größe'],
    ]


def run(desk, out, terminal):
    out.mkdir()
    (out / 'commands').write_text(json.dumps(commands(desk, out)), encoding='utf-8')
    done = subprocess.run(
        [sys.executable, '-c', RUNNER, out / 'commands'], capture_output=True, timeout=300,
        env=environment(**terminal), cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode('utf-8', 'replace')
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ('terminal', 'encoding', 'shown'),
    [(ASCII, 'ascii', r'stra\xdfe'), (LATIN, 'iso8859-1', 'straße'), (UTF_8, 'utf-8', 'straße')],
    ids=['ascii', 'latin-1', 'utf-8'])
def test_every_command_ends_as_it_should_whatever_the_terminal_can_show(
    desk, tmp_path, terminal, encoding, shown
):
    out, err = run(desk, tmp_path / 'out', terminal)
    out, err = out.decode(encoding), err.decode(encoding)
    *said, ended = out.split('==')[1:]
    assert 'Traceback' not in err
    assert json.loads(ended) == [0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2], err
    for text in (*said, err):
        assert not [c for c in text if unicodedata.category(c) == 'Cc' and c != '\n'], text
    assert shown in said[0] and '[red]a  b[/]' in said[0] and '[31m' not in said[0]
    for refusal in err.split('==')[8:11]:
        assert refusal.strip().count('\n') == 0 and refusal.strip().startswith('nav_monitor ')
    # A logger's warnings, and nothing of Python's own.
    assert 'Warning' not in err, err
    for file, name in (('a.csv', 'straße'), ('a.html', 'straße'), ('c.html', 'straße'),
                       ('evaluation/report.html', 'größe[red]')):
        assert name in (tmp_path / 'out' / file).read_text(encoding='utf-8')


def test_classes_of_folders_are_text_under_a_locale_of_ascii(tmp_path):
    """The command as a person starts it: its process takes file names for UTF-8."""
    folder = tmp_path / 'bilder ü'
    pixels, labels = tiny.images(1, 240)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / ('links', 'mitte', 'straße')[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f'{number}.png').write_bytes(cv2.imencode('.png', image[..., ::-1])[1].tobytes())
    np.savez(tmp_path / 'held_out.npz', x=tiny.images(2, 80)[0])
    save_file(tiny.network().state_dict(), tmp_path / 'bars.safetensors')

    def nav_monitor(*arguments):
        return subprocess.run(
            [sys.executable, '-m', 'nav_monitor_ros.cli.command', *arguments], capture_output=True,
            timeout=120, cwd=tmp_path, env=environment(**ASCII))

    done = nav_monitor(
        'fit', '--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--data', folder,
        '--calibration', 'held_out.npz', '--size', '12x12', '--mean', '0.5,0.5,0.5', '--std',
        '0.25,0.25,0.25', '--scores', 'energy', '--fuse', 'energy', '--false-alarm-rate', '0.1',
        '--output', 'straße')
    assert done.returncode == 0, done.stderr
    assert rb'wrote stra\xdfe' in done.stdout
    assert load_bundle(tmp_path / 'straße').class_names == ('links', 'mitte', 'straße')
    shown = nav_monitor('show', 'straße')
    assert shown.returncode == 0 and rb'mitte, stra\xdfe' in shown.stdout
    missing = nav_monitor('show', 'nö')
    assert missing.returncode == 2 and rb"bundle 'n\xf6' is neither" in missing.stderr


@pytest.mark.parametrize(('text', 'shown'), [
    ('\x1b[1;31mRuntimeError\x1b[0m: no\nsuch  file', 'RuntimeError: no such  file'),
    ('\x1b]0;a title\x07x', 'x'), ('\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\', 'link'),
    ('\x9b31mred\x9b0m', 'red'), ('a\x1b(Bb\x1bcc', 'abc'), ('a\x1b', 'a'), ('\x1b[', ''),
    ('a\x00b\x07', r'a\x00b\x07'), ('a\r\n\t b\u2028c\x85d', 'a b c d'),
    ('übung 数字 👩\u200d🔬', 'übung 数字 👩\u200d🔬'), ('a\u202eb', r'a\u202eb'),
    ('a\udcffb', r'a\udcffb'), (r'C:\new', r'C:\new'), ('two  spaces', 'two  spaces'), ('', ''),
])
def test_printable_text_is_one_line_that_a_terminal_only_shows(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_a_message_is_one_line_whatever_went_into_it():
    assert str(NavMonitorError('folder a\nb\x1b[2J: missing')) == 'folder a b: missing'
    assert f'{NavMonitorError("a", "b")}' == "('a', 'b')"
    assert one_line('\x1b[31m' + 'x' * 300 + '\x1b[0m') == 'x' * 200 + '...'
    assert one_line(ValueError('\x1b[0m')) == 'ValueError'


def test_names_in_tables_are_no_markup(capsys):
    from rich.table import Table

    table = Table(title='of [bold]all[/bold] :smile:')
    table.add_column('[/]')
    table.add_row('[red]x[/red]\x1b[31m')
    table_console().print(table)
    said = ' '.join(capsys.readouterr().out.split())
    for text in ('of [bold]all[/bold] :smile:', '[/]', '[red]x[/red]'):
        assert text in said
    assert '\x1b' not in said
