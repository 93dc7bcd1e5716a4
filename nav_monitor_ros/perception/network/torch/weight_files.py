"""Weight files, written as safetensors and read as tensors only, without running code."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.paths import reachable
from nav_monitor_ros.perception.network.model_files import (
    ZIP,
    require_model_file,
    require_whole_archive,
    unreadable,
)

# Suffixes of files written by torch.save.
SUFFIXES = ('.pt', '.pth', '.th', '.ckpt', '.bin', '.tar')
SAVE = 'save only the tensors: torch.save(network.state_dict(), FILE)'
State = Mapping[str, torch.Tensor]
EXTRA_STATE = '_extra_state'  # last part of the names of entries that need not be tensors

# How torch's unpickler names objects that it refuses to create.
_REFUSED = re.compile(
    r'(?:GLOBAL|[Uu]nsupported (?:global|class)|Trying to (?:instantiate unsafe|call)[^.]*?class)'
    r":?\s+(?:GLOBAL )?'?([A-Za-z_][\w]*(?:\.\w+)+)"
)


def read_weights(path: Path) -> object:
    """Return the contents of a weight file: tensors by name, possibly in nested dictionaries.

    Raises:
        NavMonitorError: The file is missing, unreadable, damaged, or holds Python objects other
            than tensors.
    """
    if reachable(path).is_file() and path.suffix not in ('.safetensors', *SUFFIXES):
        raise NavMonitorError(
            f'weights {path} are not .safetensors, {", ".join(SUFFIXES[:-1])} or {SUFFIXES[-1]}'
        )
    require_model_file(path, 'weights')
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise NavMonitorError(
                f'weights {path} are not a safetensors file, or damaged: {one_line(error, 200)}; '
                'copy or download it again'
            ) from error
    with path.open('rb') as stream:
        archive = stream.read(len(ZIP)) == ZIP
    if archive:
        require_whole_archive(path, 'weights')
        if _is_torchscript(path):
            raise NavMonitorError(
                f'weights {path} are a TorchScript program, which is not run; save only the '
                'tensors: torch.save(torch.jit'
                '.load(FILE).state_dict(), OTHER)'
            )
    try:
        # torch warns about files that it did not write; the error below reports unreadable ones.
        # Training scripts store their command line with the weights; a Namespace runs no code.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter('ignore')
            return torch.load(path, map_location='cpu', weights_only=True)
    except PermissionError as error:
        raise unreadable(path, 'weights', error) from None
    except Exception as error:  # torch's readers may raise anything
        raise _refusal(path, error, archive) from error


def write_weights(state: State, path: Path) -> None:
    """Write weights as safetensors.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        save_file(_separate(state), path)
    except SafetensorError as error:  # its message contains the system's error number
        found = re.search(r'os error (\d+)', str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error


def _separate(state: State) -> dict[str, torch.Tensor]:
    """Return contiguous tensors that share no memory, since safetensors refuses those that do.

    A part of a network that it holds under two names has its tensors twice.
    """
    taken: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        own = tensor.contiguous()
        memory = own.untyped_storage().data_ptr()
        if memory in taken:
            own = own.clone()
        taken.add(memory)
        separate[name] = own
    return separate


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def _has_extra_state(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(
            name.endswith('/data.pkl') and EXTRA_STATE.encode() in archive.read(name)
            for name in archive.namelist()
        )


def _refusal(path: Path, error: Exception, archive: bool) -> NavMonitorError:
    """Return the error for a file that torch cannot read; torch would advise running its code."""
    found = _REFUSED.search(str(error))
    if found is not None and archive and _has_extra_state(path):
        return NavMonitorError(
            f'weights {path} hold Python objects ({one_line(found[1], 80)}), apparently as extra '
            'state of modules, and code in them is not run; save only the tensors: torch.save('
            '{name: value for name, value in network.state_dict().items() if '
            'torch.is_tensor(value)}, FILE)'
        )
    if found is not None:
        return NavMonitorError(
            f'weights {path} hold Python objects ({one_line(found[1], 80)}), and code in them is '
            f'not run; {SAVE}'
        )
    if archive and isinstance(error, pickle.UnpicklingError):
        return NavMonitorError(
            f'weights {path} hold more than tensors, and code in them is not run; {SAVE}'
        )
    reason = one_line(error, 120)
    shown = '' if 'weights_only' in reason else f' ({reason})'
    return NavMonitorError(
        f'weights {path} are truncated, damaged, or not written by torch.save{shown}; copy or '
        f'download the file again, or {SAVE}'
    )
