"""Device and precision of torch."""

from __future__ import annotations

import logging

import torch

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import TF32

_log = logging.getLogger(__name__)


def require_device(name: str) -> torch.device:
    """Return the device to compute on like ``select_device``, but without a fallback.

    For work that takes hours on the CPU and minutes on the requested GPU.

    Raises:
        NavMonitorError: ``name`` is not a device, or the device does not exist.
    """
    if name == 'cuda' or name.removeprefix('cuda:').isdecimal():
        count = torch.cuda.device_count()
        if int(name.partition(':')[2] or 0) >= count:
            raise NavMonitorError(
                f'device {name} does not exist ({count} CUDA devices); choose auto or cpu'
            )
    return select_device(name)


def select_device(name: str) -> torch.device:
    """Return the device to compute on, and log the choice.

    Args:
        name: ``auto`` (the first CUDA device if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The device; the CPU, with a warning, if the requested CUDA device does not exist.

    Raises:
        NavMonitorError: ``name`` is none of these.
    """
    kind, _, number = name.partition(':')
    if name not in {'auto', 'cpu', 'cuda'} and not (kind == 'cuda' and number.isdecimal()):
        raise NavMonitorError(f"device '{name}' is not auto, cpu, cuda or cuda:N")
    index = int(number or 0)
    available = torch.cuda.device_count() if name != 'cpu' else 0
    if name == 'cpu' or (name == 'auto' and not available):
        device = torch.device('cpu')
    elif index < available:
        device = torch.device('cuda', index)
    else:
        _log.warning('device %s does not exist (%d CUDA devices); using the CPU', name, available)
        return torch.device('cpu')
    _log.info('computing on %s (device: %s)', device, name)
    return device


def set_precision(device: torch.device, precision: str) -> None:
    """Set the precision of torch on a GPU, for the whole process; call it before each pass.

    By default, torch uses TensorFloat-32 in convolutions but not in linear layers: scores would
    differ from those of a calibration on a CPU.

    Args:
        device: Device; on the CPU nothing is set.
        precision: ``f32`` or ``tf32``.
    """
    if device.type == 'cuda':
        allowed = precision == TF32
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed
