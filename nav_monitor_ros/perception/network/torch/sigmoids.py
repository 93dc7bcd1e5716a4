"""Which tensors a sigmoid has made: of outputs between 0 and 1, the values alone do not say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_SIGMOIDS = {
    torch.sigmoid, torch.sigmoid_, torch.special.expit,
    torch.Tensor.sigmoid, torch.Tensor.sigmoid_, torch.nn.functional.sigmoid,
}
_KEPT = 8  # the last ones: networks are full of gates that are sigmoids


class Sigmoids(TorchFunctionMode):
    """While it is in force, keeps what the last sigmoids return, as module, function or method."""

    def __init__(self) -> None:
        """Start without any."""
        super().__init__()
        self._returned: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch, and keep what a sigmoid returns."""
        returned = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS and torch.is_tensor(returned):
            self._returned = [*self._returned[1 - _KEPT :], returned.detach().clone()]
        return returned

    def made(self, result: torch.Tensor) -> bool:
        """Return whether a network's outputs (N, C) are what a sigmoid returned, reshaped."""
        return any(
            one.numel() == result.numel() and torch.equal(one.reshape(result.shape), result)
            for one in reversed(self._returned)
        )
