"""The nodes under a locale of ASCII: names are UTF-8 for ROS, and so for them."""

import os
import re
import shutil
from pathlib import Path

import cv2
import pytest
import tiny

pytest.importorskip('rclpy')

from ros_harness import Graph  # noqa: E402
from test_terminals import ASCII, NAMES  # noqa: E402

from nav_monitor_ros.bundle.model_card import model_card  # noqa: E402
from nav_monitor_ros.bundle.saving import save_bundle  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take to come up on a busy machine


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


def test_bundle_classes_and_images_with_names_beyond_ascii_are_judged(graph, tmp_path):
    running = tiny.classifier()
    bundle = tiny.fitted(running, class_names=NAMES)
    save_bundle(bundle, running, tmp_path / 'straße', card=model_card(bundle))
    folder = tmp_path / 'bilder ü'
    for number, (image, label) in enumerate(zip(*tiny.images(3, 20), strict=True)):
        place = folder / NAMES[label].replace('/', '_')
        place.mkdir(parents=True, exist_ok=True)
        (place / f'ä{number}.png').write_bytes(cv2.imencode('.png', image[..., ::-1])[1].tobytes())
    paths = filter(None, [os.environ.get('PYTHONPATH')])
    monitor = graph.start_monitor(
        '-p', f'bundle:={tmp_path / "straße"}', '-p', "trusted_packages:=['tiny']",
        '-p', f'incident_folder:={tmp_path / "vorfälle"}', '-p', 'blank_contrast:=0.0',
        env={**ASCII, 'PYTHONPATH': os.pathsep.join([str(Path(__file__).parents[1]), *paths])})
    camera = graph.start('camera', '-p', f'source:={folder}', env=ASCII)
    said = graph.wait_judged(START)
    assert said['class'] in NAMES
    assert (tmp_path / 'vorfälle').is_dir()
    assert monitor.poll() is None and camera.poll() is None
    assert 'Traceback' not in monitor.log.read_text() + camera.log.read_text()


@pytest.mark.parametrize(('executable', 'argument', 'said'), [
    ('monitor', 'bundle:=/nowhere/straße', "bundle '/nowhere/straße' is neither"),
    ('camera', 'source:=/nowhere/bilder ü', '/nowhere/bilder ü does not exist'),
])
def test_a_name_beyond_ascii_that_is_not_there_is_said_in_one_line(
    graph, executable, argument, said
):
    process = graph.start(executable, '-p', argument, env=ASCII)
    assert process.wait(START) == 1
    text = process.log.read_text(encoding='utf-8')
    assert said in text and 'Traceback' not in text
    assert len(re.findall(r'\[(ERROR|FATAL)\]', text)) == 1


def test_an_argument_that_is_no_text_is_refused(graph):
    process = graph.start('monitor', '-p', 'bundle:=/nowhere/\udcff')
    assert process.wait(START) == 1
    assert 'is not UTF-8 text' in process.log.read_text(encoding='utf-8')


def test_a_copy_of_a_shipped_bundle_in_such_a_folder_is_loaded(graph, tmp_path):
    shutil.copytree(Path(__file__).parents[2] / 'bundles' / 'digits', tmp_path / 'ziffern ß')
    process = graph.start_monitor('-p', f'bundle:={tmp_path / "ziffern ß"}', env=ASCII)
    graph.wait_reason('no_image', START)
    assert process.poll() is None
