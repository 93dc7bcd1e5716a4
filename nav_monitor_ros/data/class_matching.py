"""Match the classes of a source's images to the network's classes, by name.

A source numbers its classes in its own way, a folder alphabetically. If the classes have names,
each is matched to the network's class of that name, and a class that the network does not have is
refused. Position decides only if nothing else can: the source has only numbers, or none of its
names, in any spelling, is one of the network's, such as the WordNet ids of ImageNet's folders. A
note reports this, and also names that match only in another spelling. Two classes of a source never
match the same class of the network.

If the network's class names are numbers that are not their positions, as for folders 0 to 42 in
alphabetical order (0, 1, 10, ...), a source's numbers are names too.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.class_names import alike, comparable, letters_and_digits

_EXAMPLES = 4  # classes that a message lists

_log = logging.getLogger(__name__)


class HasLabels(Protocol):
    """Labels and class names of images, as an ``ImageSource`` has them."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def own_labels(self) -> np.ndarray | None:
        """Labels of the images, int64 (N,): indices into ``class_names``, or plain numbers."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the source's classes."""


def network_labels(
    source: HasLabels, class_names: Sequence[str], background: int | None = None
) -> np.ndarray | None:
    """Return the images' classes as the network numbers them, int64 (N,), or None without labels.

    Args:
        source: Images, perhaps with labels.
        class_names: In the order of the network's outputs.
        background: Index of the background class's output, for the message.

    Raises:
        NavMonitorError: The network has no such classes.
    """
    if source.own_labels is None:
        return None
    labels = source.own_labels
    numerals = _numerals(class_names) if source.class_names is None else None
    if numerals is not None:
        _log.warning('%s', how_matched(source, class_names))
        return _by_numerals(source.name, labels, numerals, class_names)
    if source.class_names is not None and tuple(source.class_names) != tuple(class_names):
        labels = _numbers(source, source.class_names, class_names)[labels]
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        besides = (
            '' if background is None else f' besides the background class, output {background}'
        )
        raise NavMonitorError(
            f"source '{source.name}' has labels from {labels.min()} to {labels.max()}, but the "
            f'network has the {len(class_names)} classes 0 to {len(class_names) - 1}{besides}; '
            'check the labels, the network and its background class'
        )
    return labels


def require_known_classes(source: HasLabels, class_names: Sequence[str]) -> None:
    """Check that images belong to the network's classes, even if their labels are not used.

    Calibration images of another class, for example, would be treated as normal.

    Raises:
        NavMonitorError: Some classes are known to the network, and others are not.
    """
    if source.own_labels is None or source.class_names is None:
        return
    if _form(source.class_names, class_names) or _near(source.class_names, class_names):
        network_labels(source, class_names)


def how_matched(source: HasLabels, class_names: Sequence[str]) -> str:
    """Return a note on how labels were matched; '' if names decide.

    Args:
        source: Source that ``network_labels`` accepted.
        class_names: In the order of the network's outputs.
    """
    if source.own_labels is None:
        return ''
    if source.class_names is None:
        numerals = _numerals(class_names)
        if numerals is not None:
            moved = [number for number, place in numerals.items() if number != place][:_EXAMPLES]
            outputs = ', '.join(f"'{number}' is output {numerals[number]}" for number in moved)
            return (
                f"the labels of {source.name} are numbers, as the network's names are, so they are "
                f'names and not places: {outputs}'
            )
        return (
            f'the labels of {source.name} are numbers, so position decides: '
            f'{_pairs([str(n) for n in range(len(class_names))], class_names)}'
        )
    form = _form(source.class_names, class_names)
    if form is not None:
        return _rewritten(source, source.class_names, class_names, form)
    return (
        f"none of the class names of {source.name} is one of the network's, so position decides: "
        f'{_pairs(source.class_names, class_names)}'
    )


def names_from(source: HasLabels, classes: int) -> tuple[str, ...] | None:
    """Return names for the outputs of a network without class names, from its training images.

    Args:
        source: Images.
        classes: Number of classes of the network.

    Returns:
        The names of all classes of the source, or of those that have images, in the source's order;
        None if neither matches the network's number of classes.
    """
    if source.class_names is None or source.own_labels is None:
        return None
    used = tuple(source.class_names[number] for number in np.unique(source.own_labels))
    return next(
        (names for names in (tuple(source.class_names), used) if len(names) == classes), None
    )


def naming_note(
    source: HasLabels, class_names: Sequence[str] | None, classes: int
) -> str:
    """Return a note on how a network's outputs were named, '' if none is needed.

    Args:
        source: Training images.
        class_names: Given class names, in the order of the outputs.
        classes: Number of classes of the network.
    """
    if class_names is not None:
        return how_matched(source, class_names)
    outputs = [f'output {number}' for number in range(classes)]
    if source.own_labels is not None and source.class_names is None:
        return f'the labels of {source.name} are numbers, so position decides: 0 is {outputs[0]}'
    names = names_from(source, classes)
    if names is None:
        return ''
    return (
        f"the network's outputs are named after the classes of {source.name}, in their order: "
        f'{_pairs(outputs, names)}; give --classes if that is not the order of the outputs'
    )


def chance_note(accuracy: float | None, classes: int) -> str:
    """Return a warning that a network is less accurate than guessing, '' if it is not.

    Outputs in another order than the names that were assumed for them are a frequent reason.

    Args:
        accuracy: Share of the labelled images that are classified correctly; None without labels.
        classes: Number of classes of the network.
    """
    if accuracy is None or accuracy >= 1 / classes:
        return ''
    return (
        f'warning: {accuracy:.1%} of the labelled images are classified correctly, and guessing '
        f'gives {1 / classes:.1%}; check labels, class order, weights and preprocessing'
    )


def _numbers(
    source: HasLabels, own: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    """Return the network's class number for each class of a source, int64; -1 for unused ones."""
    used = np.unique(source.own_labels).tolist() if source.own_labels is not None else []
    form = _form(own, class_names)
    if form is None:
        if len(own) != len(class_names) or _near(own, class_names):
            raise _unknown(source, [own[number] for number in used], class_names)
        _log.warning('%s; rename the classes if that is wrong', how_matched(source, class_names))
        return np.arange(len(own))
    known: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        known.setdefault(form(name), []).append(number)
    found = [known.get(form(name), []) for name in own]
    unknown = [own[number] for number in used if not found[number]]
    if unknown:
        raise _unknown(source, unknown, class_names)
    for number in used:
        if len(found[number]) > 1:
            listed = ' and '.join(map(str, found[number]))
            raise NavMonitorError(
                f"{source.name} has the class '{own[number]}', and the network has that name more "
                f'than once, at {listed}; give its classes different names'
            )
    taken: dict[int, str] = {}
    for number in used:
        place = found[number][0]
        if place in taken:
            raise NavMonitorError(
                f"{source.name} has the classes '{taken[place]}' and '{own[number]}', and both "
                f"match the network's class '{class_names[place]}'; rename one, or merge them if "
                "they are the same class"
            )
        taken[place] = own[number]
    return np.array([places[0] if places else -1 for places in found], np.int64)


def numbers_are_names(source: HasLabels, class_names: Sequence[str]) -> bool:
    """Return whether a source's numbers are the names of a network's classes, not their places."""
    return source.class_names is None and _numerals(class_names) is not None


def _numerals(class_names: Sequence[str]) -> dict[int, int] | None:
    """Return the outputs by their names as numbers; None where those are no other numbers."""
    if not all(map(_is_number, class_names)):
        return None
    found = {int(comparable(name)): place for place, name in enumerate(class_names)}
    same = all(number == place for number, place in found.items())
    return None if same or len(found) < len(class_names) else found


def _by_numerals(
    name: str, labels: np.ndarray, numerals: Mapping[int, int], class_names: Sequence[str]
) -> np.ndarray:
    unknown = [number for number in np.unique(labels).tolist() if number not in numerals]
    if unknown:
        etc = ', ...' if len(class_names) > _EXAMPLES else ''
        raise NavMonitorError(
            f"{name} has the label {unknown[0]}, which is the name of none of the network's "
            f'{len(class_names)} classes ({", ".join(class_names[:_EXAMPLES])}{etc}); check the '
            'labels and the network'
        )
    return np.array([numerals[number] for number in labels.tolist()], np.int64)


def _form(own: Sequence[str], class_names: Sequence[str]) -> Callable[[str], str] | None:
    """Return the normalisation under which names match, None if there is none.

    If no name matches exactly, case and word separators are ignored. If all names of both are
    numbers, and some do not match exactly, leading zeros are ignored.
    """
    if all(map(_is_number, (*own, *class_names))) and not set(own) <= set(class_names):
        known = set(map(_without_zeros, class_names))
        return _without_zeros if any(_without_zeros(name) in known for name in own) else None
    for form in (comparable, alike):
        known = {form(name) for name in class_names} - {''}
        if any(form(name) in known for name in own):
            return form
    return None


def _is_number(name: str) -> bool:
    text = comparable(name)
    return text.isascii() and text.isdecimal()


def _without_zeros(name: str) -> str:
    return str(int(comparable(name)))


def _near(own: Sequence[str], class_names: Sequence[str]) -> bool:
    """Return whether a source's names resemble the network's too closely to go by position."""
    known = {letters_and_digits(name) for name in class_names} - {''}
    return any(letters_and_digits(name) in known for name in own)


def _rewritten(
    source: HasLabels, own: Sequence[str], class_names: Sequence[str], form: Callable[[str], str]
) -> str:
    """Return a note on names that match the network's only in another spelling, '' if none do."""
    if form is comparable or source.own_labels is None:
        return ''
    known = {form(name): name for name in class_names}
    pairs = [
        (own[number], known[form(own[number])]) for number in np.unique(source.own_labels)
        if form(own[number]) in known
    ]
    otherwise = [pair for pair in pairs if comparable(pair[0]) != comparable(pair[1])]
    if not otherwise:
        return ''
    mine, theirs = zip(*otherwise, strict=True)
    return (
        f"class names of {source.name} are spelled differently from the network's: "
        f'{_pairs(mine, theirs)}'
    )


def _unknown(
    source: HasLabels, unknown: Sequence[str], class_names: Sequence[str]
) -> NavMonitorError:
    first = unknown[0]
    more = f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''
    forms = {letters_and_digits(name): name for name in reversed(class_names)}
    same = forms.get(letters_and_digits(first)) if letters_and_digits(first) else None
    near = [same] if same else difflib.get_close_matches(first, class_names, 1)
    meant = f" (is it '{near[0]}'?)" if near else ''
    etc = ', ...' if len(class_names) > _EXAMPLES else ''
    return NavMonitorError(
        f"{source.name} has the class '{first}'{meant}{more}, which is none of the network's "
        f'{len(class_names)} ({", ".join(class_names[:_EXAMPLES])}{etc}); name the classes as the '
        'network does, or the network as the data (--classes), or leave it out '
        f'(?without={first})'
    )


def _pairs(own: Sequence[str], class_names: Sequence[str]) -> str:
    pairs = [
        f"{name} is '{theirs}'" if name.startswith('output') else f"'{name}' is '{theirs}'"
        for name, theirs in zip(own[:_EXAMPLES], class_names[:_EXAMPLES], strict=False)
    ]
    return ', '.join([*pairs, '...'] if len(own) > _EXAMPLES else pairs)
