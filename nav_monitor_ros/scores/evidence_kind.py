"""The kind of evidence that a score gives: what an image is unusual in."""

from __future__ import annotations

from enum import Enum


class EvidenceKind(str, Enum):
    """Part of the network in which a score looks for unusual activations.

    The three kinds differ in what they react to. They describe evidence and do not diagnose its
    cause: a broken sensor may also change the features, and an unknown object the early layers.
    """

    EARLY_LAYERS = 'early_layers'
    FEATURES = 'features'  # of the monitored layer, by default the penultimate one
    LOGITS = 'logits'

    @property
    def label(self) -> str:
        """Return its name for people."""
        return self.value.replace('_', ' ')

    @property
    def meaning(self) -> str:
        """Return what usually causes such evidence."""
        return _MEANINGS[self]

    @property
    def sentence_part(self) -> str:
        """Return its name with its meaning."""
        return f'{self.label}: {self.meaning}'


_MEANINGS = {
    EvidenceKind.EARLY_LAYERS: 'sensor or style',
    EvidenceKind.FEATURES: 'content',
    EvidenceKind.LOGITS: 'doubt between classes',
}
