"""Build a torch network from its specification and weights, without running untrusted code."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.logits import OutputName, SelectedOutput
from nav_monitor_ros.perception.network.torch.extra_state import leave_out
from nav_monitor_ros.perception.network.torch.weight_files import SAVE, read_weights
from nav_monitor_ros.perception.network.torch.weights import load_exactly
from nav_monitor_ros.perception.network.untrusted_code import foreign_code
from nav_monitor_ros.perception.network.working_folder import findable

OWN_PACKAGE = __name__.split('.', maxsplit=1)[0]
_SCRATCH = 1 << 22  # additional elements that a constructor may need to initialise weights
OWN_NETWORKS = f'{OWN_PACKAGE}.perception.reference_networks'
_FORMER_NAME = f'{OWN_PACKAGE}.perception.reference'  # in bundles written before 0.2


def build(
    spec: str,
    arguments: Mapping[str, Any],
    trusted_packages: Sequence[str],
    weights: Path | None,
    output: OutputName | None = None,
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
            f"trust it, add it to the node's parameter trusted_packages (['{package}']) or, on the "
            f'command line of nav_monitor, give --trust {package}'
        )
    # Some import more modules when they are called.
    with findable(package) if package in trusted_packages else nullcontext():
        return _built(spec, arguments, package in trusted_packages, weights, output)


def _built(
    spec: str, arguments: Mapping[str, Any], trusted: bool, weights: Path | None,
    output: OutputName | None,
) -> nn.Module:
    module_name, _, factory_name = spec.partition(':')
    if module_name == _FORMER_NAME:
        module_name = OWN_NETWORKS
    factory = (
        _torchvision_factory(factory_name)
        if module_name == 'torchvision'
        else _imported_factory(module_name, factory_name)
    )
    if weights is None:
        return _with_output(_make(spec, arguments, factory), output)
    state = read_weights(weights)
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise NavMonitorError(f'weights {weights} hold no state dict; {SAVE}')
    allowance = sum(tensor.numel() for tensor in state.values())
    with nullcontext() if trusted else _Allowance(2 * allowance + _SCRATCH):
        network = _make(spec, arguments, factory)
    load_exactly(network, state, weights)
    return _with_output(network, output)


def _with_output(network: nn.Module, output: OutputName | None) -> nn.Module:
    """Make a network return only one of its outputs."""
    if output is not None:
        network.register_forward_hook(SelectedOutput(output))
    return network


def _make(spec: str, arguments: Mapping[str, Any], factory: Any) -> nn.Module:
    listed = ', '.join(f'{key}={value!r}' for key, value in arguments.items())
    shown = one_line(listed, 300) if listed else ''
    try:
        with foreign_code(f'{spec}({shown})'):
            network = factory(**arguments)
            # Code compiled by torch.compile runs no hooks.
            network = getattr(network, '_orig_mod', network)
            if isinstance(network, nn.Module):
                leave_out(network)
                return network.eval()
    except NavMonitorError:
        raise
    except Exception as error:
        raise NavMonitorError(f'{spec}({shown}) failed: {one_line(error, 300)}') from error
    raise NavMonitorError(
        f'{spec}({shown}) returned a {type(network).__name__}, not a torch.nn.Module'
    )


class _Allowance(TorchDispatchMode):
    """Stops a constructor that allocates more memory than its weights require."""

    def __init__(self, elements: int) -> None:
        """Set the total number of tensor elements allowed."""
        super().__init__()
        self._left = elements

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Prevent torch from importing its compiler just to disable it; that takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Count the elements that an operation creates from a size, then run it."""
        parameters = func._schema.arguments
        if parameters and parameters[0].name == 'size' and args:
            self._left -= math.prod(max(0, int(length)) for length in args[0])
            if self._left < 0:
                raise ValueError('its arguments make it larger than its weights')
        return func(*args, **(kwargs or {}))


def _torchvision_factory(name: str) -> Any:
    # Imported here since torchvision takes a second to load and only its own networks need it.
    from torchvision import models

    # Networks of its other modules, such as detectors, download weights when they are built.
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
        with foreign_code(f"network package '{module_name}' cannot be imported: it"):
            found: Any = importlib.import_module(module_name)
    except NavMonitorError:
        raise
    except ModuleNotFoundError as error:
        raise NavMonitorError(
            f"network package '{module_name}' cannot be imported: {one_line(error)}; install it, "
            "or add its folder to PYTHONPATH"
        ) from error
    except Exception as error:  # raised by third-party code
        raise NavMonitorError(
            f"network package '{module_name}' cannot be imported: {type(error).__name__}: "
            f'{one_line(error, 300)}'
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
    """Return whether code reached through a module cannot be that of a network.

    A module's imports are its attributes too: ``package:os.system`` would run commands. In this
    package, which needs no trust, only names that the module itself defines are allowed.
    """
    home = str(getattr(found, '__module__', None))
    if module_name == OWN_NETWORKS:
        return home != OWN_NETWORKS
    code = isinstance(found, (type, FunctionType, BuiltinFunctionType, MethodType))
    standard = code and home.partition('.')[0] in sys.stdlib_module_names
    return isinstance(found, ModuleType) or standard
