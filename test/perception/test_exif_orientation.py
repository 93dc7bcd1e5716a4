"""EXIF orientation and damaged pictures: one rule for all ways in."""

from __future__ import annotations

import io
import itertools
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import write_images
from safetensors.torch import save_file

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.image_folders import IMAGE_SUFFIXES, read_file
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.inspected_network import read_image
from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.perception.exif_orientation import orientation, turned
from nav_monitor_ros.perception.image_files import decode_picture
from nav_monitor_ros.perception.preprocess import Preprocess

pillow = pytest.importorskip('PIL.Image')
image_ops = pytest.importorskip('PIL.ImageOps')

SCENE = cv2.resize(  # smooth, so that JPEG keeps it; not square, so that a turn shows
    np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8), (40, 24),
    interpolation=cv2.INTER_CUBIC,
)
FORMATS = {
    'jpg': ('JPEG', {'quality': 95}), 'png': ('PNG', {}), 'webp': ('WEBP', {'lossless': True}),
    'tif': ('TIFF', {}), 'lzw.tiff': ('TIFF', {'compression': 'tiff_lzw'}),
    'big.tiff': ('TIFF', {'big_tiff': True}),
}
MIRRORED = 2  # the orientation of a picture that is stored as in a mirror


def encoded(pixels, kind='png', number=1):
    """Return RGB pixels as a file that says how to turn them."""
    name, options = FORMATS[kind]
    exif, stream = pillow.Exif(), io.BytesIO()
    exif[0x0112] = number
    pillow.fromarray(pixels).save(stream, name, exif=exif, **options)
    return stream.getvalue()


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('number', range(1, 9))
def test_rows_stay_as_they_are_stored_or_are_turned_as_asked(tmp_path, kind, number):
    content = encoded(SCENE, kind, number)
    (tmp_path / f'one.{kind}').write_bytes(content)
    stored = open_source(str(tmp_path)).image(0)
    assert stored.shape == SCENE.shape
    assert np.abs(stored.astype(int) - SCENE).mean() < 3
    assert np.array_equal(read_image(str(tmp_path / f'one.{kind}')), stored)
    expected = image_ops.exif_transpose(pillow.open(io.BytesIO(content))).convert('RGB')
    upright = open_source(f'{tmp_path}?exif=apply').image(0)
    assert np.array_equal(upright, turned(stored, number))
    assert np.abs(upright.astype(int) - np.array(expected)).max() <= 2
    assert np.array_equal(read_image(str(tmp_path / f'one.{kind}'), exif='apply'), upright)
    assert np.array_equal(open_source(str(tmp_path)).oriented('apply').image(0), upright)
    # What a source is told goes before what a network says.
    assert np.array_equal(open_source(f'{tmp_path}?exif=ignore').oriented('apply').image(0), stored)


@pytest.mark.parametrize('kind', ['jpg', 'png'])
@pytest.mark.parametrize('number', [1, 3, 6])
def test_messages_and_files_are_decoded_alike(tmp_path, kind, number):
    content = encoded(SCENE, kind, number)
    (tmp_path / f'one.{kind}').write_bytes(content)
    for exif in ('ignore', 'apply'):
        message = decode_compressed('jpeg', content, max_pixels=10_000, exif=exif)
        assert np.array_equal(message.rgb(), read_file(tmp_path / f'one.{kind}', exif))


def test_a_mosaic_is_turned_after_it_has_become_colours():
    mosaic = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    stream, exif = io.BytesIO(), pillow.Exif()
    exif[0x0112] = 6
    pillow.fromarray(mosaic).save(stream, 'PNG', exif=exif)
    plain, upright = (
        decode_compressed('bayer_rggb8; png compressed', stream.getvalue(), max_pixels=99, exif=e)
        for e in ('ignore', 'apply')
    )
    assert np.array_equal(np.rot90(plain.rgb(), -1), upright.rgb())


@given(place=st.integers(0, 400), value=st.integers(0, 255), kind=st.sampled_from(sorted(FORMATS)))
@settings(max_examples=300, deadline=None)
def test_damaged_exif_turns_nothing_by_accident_and_raises_nothing(place, value, kind):
    content = bytearray(encoded(SCENE, kind, 6))
    content[place % len(content)] = value
    assert 1 <= orientation(bytes(content)) <= 8
    assert orientation(bytes(content[:place])) in range(1, 9)


# What a network was trained with is recorded with it, and everything goes by it.


def write_folder(folder, seed, count, number=MIRRORED):
    """Write pictures of bars, stored in a mirror and saying so."""
    for place, (image, label) in enumerate(zip(*tiny.images(seed, count), strict=True)):
        path = folder / tiny.CLASSES[label] / f'{place}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(turned(image, number), 'png', number))


def test_a_bundle_remembers_how_pictures_were_turned_in_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, seed, count in (('train', 1, 120), ('held_out', 2, 80), ('test', 3, 60)):
        write_folder(tmp_path / name, seed, count)
    save_file(tiny.network().state_dict(), tmp_path / 'bars.safetensors')
    fitting = ['fit', '--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--size', '12x12',
               '--mean', '0.5,0.5,0.5', '--std', '0.25,0.25,0.25', '--data', 'train',
               '--calibration', 'held_out', '--scores', 'msp,pattern',
               '--false-alarm-rate', '0.1', '--output']
    assert main([*fitting, 'upright', '--exif', 'apply']) == 0
    assert '120 of 120 training images' in capsys.readouterr().out
    assert main([*fitting, 'stored']) == 0
    assert '120 of 120' not in capsys.readouterr().out
    exif = [load_bundle(tmp_path / name).preprocess.exif for name in ('upright', 'stored')]
    assert exif == ['apply', 'ignore']
    judging = ['evaluate', 'upright', '--trust', 'tiny', '--inside']
    assert main([*judging, 'test', '--ood', 'odd=test', '--output', 'report']) == 0
    assert 'accuracy on test: 100.00%' in capsys.readouterr().out
    assert main([*judging, 'test?exif=ignore']) == 0
    assert 'accuracy on test?exif=ignore: 100.00%' not in capsys.readouterr().out
    assert main(['tuning', 'record', 'upright', '--weights', 'bars.safetensors', '--trust', 'tiny',
                 '--images', 'test', '--output', 'tuning']) == 0
    from nav_monitor_ros.tuning.recording_files import TuningRecording

    assert TuningRecording.open(tmp_path / 'tuning').checkpoint(0).accuracy == 1.0
    assert main(['view', 'weight-gradient', 'upright', '--trust', 'tiny', '--images', 'test',
                 '--reference', 'left', '--output', 'f.png']) == 0
    assert 'requested; missed 0 of' in capsys.readouterr().out


def upright_copy(bundle, folder):
    """Return a copy of a bundle whose network was trained on pictures as EXIF says."""
    shutil.copytree(bundle, folder)
    described = yaml.safe_load((folder / 'bundle.yaml').read_text())
    described['preprocess']['exif'] = 'apply'
    (folder / 'bundle.yaml').write_text(yaml.safe_dump(described, sort_keys=False))
    return folder


def test_replay_turns_pictures_as_the_bundle_says(tiny_folder, tmp_path):
    pytest.importorskip('rosbags')
    pictures = list(tiny.images(7, 20)[0])
    mirrored = [turned(picture, MIRRORED) for picture in pictures]
    bags = {
        'tagged': [encoded(picture, 'png', MIRRORED) for picture in mirrored],
        'stored': mirrored, 'upright': pictures,
    }
    tables = {}
    bundles = {'ignore': tiny_folder, 'apply': upright_copy(tiny_folder, tmp_path / 'b')}
    for name, bundle in bundles.items():
        for bag, frames in bags.items():
            folder = tmp_path / f'{name}_{bag}'
            write_images(folder, {'/front/image': frames}, packed=True)
            table = tmp_path / f'{name}_{bag}.csv'
            assert main(['replay', str(folder), '--bundle', str(bundle), '--trust', 'tiny',
                         '--device', 'cpu', '--csv', str(table)]) == 0
            tables[name, bag] = table.read_text()
    assert tables['ignore', 'tagged'] == tables['ignore', 'stored'] != tables['ignore', 'upright']
    assert tables['apply', 'tagged'] == tables['ignore', 'upright']
    assert tables['apply', 'stored'] == tables['ignore', 'stored']  # it says nothing of a mirror
    source = f'{tmp_path / "apply_tagged"}:/front/image'
    assert np.array_equal(open_source(source).image(3), mirrored[3])
    assert np.array_equal(open_source(f'{source}?exif=apply').image(3), pictures[3])


@pytest.mark.ros
@pytest.mark.parametrize('exif', ['ignore', 'apply'])
def test_the_node_turns_pictures_as_the_bundle_says(tmp_path, tmp_path_factory, exif):
    pytest.importorskip('rclpy')
    import moody
    from ros_harness import Graph
    from sensor_msgs.msg import CompressedImage

    bundle = moody.make_bundle(tmp_path / 'moody')
    if exif == 'apply':
        bundle = upright_copy(bundle, tmp_path / 'upright')
    pixels, labels = moody.images(3, 100)
    frames = itertools.cycle([
        encoded(turned(np.repeat(image[..., None], 3, axis=2), MIRRORED), 'png', MIRRORED)
        for image in pixels[labels == 0]
    ])
    graph = Graph(tmp_path)
    try:
        graph.start_monitor(
            '-p', f'bundle:={bundle}', '-p', 'image_transport:=compressed',
            '-p', "trusted_packages:=['moody']",
            env={'PYTHONPATH': f'{Path(__file__).parents[1]}:{os.environ.get("PYTHONPATH", "")}'},
        )
        publisher = graph.node.create_publisher(CompressedImage, 'image/compressed', 1)

        def publish():
            message = CompressedImage(format='png', data=next(frames))
            message.header.stamp = graph.node.get_clock().now().to_msg()
            publisher.publish(message)

        graph.node.create_timer(1 / 30, publish)
        seen = graph.wait_judged(60)
        assert seen['class'] == {'ignore': 'right', 'apply': 'left'}[exif]
    finally:
        graph.stop()


def test_what_has_no_exif_cannot_be_turned():
    with pytest.raises(NavMonitorError, match='have no EXIF data'):
        open_source('sample:digits?exif=apply')
    with pytest.raises(NavMonitorError, match="exif is 'yes', not one of ignore, apply"):
        open_source('sample:digits?exif=yes')
    with pytest.raises(NavMonitorError, match="exif is 'yes'"):
        Preprocess(4, 4, exif='yes')
    assert Preprocess.from_dict({'height': 4, 'width': 4}).exif == 'ignore'


# Damaged pictures: what the node refuses, a folder refuses, whatever OpenCV says.


def files(scene):
    """Return a file of every kind that a folder may hold."""
    grown = cv2.resize(scene, (160, 96))
    found = {kind: encoded(grown, kind) for kind in FORMATS}
    for kind in ('bmp', 'ppm', 'pgm'):
        pixels = grown[..., 0] if kind == 'pgm' else grown
        found[kind] = cv2.imencode(f'.{kind}', pixels)[1].tobytes()
    stream = io.BytesIO()
    pillow.fromarray(grown).save(stream, 'JPEG', progressive=True)
    found['progressive.jpg'] = stream.getvalue()
    return found


FILES = files(SCENE)


def test_all_kinds_of_files_are_tried():
    assert {f'.{name.rpartition(".")[2]}' for name in FILES} >= IMAGE_SUFFIXES - {'.jpeg'}


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('share', [0.02, 0.3, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_and_named(tmp_path, name, share):
    whole = FILES[name]
    (tmp_path / f'one.{name}').write_bytes(whole)
    assert open_source(str(tmp_path)).image(0).shape == (96, 160, 3)
    (tmp_path / f'one.{name}').write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(NavMonitorError, match=f'{name} is unreadable: ') as caught:
        open_source(str(tmp_path)).image(0)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['jpg', 'png', 'progressive.jpg'])
@pytest.mark.parametrize('cut', [2, 40, 400])
def test_a_truncated_picture_has_one_reason_in_messages_and_files(name, cut):
    content = FILES[name][:-cut]
    reasons = []
    for decode in (
        lambda: decode_compressed('jpeg', content, max_pixels=100_000),
        lambda: decode_picture(content),
    ):
        with pytest.raises(ImageError) as caught:
            decode()
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]


@pytest.mark.parametrize('content', [b'', b'GIF89a', b'hello', b'RIFF\0\0\0\0WAVE', b'\0' * 100])
def test_other_files_with_a_pictures_name_are_refused(tmp_path, content):
    (tmp_path / 'one.jpg').write_bytes(content)
    with pytest.raises(NavMonitorError, match='one.jpg is unreadable: .* not JPEG, PNG, WebP'):
        open_source(str(tmp_path)).image(0)
