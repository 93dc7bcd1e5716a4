"""One forward pass over one image on a GPU, recorded once and played again without Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

_log = logging.getLogger(__name__)
_WARM_UP = 3  # passes before the recording, in which libraries choose their kernels
_Named = dict[str, torch.Tensor]


class CudaGraph:
    """A recorded pass. What the hooks kept while it was recorded is filled anew by each replay."""

    def __init__(
        self, network: nn.Module, shape: Sequence[int], device: torch.device,
        kept: Callable[[], _Named],
    ) -> None:
        """Record a pass.

        Args:
            network: With its hooks, on the device.
            shape: Of the input, (1, channels, height, width).
            device: A CUDA device.
            kept: Returns what the hooks of the last pass kept.

        Raises:
            RuntimeError: The network does something that cannot be recorded, or does not do the
                same for every image.
        """
        # Transfers from pinned memory do not wait for the processor's other pages.
        self._host = torch.empty(tuple(shape), pin_memory=True)
        self._image = torch.zeros(tuple(shape), device=device).contiguous(
            memory_format=torch.channels_last
        )
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                network(self._image)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = network(self._image)
        self._kept = kept()
        self._verify(network, kept)

    def __call__(self, image: np.ndarray) -> tuple[torch.Tensor, _Named]:
        """Play the pass again.

        Args:
            image: float32 (1, channels, height, width).

        Returns:
            The network's result, and what the hooks would have kept; both valid until the next
            call.
        """
        self._host.copy_(torch.from_numpy(image))
        self._image.copy_(self._host, non_blocking=True)
        self._graph.replay()
        return self._result, self._kept

    def _verify(self, network: nn.Module, kept: Callable[[], _Named]) -> None:
        """Compare with passes that are not recorded: a network may branch on what it sees."""
        rng = np.random.default_rng(0)
        for scale in (0.5, 2.0):
            image = (scale * rng.standard_normal(self._host.shape)).astype(np.float32)
            result, found = self(image)
            replayed = {'': result.clone(), **{name: t.clone() for name, t in found.items()}}
            expected = {'': network(self._image), **kept()}
            for name, tensor in replayed.items():
                if not torch.allclose(tensor, expected[name], rtol=1e-3, atol=1e-4):
                    raise RuntimeError('the recorded pass gives something else')


def recorded(
    network: nn.Module, shape: Sequence[int], device: torch.device, kept: Callable[[], _Named]
) -> CudaGraph | None:
    """Return a recorded pass, or None, said once in the log, where it cannot be recorded."""
    try:
        return CudaGraph(network, shape, device, kept)
    except Exception as error:  # CUDA and libraries have classes of their own
        _log.warning(
            'this network runs without a CUDA graph, a little slower: %s',
            ' '.join(str(error).split())[:200],
        )
        return None
