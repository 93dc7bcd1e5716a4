"""Make a network of torch from its specification and weights, without running untrusted code."""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nav_monitor_ros.errors import NavMonitorError, one_line

OWN_PACKAGE = __name__.split('.', maxsplit=1)[0]
_SCRATCH = 1 << 22  # elements that a constructor may need besides, to draw weights with
OWN_NETWORKS = f'{OWN_PACKAGE}.perception.reference'


def build(
    spec: str, arguments: Mapping[str, Any], trusted_packages: Sequence[str], weights: Path | None
) -> nn.Module:
    """Return a network; see ``NetworkSpec.build``."""
    package = spec.partition(':')[0].partition('.')[0]
    module_name, colon, factory_name = spec.partition(':')
    if not colon or not module_name or not factory_name:
        raise NavMonitorError(
            f"network '{spec}' is not of the form torchvision:NAME or "
            'package.module:factory'
        )
    if package not in {'torchvision', OWN_PACKAGE, *trusted_packages}:
        raise NavMonitorError(
            f"network '{spec}' would run code of the package '{package}'; if you "
            f"trust it, add it to trusted_packages (--trust {package} on the command line)"
        )
    factory = (
        _torchvision_factory(factory_name)
        if module_name == 'torchvision'
        else _imported_factory(module_name, factory_name)
    )
    if weights is None:
        return _make(spec, arguments, factory)
    state = _read_state(weights)
    allowance = sum(tensor.numel() for tensor in state.values())
    trusted = package in trusted_packages
    with nullcontext() if trusted else _Allowance(2 * allowance + _SCRATCH):
        network = _make(spec, arguments, factory)
    _load(network, state, weights)
    return network


def _make(spec: str, arguments: Mapping[str, Any], factory: Any) -> nn.Module:
    listed = ', '.join(f'{key}={value!r}' for key, value in arguments.items())
    shown = _one_line(listed)
    try:
        network = factory(**arguments)
    except Exception as error:
        raise NavMonitorError(f'{spec}({shown}) failed: {_one_line(error)}') from error
    if not isinstance(network, nn.Module):
        raise NavMonitorError(
            f'{spec}({shown}) returned a {type(network).__name__}, '
            'not a torch.nn.Module'
        )
    return network.eval()


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict into ``network``; see ``network.load_weights``."""
    _load(network, _read_state(path), path)


def _load(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    own = network.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    if missing or unexpected:
        raise NavMonitorError(
            f'weights {path} do not fit the network: '
            f'{_some("missing", missing)}{_some("unexpected", unexpected)}'
            'give the weights of this very architecture (and its arguments)'
        )
    for name, tensor in state.items():
        if own[name].shape != tensor.shape:
            raise NavMonitorError(
                f'weights {path} do not fit the network: {_one_line(name)} is '
                f'{tuple(tensor.shape)} in the file and {tuple(own[name].shape)} in the network; '
                'check the number of classes and the other arguments'
            )
    network.load_state_dict(state)


class _Allowance(TorchDispatchMode):
    """Stops a constructor that asks for more memory than the weights it is made for could fill."""

    def __init__(self, elements: int) -> None:
        """Allow tensors of so many elements in all."""
        super().__init__()
        self._left = elements

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler, seconds of a node's start, to switch it off."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Count what an operation makes from nothing but a size, and then do it."""
        parameters = func._schema.arguments
        if parameters and parameters[0].name == 'size' and args:
            self._left -= math.prod(max(0, int(length)) for length in args[0])
            if self._left < 0:
                raise ValueError('its arguments make it larger than its weights')
        return func(*args, **(kwargs or {}))


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise NavMonitorError(f'weights {path} do not exist')
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise NavMonitorError(
                f'weights {path} are not a safetensors file: {_one_line(error)}'
            ) from error
    if path.suffix not in {'.pt', '.pth', '.th'}:
        raise NavMonitorError(f'weights {path} are not .safetensors, .pt, .pth or .th')
    try:
        # torch warns of files that it did not write; that they cannot be read is said below.
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise NavMonitorError(
            f'weights {path} cannot be read as tensors only (code in them is not run): '
            f'{_one_line(error)}; save the state_dict alone'
        ) from error
    for key in ('state_dict', 'model_state_dict', 'model'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise NavMonitorError(f'weights {path} hold no state dict; save network.state_dict()')
    if state and all(name.startswith('module.') for name in state):
        state = {name.removeprefix('module.'): tensor for name, tensor in state.items()}
    return state


def _torchvision_factory(name: str) -> Any:
    # Imported here: torchvision takes a second to load, and only its own networks need it.
    from torchvision import models

    # Those of its other modules, detectors and such, fetch weights from the internet by themselves.
    if name not in models.list_models(module=models):
        raise NavMonitorError(
            f"torchvision has no network '{name}' that classifies; `python -c 'from torchvision "
            "import models; print(models.list_models(module=models))'` lists those that do"
        )
    return lambda **arguments: models.get_model(name, weights=None, **arguments)


def _imported_factory(module_name: str, factory_name: str) -> Any:
    if module_name.partition('.')[0] == OWN_PACKAGE and module_name != OWN_NETWORKS:
        raise NavMonitorError(f"'{module_name}' holds no networks; {OWN_NETWORKS} does")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise NavMonitorError(
            f"network package '{module_name}' cannot be imported: {_one_line(error)}; install it"
        ) from error
    for part in factory_name.split('.'):
        if not hasattr(found, part):
            raise NavMonitorError(f"'{module_name}' has no '{factory_name}'")
        found = getattr(found, part)
        if part.startswith('_') or _leads_elsewhere(found, module_name):
            raise NavMonitorError(
                f"'{module_name}:{factory_name}' leads out of the package; name a network's class "
                'or function'
            )
    if not callable(found):
        raise NavMonitorError(f"'{module_name}:{factory_name}' cannot be called")
    return found


def _leads_elsewhere(found: Any, module_name: str) -> bool:
    """Return whether code reached through a module cannot be meant as a network's.

    A module's imports are its attributes too: ``package:os.system`` would run commands. Of this
    package, which nobody was asked to trust, only what the module itself defines counts.
    """
    home = str(getattr(found, '__module__', None))
    if module_name == OWN_NETWORKS:
        return home != OWN_NETWORKS
    code = isinstance(found, (type, FunctionType, BuiltinFunctionType, MethodType))
    standard = code and home.partition('.')[0] in sys.stdlib_module_names
    return isinstance(found, ModuleType) or standard


def _some(word: str, names: list[str]) -> str:
    if not names:
        return ''
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{word} {_one_line(", ".join(names[:3]))}{more}; '


def _one_line(text: object) -> str:
    shown = one_line(text, 300)
    return shown or (type(text).__name__ if isinstance(text, Exception) else '')
