"""The stochastic part of a network, from its first dropout layer on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nav_monitor_ros.errors import NavMonitorError

_DROPOUTS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)
_FUNCTIONS = {
    functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d,
    functional.alpha_dropout, functional.feature_alpha_dropout, torch.dropout,
}
_ROWS = 4096  # images times passes per batch


class StochasticHead:
    """Runs the layers from the first dropout layer on repeatedly, with active dropout.

    The features that enter the first dropout layer are deterministic and computed once; only the
    layers after it are repeated, all passes in one batch. Dropout layers with the probability 0
    change nothing and do not count. Dropout that the network calls as a function is known only
    immediately before the head. The masks are drawn once, from a seed:
    the same image gives the same result, alone or in a batch, live or replayed.
    """

    def __init__(self, network: nn.Module, probe: torch.Tensor, head: str | None) -> None:
        """Find the layers and check that running them in sequence gives the network's result.

        Args:
            network: Network in evaluation mode.
            probe: Valid input images, (2 or more, channels, height, width).
            head: Name of the layer whose output is the logits; None for the network's own output.

        Raises:
            NavMonitorError: The network has no dropout layer, or the part after the first one is
                not a chain of layers.
        """
        trace = _trace(network, probe, head)
        names, entering, result = trace.names, trace.entering, trace.result
        modules = dict(network.named_modules())
        found = [i for i, name in enumerate(names) if _drops(modules[name])]
        # The first module that is repeated, or whose input is.
        self.first = names[found[0]] if found else head or ''
        self._chain: list[nn.Module] = [modules[name] for name in names[found[0]:]] if found else []
        if not found and trace.before_head:
            self._chain = [nn.Dropout(trace.before_head).eval(), modules[self.first]]
        if not self._chain:
            reason = (
                'calls dropout as a function elsewhere than immediately before the last linear '
                'layer, where it cannot be repeated alone (a torch.nn.Dropout module can)'
                if trace.called else 'has no dropout layer'
            )
            raise NavMonitorError(
                f'mc_dropout: the network {reason}; leave this score out (--scores)'
            )
        last = self._chain[-1]
        alone = len(self._chain) == 2 and isinstance(last, nn.Linear)
        self._linear = last if alone and isinstance(last, nn.Linear) else None
        plain = not any(isinstance(module, _DROPOUTS[1:]) for module in self._chain)
        if not plain or not self._repeats(entering, result):
            raise NavMonitorError(
                f'mc_dropout: the part after the dropout layer {self.first} is not a plain chain '
                'of layers with ordinary dropout; leave this score out (--scores)'
            )
        self._masks: list[torch.Tensor | None] = []
        self._passes = 0

    def _repeats(self, entering: Mapping[str, torch.Tensor], result: torch.Tensor) -> bool:
        """Return whether the chain, run separately, gives the network's result."""
        try:
            with torch.inference_mode():
                output = entering[self.first]
                for module in self._chain:
                    output = module(output)
            return output.shape == result.shape and torch.allclose(
                output, result, rtol=1e-3, atol=1e-4
            )
        except Exception:  # layers that cannot be chained may raise anything
            return False

    @property
    def is_linear(self) -> bool:
        """Return whether only a linear layer follows the dropout."""
        return self._linear is not None

    def draw(self, passes: int, seed: int) -> None:
        """Draw the masks of K passes.

        Args:
            passes: Number K of passes.
            seed: Random seed for the masks.
        """
        self._passes, self._seed = passes, seed
        self._masks = []

    @torch.inference_mode()
    def __call__(self, entering: torch.Tensor) -> torch.Tensor:
        """Return the outputs of K passes.

        Args:
            entering: Input of the first dropout layer, float32 (N, ...).

        Returns:
            float32 (N, K, outputs).
        """
        block = max(1, _ROWS // self._passes)
        if len(entering) <= block:
            return self.run(entering)
        return torch.cat(
            [self.run(entering[i : i + block]) for i in range(0, len(entering), block)]
        )

    def run(self, entering: torch.Tensor) -> torch.Tensor:
        """Return the outputs of all passes of all images in one batch."""
        if not self._masks:
            self._draw_for(entering)
        # `len` would fix the number of images when torch traces this for export.
        images, passes = entering.shape[0], self._passes
        if self._linear is not None and self._masks[0] is not None:
            # For most heads, bypassing the layers' hooks and reshaping is twice as fast.
            spread = entering.unsqueeze(1) * self._masks[0]
            return functional.linear(spread, self._linear.weight, self._linear.bias)
        rows = entering
        for position, (module, mask) in enumerate(zip(self._chain, self._masks, strict=True)):
            if mask is None:
                rows = module(rows)
                continue
            spread = rows.unsqueeze(1) if position == 0 else rows.unflatten(0, (images, passes))
            rows = (spread * mask).flatten(0, 1)
        return rows.flatten(1).unflatten(0, (images, passes))

    def _draw_for(self, entering: torch.Tensor) -> None:
        generator = torch.Generator().manual_seed(self._seed)
        masks: list[torch.Tensor | None] = []
        row = entering[:1].clone()  # a layer may work in place
        for module in self._chain:
            if isinstance(module, nn.Dropout):
                keep = 1 - module.p
                chance = torch.rand(self._passes, *row.shape[1:], generator=generator)
                mask = (chance < keep).float() / keep if keep else torch.zeros_like(chance)
                masks.append(mask.to(entering.device))
            else:
                masks.append(None)
            row = module(row)
        self._masks = masks


def _drops(module: nn.Module) -> bool:
    """Return whether a module is a dropout layer that ever sets values to 0."""
    return isinstance(module, _DROPOUTS) and module.p > 0


@dataclass(frozen=True)
class _Trace:
    """One pass of a network in evaluation mode."""

    names: Sequence[str]  # leaf modules in the order of execution, up to the head
    entering: Mapping[str, torch.Tensor]  # their inputs
    result: torch.Tensor  # logits
    called: bool  # whether dropout with a probability above 0 was called as a function
    before_head: float  # its probability, where its result enters the head; 0 elsewhere


class _CalledDropout(TorchFunctionMode):
    """While active, records the results of dropout that is called as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.probabilities = WeakTensorKeyDictionary()
        self.inside = 0  # dropout modules that are running; they call the function, too
        self.called = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        returned = func(*args, **named)
        if func in _FUNCTIONS and not self.inside:
            p = float(named.get('p', args[1] if len(args) > 1 else 0.5))
            self.called = self.called or p > 0
            if func in (functional.dropout, torch.dropout) and torch.is_tensor(returned):
                # In evaluation mode the result may be the input itself.
                self.probabilities[returned] = p
        return returned


def _trace(network: nn.Module, probe: torch.Tensor, head: str | None) -> _Trace:
    """Run a network once, and record its leaf modules and dropout."""
    names: list[str] = []
    entering: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}
    calls = _CalledDropout()
    before_head = 0.0

    def hook(name: str):
        def note(_module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            names.append(name)
            if inputs and torch.is_tensor(inputs[0]):
                entering[name] = inputs[0].clone()
            if torch.is_tensor(output):
                outputs[name] = output.clone()

        return note

    def enter(_module: nn.Module, _inputs: tuple) -> None:
        calls.inside += 1

    def leave(_module: nn.Module, _inputs: tuple, _output: object) -> None:
        calls.inside -= 1

    def enter_head(_module: nn.Module, inputs: tuple) -> None:
        nonlocal before_head
        given = inputs[0] if inputs else None
        before_head = calls.probabilities.get(given, 0.0) if torch.is_tensor(given) else 0.0

    modules = dict(network.named_modules())
    leaves = {name: m for name, m in modules.items() if not any(True for _ in m.children())}
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves.items()]
    for module in leaves.values():
        if isinstance(module, _DROPOUTS):
            handles += [
                module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    if head is not None:
        handles.append(modules[head].register_forward_pre_hook(enter_head))
    try:
        with torch.inference_mode(), calls:
            result = network(probe)
    finally:
        for handle in handles:
            handle.remove()
    if head is not None:
        names = names[: len(names) - names[::-1].index(head)]
        result = outputs[head]
    return _Trace(names, entering, result, calls.called, before_head)
