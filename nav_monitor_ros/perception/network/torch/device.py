"""The device that torch computes on, and how precisely."""

from __future__ import annotations

import logging

import torch

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import TF32

_log = logging.getLogger(__name__)


def require_device(name: str) -> torch.device:
    """Return the device to compute on, as ``select_device`` does, but never another one.

    For work that takes hours on the CPU and minutes on the GPU that was asked for.

    Raises:
        NavMonitorError: ``name`` is no device, or that device does not exist.
    """
    if name == 'cuda' or name.removeprefix('cuda:').isdecimal():
        count = torch.cuda.device_count()
        if int(name.partition(':')[2] or 0) >= count:
            raise NavMonitorError(
                f'device {name} is not there ({count} CUDA devices); choose auto or cpu'
            )
    return select_device(name)


def select_device(name: str) -> torch.device:
    """Return the device to compute on, and log the choice.

    Args:
        name: ``auto`` (the first CUDA device if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The device; the CPU, with a warning, where the wanted CUDA device does not exist.

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
        _log.warning('device %s is not there (%d CUDA devices); using the CPU', name, available)
        return torch.device('cpu')
    _log.info('computing on %s (device: %s)', device, name)
    return device


def set_precision(device: torch.device, precision: str) -> None:
    """Set how torch multiplies on a GPU, for the whole process; call it before each pass.

    torch's own default lets convolutions, not linear layers, use TensorFloat-32: scores would
    differ from those that the monitor was calibrated with on a processor.

    Args:
        device: On the CPU nothing is set.
        precision: ``f32`` or ``tf32``.
    """
    if device.type == 'cuda':
        allowed = precision == TF32
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed
