"""The executable camera as its own process: what it plays, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take to come up, or to end, on a busy machine


def write_script(folder, *segments):
    """Write a script of (name, source, seconds) and return its path."""
    path = folder / 'script.yaml'
    entries = [
        {'name': name, 'source': str(source), 'seconds': seconds}
        for name, source, seconds in segments
    ]
    path.write_text(json.dumps(entries))
    return path


def save_images(path, gray, count=3):
    np.savez(path, x=np.full((count, 8, 8), gray, np.uint8), y=np.zeros(count, np.int64))
    return path


def test_a_script_is_played_segment_by_segment_and_ends_the_process(graph, tmp_path):
    dark = save_images(tmp_path / 'dark.npz', 10)
    light = save_images(tmp_path / 'light.npz', 200)
    script = write_script(tmp_path, ('dark', dark, 0.5), ('light', light, 10.0))
    graph.listen(Image, '/image', 100)
    graph.listen(
        Header, '/camera/segment', QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    camera = graph.start(
        'camera', '-p', f'script:={script}', '-p', 'rate:=10.0', '-p', 'loop:=false',
        '-p', 'width:=8', '-p', 'height:=8',
    )
    assert camera.wait(START) == 0
    values = [message.data[0] for message in graph.heard['/image']]
    assert values == sorted(values)
    assert set(values) <= {10, 200}
    assert values.count(10) <= 5  # 0.5 s at 10 Hz; the first may be lost to discovery
    assert 1 <= values.count(200) <= 100
    assert [header.frame_id for header in graph.heard['/camera/segment']] == ['dark', 'light']


@pytest.mark.parametrize(
    ('given', 'size', 'black'),
    [
        ([], (480, 640), True),
        (['width:=0', 'height:=0'], (20, 40), False),
        (['width:=80', 'height:=0'], (40, 80), False),
        (['width:=0', 'height:=10'], (10, 20), False),
    ],
)
def test_images_are_published_with_borders_or_without(graph, tmp_path, given, size, black):
    images = tmp_path / 'wide.npz'
    np.savez(images, x=np.full((3, 20, 40), 200, np.uint8), y=np.zeros(3, np.int64))
    graph.listen(Image, '/image', 10)
    parameters = [word for one in (f'source:={images}', *given) for word in ('-p', one)]
    camera = graph.start('camera', *parameters)
    graph.wait(lambda: graph.heard['/image'], START, 'an image')
    message = graph.heard['/image'][0]
    assert (message.height, message.width) == size
    assert (0 in set(message.data)) is black
    hint = 'images of 40 x 20 are scaled and padded with black to 640 x 480; set width and height'
    assert (hint in camera.log.read_text()) is black


@pytest.mark.parametrize(
    ('seconds', 'expected'),
    [
        (0.001, 'segment 2 lasts 0.001 s, less than one frame at 30 Hz; set it to 0.033 s or more'),
        (0, 'segment 2 must last more than 0 and'),
        (-1, 'segment 2 must last more than 0 and'),
        ('1', 'segment 2 must last more than 0 and'),
    ],
)
def test_a_segment_without_a_frame_ends_the_process_with_one_line(
    graph, tmp_path, seconds, expected
):
    images = save_images(tmp_path / 'images.npz', 10)
    script = write_script(tmp_path, ('first', images, 1.0), ('second', images, seconds))
    refused(graph, expected, f'script:={script}')


@pytest.mark.parametrize('loop', ['true', 'false'])
def test_a_script_of_nothing_but_empty_segments_does_not_spin(graph, tmp_path, loop):
    images = save_images(tmp_path / 'images.npz', 10)
    script = write_script(tmp_path, ('only', images, 0.001))
    refused(graph, 'segment 1 lasts 0.001 s', f'script:={script}', f'loop:={loop}')


@pytest.mark.parametrize('text', ['', '[]', '{}', 'text'])
def test_a_script_without_segments_ends_the_process_with_one_line(graph, tmp_path, text):
    script = tmp_path / 'script.yaml'
    script.write_text(text)
    refused(graph, f'script {script} is not a list of segments', f'script:={script}')


def test_a_source_without_images_ends_the_process_with_one_line(graph, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    refused(graph, f'{folder} holds no images', f'source:={folder}')


def test_a_folder_of_files_that_are_no_images_ends_the_process(graph, tmp_path):
    folder = tmp_path / 'images' / 'class'
    folder.mkdir(parents=True)
    (folder / 'broken.png').write_bytes(b'no image')
    camera = graph.start('camera', '-p', f'source:={folder.parent}')
    assert camera.wait(START) == 1
    last = camera.log.read_text().splitlines()[-1]
    assert f'image {folder / "broken.png"} is unreadable' in last


def refused(graph, expected, *parameters):
    """Start a camera and see it end with status 1 and one line."""
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    camera = graph.start('camera', *arguments)
    assert camera.wait(START) == 1
    [line] = camera.log.read_text().splitlines()
    assert expected in line
