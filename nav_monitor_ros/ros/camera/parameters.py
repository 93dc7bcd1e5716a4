"""The parameters of the executable ``camera``."""

from __future__ import annotations

from nav_monitor_ros.runtime.parameter_definition import Parameter

CAMERA_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        'source', 'string', 'sample:digits',
        'Images to play: a folder, an `.npz`, idx files or a `sample:NAME`, as for `nav_monitor '
        'fit`.',
        read_only=True,
    ),
    Parameter(
        'script', 'string', '',
        'YAML file with a list of segments to play one after another, each with `name`, `source` '
        'and `seconds`. Replaces `source`.',
        read_only=True,
    ),
    Parameter('rate', 'float', 30.0, 'Images per second.', low=0.1, high=1000.0,
              read_only=True, unit='Hz'),
    Parameter(
        'width', 'int', 640,
        'Columns of the published image. An image is scaled to fit into `width` x `height`, '
        'without changing its aspect ratio, and centred on black. 0: derived from `height` '
        'and the aspect ratio; with both 0, images are published unchanged, without black borders.',
        low=0, high=16384, read_only=True, unit='pixels',
    ),
    Parameter(
        'height', 'int', 480,
        'Rows of the published image. 0: derived from `width` and the aspect ratio.',
        low=0, high=16384, read_only=True, unit='pixels',
    ),
    Parameter(
        'hold', 'int', 1, 'Frames for which each image is shown.', low=1, high=100_000,
        read_only=True, unit='frames',
    ),
    Parameter(
        'loop', 'bool', True, 'Start over at the end; otherwise exit.', read_only=True,
    ),
    Parameter(
        'encoding', 'string', 'bgr8', 'Encoding of raw images.',
        choices=('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8'), read_only=True,
    ),
    Parameter(
        'image_transport', 'string', 'raw',
        'Form of the output: `raw` publishes `image`; `compressed` publishes JPEG images on '
        '`image/compressed`.',
        choices=('raw', 'compressed'), read_only=True,
    ),
    Parameter(
        'reliability', 'string', 'reliable', 'Reliability policy of the publisher.',
        choices=('reliable', 'best_effort'), read_only=True,
    ),
    Parameter('frame_id', 'string', 'camera', 'Frame of the images.', read_only=True),
)
