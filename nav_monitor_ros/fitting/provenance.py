"""Provenance of a bundle."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from nav_monitor_ros import __version__
from nav_monitor_ros.data.image_source import (
    ImageSource,
    add_fingerprints,
    fingerprint_of,
)
from nav_monitor_ros.data.source_spec import source_label


def today() -> str:
    """Return the date in UTC, as in 2026-01-31."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute a bundle."""
    found = {'nav_monitor_ros': __version__, 'python': platform.python_version()}
    for package in ('torch', 'torchvision', 'numpy', 'safetensors'):
        found[package] = metadata.version(package)
    return found


def describe_images(source: ImageSource, digests: Sequence[bytes]) -> dict[str, Any]:
    """Return the provenance of images: their origin, number and fingerprint.

    Args:
        source: N images.
        digests: Checksums of their pixels.
    """
    total = add_fingerprints(
        source.fingerprint_part(place, digest) for place, digest in enumerate(digests)
    )
    return {
        'source': source_label(source.name), 'images': len(source),
        'sha256': fingerprint_of(total),
    }
