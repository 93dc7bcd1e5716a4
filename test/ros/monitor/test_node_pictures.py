"""Pictures and diagnostics of the running monitor."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from moody_feed import RELIABLE  # noqa: E402
from ros_harness import rgb_message, stamp_ns, values  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

pytestmark = pytest.mark.ros


def pictures_drawn(graph):
    for message in reversed(graph.heard['/diagnostics']):
        for status in message.status:
            if 'pictures_drawn' in values(status):
                return int(values(status)['pictures_drawn'])
    return None


def test_pictures_are_drawn_for_subscribers_only(trusted):
    trusted.wait(lambda: pictures_drawn(trusted) is not None, 10, 'diagnostics')
    assert pictures_drawn(trusted) == 0
    trusted.listen(Image, '/nav_monitor/overlay', RELIABLE)
    trusted.listen(CompressedImage, '/nav_monitor/activations/compressed', RELIABLE)
    trusted.wait(lambda: len(trusted.heard['/nav_monitor/overlay']) > 3, 10, 'overlays')
    trusted.wait(
        lambda: trusted.heard['/nav_monitor/activations/compressed'], 10, 'activations'
    )
    overlay = trusted.heard['/nav_monitor/overlay'][-1]
    assert overlay.encoding == 'rgb8' and overlay.header.frame_id == 'test_camera'
    assert stamp_ns(overlay.header) in trusted.feed.stamps
    assert len(overlay.data) == overlay.step * overlay.height
    assert len(set(overlay.data)) > 10  # not blank
    jpeg = trusted.heard['/nav_monitor/activations/compressed'][-1]
    assert bytes(jpeg.data[:3]) == b'\xff\xd8\xff' and 'jpeg' in jpeg.format


def test_the_overlay_says_so_when_the_camera_is_dead(trusted):
    trusted.listen(Image, '/nav_monitor/overlay', RELIABLE)
    trusted.wait(lambda: trusted.heard['/nav_monitor/overlay'], 10, 'an overlay')
    trusted.feed.play(None)
    trusted.wait_reason('stale_image', 5)
    count = len(trusted.heard['/nav_monitor/overlay'])
    trusted.wait(lambda: len(trusted.heard['/nav_monitor/overlay']) > count + 2, 10, 'overlays')


def test_diagnostics_name_all_four_parts(trusted):
    message = trusted.wait(lambda: trusted.heard['/diagnostics'][-1:], 10, 'diagnostics')[0]
    assert isinstance(message, DiagnosticArray)
    assert [s.name.rpartition(': ')[2] for s in message.status] == [
        'input', 'inference', 'ood', 'model'
    ]
    assert Bool in (type(m) for m in trusted.heard['/ood_alert'])


def damaged(stamp):
    message = rgb_message(np.zeros((8, 8, 3), np.uint8), stamp)
    message.data = message.data[:100]
    return message


@pytest.mark.parametrize('fault', ['silence', 'damage'])
def test_inference_without_images_to_judge_is_stale_in_diagnostics(trusted, fault):
    trusted.wait_diagnostic('inference', 'from an image to its verdict', 10)
    if fault == 'silence':
        trusted.feed.play(None)
    else:
        trusted.feed.play(damaged)
    status = trusted.wait_diagnostic('inference', 'no image judged for', 15)
    assert status.level == DiagnosticStatus.STALE
    assert int(values(status)['judged']) > 0
