"""One forward pass on a GPU, recorded once and replayed without Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from nav_monitor_ros.errors import one_line

_log = logging.getLogger(__name__)
_WARM_UP = 3  # warm-up passes, in which libraries choose their kernels
Pass = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]


class CudaGraph:
    """A recorded pass over a fixed number of images, with one transfer in and one out."""

    def __init__(
        self, run: Pass, shape: Sequence[int], device: torch.device, layout: torch.memory_format
    ) -> None:
        """Record a pass.

        Args:
            run: Function that returns outputs by name, on the device.
            shape: Shape of the input, (N, channels, height, width).
            device: A CUDA device.
            layout: Memory format of the images for ``run``.

        Raises:
            RuntimeError: The network runs operations that cannot be recorded, or does not treat
                every image alike.
        """
        # Transfers from and to pinned memory need no additional copy and no paging.
        self._host = torch.empty(tuple(shape), pin_memory=True)
        self._images = torch.zeros(tuple(shape), device=device)
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                found = run(self._images.contiguous(memory_format=layout))
        self._stream.synchronize()
        self._shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            found = run(self._images.contiguous(memory_format=layout))
            self._outputs = torch.cat([tensor.float().reshape(-1) for tensor in found.values()])
        self._back = torch.empty(self._outputs.shape, pin_memory=True)
        self._verify(run, layout)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Replay the pass.

        Args:
            images: float32, of the recorded shape.

        Returns:
            The outputs of the pass, float32, on the CPU.
        """
        self._play(images)
        values = self._back.numpy()
        found, start = {}, 0
        for name, shape in self._shapes.items():
            end = start + int(np.prod(shape))
            # Copied, since the next pass overwrites them; separately, since one may be kept.
            found[name] = values[start:end].reshape(shape).copy()
            start = end
        return found

    def _play(self, images: np.ndarray) -> None:
        """Run the recorded pass; its outputs go to pinned memory."""
        self._host.copy_(torch.from_numpy(images))
        with torch.cuda.stream(self._stream):
            self._images.copy_(self._host, non_blocking=True)
            self._graph.replay()
            self._back.copy_(self._outputs, non_blocking=True)
        self._stream.synchronize()

    def _verify(self, run: Pass, layout: torch.memory_format) -> None:
        """Compare with passes that are not recorded, since a network may branch on its input."""
        rng = np.random.default_rng(0)
        for scale in (0.5, 2.0):
            images = (scale * rng.standard_normal(self._host.shape)).astype(np.float32)
            replayed = self(images)
            expected = run(
                torch.from_numpy(images).to(self._images.device).contiguous(memory_format=layout)
            )
            for name, tensor in expected.items():
                # Libraries may choose another kernel while recording.
                wanted = tensor.float().cpu().numpy()
                if not np.abs(replayed[name] - wanted).max() <= 1e-3 * np.abs(wanted).max():
                    raise RuntimeError('the recorded pass gives different results')


def recorded(
    run: Pass, shape: Sequence[int], device: torch.device, layout: torch.memory_format
) -> CudaGraph | None:
    """Return a recorded pass; log a warning and return None if it cannot be recorded."""
    try:
        return CudaGraph(run, shape, device, layout)
    except Exception as error:  # CUDA and libraries have their own exception classes
        _log.warning(
            'this network runs without a CUDA graph, a little slower: %s', one_line(error)
        )
        return None
