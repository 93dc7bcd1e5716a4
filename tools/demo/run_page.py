"""What the page of a demo and that of a drive have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TEMPLATES = Path(__file__).parent / 'templates'


@dataclass(frozen=True)
class Tile:
    """A number with the words that explain it."""

    number: str
    text: str
    is_alert: bool = False


@dataclass(frozen=True)
class ShownPicture:
    """A picture with its caption."""

    title: str
    text: str
    uri: str
