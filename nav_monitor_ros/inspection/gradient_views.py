"""Views of gradients: attribution of one image's logit, and the filters of a convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from scipy.special import softmax
from torch import nn

from nav_monitor_ros.data.class_matching import chance_note
from nav_monitor_ros.errors import NavMonitorError, did_you_mean
from nav_monitor_ros.inspection.attribution import (
    GRAD_CAM,
    GRADIENT,
    METHODS,
    NEED_CAPTUM,
    SIGNED,
    Attribution,
    attribute,
    require_captum,
)
from nav_monitor_ros.inspection.gradients import Differentiable, trainable_copy
from nav_monitor_ros.inspection.inspected_network import Viewed
from nav_monitor_ros.inspection.weight_gradients import Comparison, in_rgb, seen_by
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.views.gradients.filter_comparison import (
    common_reach,
    draw_comparison,
    draw_slices,
)
from nav_monitor_ros.views.gradients.panels import (
    SIDE,
    Panel,
    blended,
    draw_panels,
    gradient_panels,
    input_panel,
    saliency_panel,
)
from nav_monitor_ros.views.pages.data_uris import png_uri
from nav_monitor_ros.views.pages.rendering import render
from nav_monitor_ros.views.pages.slides import Slide, slider
from nav_monitor_ros.views.text import drawn_class


@dataclass(frozen=True, eq=False)
class Subject:
    """A network under inspection."""

    name: str
    network: Differentiable
    preprocess: Preprocess
    class_names: tuple[str, ...]

    @staticmethod
    def of(viewed: Viewed, build: Callable[[], nn.Module]) -> Subject:
        """Return an inspected network, ready for gradients.

        Args:
            viewed: The network in use; it is not modified.
            build: Builds such a network; its weights are replaced.

        Raises:
            NavMonitorError: It is not a torch network.
        """
        classifier = viewed.classifier
        network = trainable_copy(build())
        network.load_state_dict(classifier.network.state_dict())
        outputs = classifier.classes + (classifier.background is not None)
        return Subject(
            viewed.name,
            Differentiable(
                network.to(str(classifier.device)),
                classifier.input_shape,
                columns=[i for i in range(outputs) if i != classifier.background],
            ),
            viewed.preprocess,
            viewed.class_names,
        )

    def class_index(self, wanted: str) -> int:
        """Return the number of a class given by name or number.

        Raises:
            NavMonitorError: The class does not exist.
        """
        if wanted in self.class_names:
            return self.class_names.index(wanted)
        if wanted.isdecimal() and int(wanted) < len(self.class_names):
            return int(wanted)
        listed = ', '.join(self.class_names[:12])
        more = ', ...' if len(self.class_names) > 12 else ''
        raise NavMonitorError(
            f"there is no class '{wanted}'; there are {listed}{more}, or 0 to "
            f'{len(self.class_names) - 1}{did_you_mean(wanted, self.class_names)}'
        )


def methods_of(text: str, known: Sequence[str] = METHODS) -> tuple[str, ...]:
    """Return the methods in a comma-separated list, ``all`` for all.

    Raises:
        NavMonitorError: A method is unknown, or requires captum, which is missing.
    """
    wanted = [part.strip() for part in text.split(',') if part.strip()]
    methods = tuple(known if 'all' in wanted else dict.fromkeys(wanted))
    for method in methods:
        if method not in known:
            raise NavMonitorError(
                f"--method {text}: '{method}' is none of {', '.join(known)}, all"
            )
        if method in NEED_CAPTUM:
            require_captum(method)
    if not methods:
        raise NavMonitorError(f'--method: name one of {", ".join(known)}, all')
    return methods


def backprop_picture(
    subject: Subject,
    image: np.ndarray,
    *,
    target: int | None = None,
    methods: Sequence[str] = (GRADIENT,),
    seed: int = 0,
    side: int = SIDE,
) -> np.ndarray:
    """Draw the gradient of a class's logit with respect to the input, in colours.

    Args:
        subject: The network.
        image: uint8 (H, W, 3) RGB or (H, W), of any size.
        target: The class; by default the predicted one.
        methods: Methods of ``SIGNED``, one after the other.
        seed: Random seed for smoothgrad's noise.
        side: Side of a panel, pixels.

    Returns:
        uint8 (h, w, 3) RGB; where a gradient is 0, its panel is exactly mid-grey.

    Raises:
        NavMonitorError: The network cannot be differentiated, or captum is missing.
    """
    assert set(methods) <= set(SIGNED)
    target, facts = _asked(subject, image, target)
    seen = seen_by(subject.preprocess, image)
    first = input_panel(seen, 'input of the network', facts)
    made = [
        gradient_panels(in_rgb(subject.preprocess, each.values), each.method, each.facts)
        for each in _attributions(subject, image, target, methods, '', seed)
    ]
    rows = [[first, *panels] for panels in made]
    if subject.preprocess.channels == 1:
        rows = [[first, *(panel for panels in made for panel in panels)]]
    return _picture(subject, 'backprop', target, rows, side)


def saliency_picture(
    subject: Subject,
    image: np.ndarray,
    *,
    target: int | None = None,
    methods: Sequence[str] = (GRADIENT,),
    layer: str = '',
    seed: int = 0,
    side: int = SIDE,
) -> np.ndarray:
    """Draw the attribution of the logit of a class to image positions.

    The map is the sum over channels of the attribution's absolute values, clipped at their 99th
    percentile.

    Args:
        subject: The network.
        image: uint8 (H, W, 3) RGB or (H, W), of any size.
        target: The class; by default the predicted one.
        methods: Methods of ``METHODS``, one after the other.
        layer: Layer for grad-cam.
        seed: Random seed for smoothgrad's noise.
        side: Side of a panel, pixels.

    Returns:
        uint8 (h, w, 3) RGB.

    Raises:
        NavMonitorError: The network cannot be differentiated, the layer does not exist, or captum
            is missing.
    """
    target, facts = _asked(subject, image, target)
    seen = seen_by(subject.preprocess, image)
    panels = [input_panel(seen, 'input of the network', facts)]
    for made in _attributions(subject, image, target, methods, layer, seed):
        panel = saliency_panel(made.values, made.method, made.facts)
        # Its blocks tell little without the image below them.
        panels.append(blended(seen, panel) if made.method == GRAD_CAM else panel)
    return _picture(subject, 'saliency', target, [panels], side)


def comparison_title(subject: Subject, compared: Comparison) -> tuple[str, str]:
    """Return a description of a filter comparison and its images, one line each."""
    answers = compared.answers
    measured = f'{len(answers.labels)} images without labels: the predictions serve as labels'
    if answers.accuracy is not None:
        measured = f'{len(answers.labels)} images, {answers.accuracy:.2%} classified correctly'
    return f'{subject.name}: weight gradients of {compared.layer.title}', measured


def comparison_picture(subject: Subject, compared: Comparison) -> np.ndarray:
    """Draw a comparison of filters as volumes, uint8 (h, w, 3) RGB."""
    return draw_comparison(compared.rows, compared.filters, *comparison_title(subject, compared))


def comparison_page(subject: Subject, compared: Comparison) -> str:
    """Return a page with a comparison as volumes, and all weights slice by slice."""
    title, measured = comparison_title(subject, compared)
    return render(
        'weight_gradients.html', title=title,
        lines=[measured, *comparison_lines(subject, compared)],
        picture=png_uri(comparison_picture(subject, compared)),
        reach=f'{common_reach(compared.rows):.3g}', slider=_slices(compared),
    )


def _slices(compared: Comparison) -> Markup:
    """Return a slider over the positions of the kernel, for every example that has an image."""
    rows = [[each for each in row if each.volume is not None] for row in compared.rows]
    examples = [example for row in rows for example in row]
    volume = examples[0].volume
    assert volume is not None
    positions = volume.values.shape[2]
    slides = []
    for position in range(positions):
        pictures = draw_slices(rows, position, common_reach(rows))
        where = volume.place(position) or 'the whole kernel'
        slides.append(Slide(f'kernel {where} ({position + 1} of {positions})', tuple(pictures)))
    captions = [
        (example.heading, '; '.join(filter(None, (example.says, example.figures))))
        for example in examples
    ]
    return slider(
        slides, captions, name='kernel', what='position in the kernel', columns=len(rows[0]),
        start=positions // 2, pause_ms=700, enlarged=True,
    )


def comparison_lines(subject: Subject, compared: Comparison) -> list[str]:
    """Return a summary of a comparison, one sentence per line."""
    lines = [
        f'{chosen.role}: {subject.class_names[chosen.index]} ({chosen.reason})'
        for chosen in compared.classes
    ]
    if compared.ablation is not None:
        for order, accuracy in compared.ablation.accuracy.items():
            lines.append(f'mean accuracy while filters are zeroed, {order}: {accuracy.mean():.1%}')
    warning = chance_note(compared.answers.accuracy, len(subject.class_names))
    return [*lines, warning] if warning else lines


def _asked(subject: Subject, image: np.ndarray, target: int | None) -> tuple[int, str]:
    """Return the class to differentiate, and the network's outputs for the image."""
    (logits,) = subject.network.predict(subject.preprocess.apply(image)[None])
    if not np.isfinite(logits).all():
        return target or 0, 'the logits are not finite'
    predicted = int(logits.argmax())
    probabilities = softmax(logits.astype(float))
    name = drawn_class(subject.class_names[predicted], predicted)
    facts = f'predicted: {name} ({probabilities[predicted]:.1%})'
    if target is None or target == predicted:
        return predicted, f'{facts}, logit {logits[predicted]:+.3g}'
    return target, (
        f'{facts}; {drawn_class(subject.class_names[target], target)}: '
        f'{probabilities[target]:.1%}, '
        f'logit {logits[target]:+.3g}'
    )


def _attributions(
    subject: Subject, image: np.ndarray, target: int, methods: Sequence[str], layer: str,
    seed: int,
) -> list[Attribution]:
    preprocess = subject.preprocess
    black = np.zeros((preprocess.height, preprocess.width, preprocess.channels), np.uint8)
    return [
        attribute(
            subject.network, preprocess.apply(image), target, method,
            baseline=preprocess.normalised(black), layer=layer, seed=seed,
        )
        for method in methods
    ]


def _picture(
    subject: Subject, what: str, target: int, rows: list[list[Panel]], side: int
) -> np.ndarray:
    return draw_panels(
        rows, f'{subject.name}: {what}',
        f"of the logit of '{drawn_class(subject.class_names[target], target)}' with respect to "
        'the normalised input',
        side=side,
    )
