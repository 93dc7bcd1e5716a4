"""Record the outputs of sigmoids, since values between 0 and 1 alone do not identify them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_SIGMOIDS = {
    torch.sigmoid, torch.sigmoid_, torch.special.expit,
    torch.Tensor.sigmoid, torch.Tensor.sigmoid_, torch.nn.functional.sigmoid,
}
_KEPT = 8  # only the last ones, since many networks use sigmoids as gates


class Sigmoids(TorchFunctionMode):
    """While active, records the results of the last sigmoids, as module, function or method."""

    def __init__(self) -> None:
        """Start with no results."""
        super().__init__()
        self._returned: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch, and record the result of a sigmoid."""
        returned = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS and torch.is_tensor(returned):
            self._returned = [*self._returned[1 - _KEPT :], returned.detach().clone()]
        return returned

    def made(self, result: torch.Tensor) -> bool:
        """Return whether a network's outputs (N, C) are the reshaped result of a sigmoid."""
        return any(
            one.numel() == result.numel() and torch.equal(one.reshape(result.shape), result)
            for one in reversed(self._returned)
        )
