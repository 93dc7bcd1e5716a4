"""Attribution of a logit to pixels: the gradient and, through captum, its refinements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nav_monitor_ros.errors import NavMonitorError, did_you_mean
from nav_monitor_ros.inspection.gradients import Differentiable, differentiating
from nav_monitor_ros.perception.network.layers import Layer, find_layer, in_order_of_drawing

GRADIENT, SMOOTHGRAD, INTEGRATED_GRADIENTS, GRAD_CAM = METHODS = (
    'gradient', 'smoothgrad', 'integrated-gradients', 'grad-cam',
)
SIGNED = METHODS[:3]  # methods with a signed value for each channel of the input
NEED_CAPTUM = METHODS[1:3]

SAMPLES = 32  # number of noisy copies over which smoothgrad averages
NOISE = 0.15  # standard deviation of their noise, as a share of the image's range
STEPS = 64  # steps of integrated gradients, between the baseline and the image
_AT_ONCE = 8  # copies or steps in one batch


@dataclass(frozen=True)
class Attribution:
    """Attribution of the logit of one class to the input values."""

    method: str  # one of METHODS
    values: np.ndarray  # float (channels, height, width); one channel for grad-cam
    facts: str  # short description of how it was made


def attribute(
    network: Differentiable,
    image: np.ndarray,
    target: int,
    method: str = GRADIENT,
    *,
    baseline: np.ndarray | None = None,
    layer: str = '',
    seed: int = 0,
) -> Attribution:
    """Attribute the logit of a class to the values of the input.

    - ``gradient``: the gradient itself (Simonyan et al., 2014).
    - ``smoothgrad``: its mean over noisy copies of the image (Smilkov et al., 2017).
    - ``integrated-gradients``: its mean between a baseline and the image, times their difference;
      the sum is the difference of the logits (Sundararajan et al., 2017).
    - ``grad-cam``: a layer's maps weighted by their mean gradients, the positive part of their sum
      (Selvaraju et al., 2017).

    Args:
        network: Network to differentiate.
        image: float (channels, height, width), as the network takes it.
        target: Index of the class.
        method: One of METHODS.
        baseline: Start of integrated gradients, with the image's shape; by default 0.
        layer: Name or number of the layer for grad-cam; by default the first one of
            ``spatial_layers`` on whose positions the logit depends. (Of a transformer whose head
            takes the class token, the last layers of the other tokens have no effect.)
        seed: Random seed for the noise.

    Raises:
        NavMonitorError: The method, class or layer does not exist, captum is not installed, or the
            network cannot be differentiated.
    """
    if method not in METHODS:
        raise NavMonitorError(
            f"there is no method '{method}'; there are {', '.join(METHODS)}"
            f'{did_you_mean(method, METHODS)}'
        )
    if not 0 <= target < network.classes:
        raise NavMonitorError(
            f'there is no class {target}; the network has {network.classes}, from 0'
        )
    if method == GRADIENT:
        values = network.input_gradient(image[None], np.array([target]))[0]
        return Attribution(method, values, 'd logit / d input')
    if method in NEED_CAPTUM:
        require_captum(method)
    entering = network.tensor(image[None])
    with differentiating():
        if method == SMOOTHGRAD:
            values, facts = _smoothgrad(network, entering, target, seed)
        elif method == INTEGRATED_GRADIENTS:
            start = torch.zeros_like(entering) if baseline is None else network.tensor(
                baseline[None]
            )
            values, facts = _integrated(network, entering, start, target)
        else:
            values, facts = _grad_cam(network, entering, target, spatial_layers(network, layer))
    return Attribution(method, values.detach().cpu().numpy()[0], facts)


def require_captum(method: str) -> None:
    """Check that a method can be computed.

    Raises:
        NavMonitorError: captum is not installed.
    """
    try:
        import captum  # noqa: F401
    except ImportError:
        raise NavMonitorError(
            f"{method} needs captum: pip install 'nav_monitor_ros[gradients]' (or captum); "
            f"'{GRADIENT}' and '{GRAD_CAM}' work without"
        ) from None


def spatial_layers(network: Differentiable, wanted: str = '') -> list[Layer]:
    """Return the layer with a name or number, by default all with spatial extent.

    All are in the order of ``in_order_of_drawing``, then those that are a single row, column or
    position.

    Raises:
        NavMonitorError: The layer does not exist or has no spatial extent.
    """
    spatial = [
        layer for layer in network.layers
        if layer.grid or (len(layer.shape) == 3 and not layer.channels_last)
    ]
    if wanted:
        layer = find_layer(network.layers, wanted)
        if layer not in spatial:
            raise NavMonitorError(
                f'{layer.title} has no spatial extent, which {GRAD_CAM} needs; there are '
                + ', '.join(f"{known.number} '{known.name}'" for known in spatial)
            )
        return [layer]
    wide = [layer for layer in spatial if max(layer.grid or layer.shape[1:]) > 1] or spatial
    if not wide:
        raise NavMonitorError(f'no layer of the network has spatial extent, which {GRAD_CAM} needs')
    best = in_order_of_drawing(network.layers)
    return [*best, *(layer for layer in wide[::-1] if layer not in best)]


def _smoothgrad(
    network: Differentiable, entering: torch.Tensor, target: int, seed: int
) -> tuple[torch.Tensor, str]:
    from captum.attr import NoiseTunnel, Saliency

    reach = float(entering.max() - entering.min())
    # An image of one colour gives no scale for the noise: use one standard deviation of the inputs.
    deviation = NOISE * (reach if np.isfinite(reach) and reach > 0 else 1.0)
    devices = [network.device] if network.device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        values = NoiseTunnel(Saliency(network.logits)).attribute(
            entering, nt_type='smoothgrad', nt_samples=SAMPLES,
            nt_samples_batch_size=min(_AT_ONCE, SAMPLES), stdevs=deviation, target=target,
            abs=False,
        )
    return values, f'mean of {SAMPLES} gradients, noise of {NOISE:.0%} of the range'


def _integrated(
    network: Differentiable, entering: torch.Tensor, baseline: torch.Tensor, target: int
) -> tuple[torch.Tensor, str]:
    from captum.attr import IntegratedGradients

    values = IntegratedGradients(network.logits).attribute(
        entering, baselines=baseline, target=target, n_steps=STEPS,
        internal_batch_size=_AT_ONCE,
    )
    logits = network.logits(torch.cat([entering, baseline]))[:, target]
    return values, (
        f'{STEPS} steps; sum {float(values.detach().sum()):.3g}, '
        f'logit difference {float(logits[0] - logits[1]):.3g}'
    )


def _grad_cam(
    network: Differentiable, entering: torch.Tensor, target: int, layers: Sequence[Layer]
) -> tuple[torch.Tensor, str]:
    """Return the map of the first layer on whose positions the logit depends."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., torch.Tensor]:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            outputs[name] = output
            return output.clone()  # later layers may work in place

        return hook

    handles = [
        network.module(layer.name).register_forward_hook(keep(layer.name)) for layer in layers
    ]
    try:
        # The graph of the weights is not recorded, so that of the input must be.
        logit = network.logits(entering.requires_grad_())[0, target]
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(logit, list(outputs.values()), allow_unused=True)
    by_layer = dict(zip(outputs, gradients, strict=True))
    chosen, slopes = layers[0], None
    for layer in layers:
        gradient = by_layer[layer.name]
        if gradient is not None and bool(gradient.any()):
            found = layer.as_maps(gradient[0].cpu().numpy())
            if found.any():
                chosen, slopes = layer, found
                break
    maps = chosen.as_maps(outputs[chosen.name][0].detach().cpu().numpy())
    weights = np.zeros(len(maps)) if slopes is None else slopes.mean((1, 2))
    coarse = np.einsum('c,chw->hw', weights, maps).astype(np.float32)
    values = functional.interpolate(
        torch.relu(torch.from_numpy(coarse))[None, None], size=tuple(entering.shape[2:]),
        mode='bilinear', align_corners=False,
    )
    rows, columns = maps.shape[1:]
    return values, f'{rows} x {columns} positions of {chosen.title}'
