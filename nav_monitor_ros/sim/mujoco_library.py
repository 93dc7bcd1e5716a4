"""MuJoCo, which only the simulator needs, loaded for rendering without a display."""

from __future__ import annotations

import atexit
import importlib
import os
from contextlib import suppress
from functools import cache
from typing import Any

from nav_monitor_ros.errors import NavMonitorError, one_line

_SURFACE = (16, 16)  # pixels; images are rendered to buffers of their own
_PLATFORMS = ('egl', 'osmesa')  # that render without a display, the first that works


@cache
def load_mujoco() -> Any:
    """Return the module ``mujoco``, with an OpenGL that needs no display.

    The environment variable ``MUJOCO_GL`` selects the platform; by default EGL, or OSMesa where EGL
    does not work.

    Raises:
        NavMonitorError: MuJoCo is not installed, or no OpenGL can be used.
    """
    wanted = os.environ.get('MUJOCO_GL', '')
    try:
        import mujoco
    except ImportError as error:
        if wanted:
            raise NavMonitorError(
                f'MuJoCo cannot be loaded with MUJOCO_GL={wanted}: {one_line(error)}'
            ) from error
        raise NavMonitorError(
            "the simulator needs MuJoCo: pip install 'nav_monitor_ros[sim]'"
        ) from error
    return mujoco


@cache
def gl_context() -> Any:
    """Return this process's OpenGL context, which is current in the thread that asked first.

    Raises:
        NavMonitorError: Neither EGL nor OSMesa is usable.
    """
    load_mujoco()
    with suppress(ImportError):
        # Triton, which torch imports late (torch.compile, ONNX export), contains an LLVM of its
        # own. Loading it after that of Mesa's software renderer crashes the process; the other way
        # round, both work.
        importlib.import_module('triton._C.libtriton')
    wanted = os.environ.get('MUJOCO_GL', '').lower()
    problems = []
    for platform in (wanted,) if wanted in _PLATFORMS else _PLATFORMS:
        # PyOpenGL chooses its functions at its first import in a process.
        previous = os.environ.get('PYOPENGL_PLATFORM')
        os.environ['PYOPENGL_PLATFORM'] = platform
        try:
            if platform == 'egl':
                from mujoco.egl import GLContext
            else:
                from mujoco.osmesa import GLContext
            context = GLContext(*_SURFACE)
            context.make_current()
            # Later, while the interpreter shuts down, PyOpenGL cannot free it any more.
            atexit.register(context.free)
            return context
        except Exception as error:  # PyOpenGL raises AttributeError, ImportError and its own
            problems.append(f'{platform}: {one_line(error)}')
            if previous is None:
                del os.environ['PYOPENGL_PLATFORM']
            else:
                os.environ['PYOPENGL_PLATFORM'] = previous
    raise NavMonitorError(
        f'no OpenGL for rendering without a display ({"; ".join(problems)}): install libegl1 and '
        'libgl1-mesa-dri, or libosmesa6'
    )
