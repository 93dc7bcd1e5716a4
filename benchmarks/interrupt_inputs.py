"""Inputs of the commands that benchmarks/interrupts.py interrupts."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRAMES = 300  # frames of the replayed bag


def write_checkpoints(folder: Path) -> None:
    """Write two checkpoints: the network's weights, and the same weights halved."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(ROOT / 'bundles/digits/model.safetensors')
    save_file(weights, folder / '1.safetensors')
    halved = {
        name: value / 2 if value.dtype.kind == 'f' else value for name, value in weights.items()
    }
    save_file(halved, folder / '2.safetensors')


def record_digits(folder: Path) -> None:
    """Write a bag of digits."""
    import cv2
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from nav_monitor_ros.data.sources import open_source

    digits = open_source(f'sample:digits?limit={FRAMES}')
    store = get_typestore(Stores.ROS2_HUMBLE)
    kind = 'sensor_msgs/msg/CompressedImage'
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/camera', kind, typestore=store)
        for number in range(FRAMES):
            stamp_ns = number * 33_333_333
            header = store.types['std_msgs/msg/Header'](
                store.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9)), 'camera')
            png = cv2.imencode('.png', digits.image(number))[1].reshape(-1)
            message = store.types[kind](header, 'png', png)
            writer.write(connection, stamp_ns, store.serialize_cdr(message, kind))
