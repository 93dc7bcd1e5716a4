"""Functions that read, change and damage a bundle's files."""

from __future__ import annotations

import hashlib

import pytest
import yaml

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.errors import NavMonitorError

FILES = ('model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md')


def read(folder):
    return yaml.safe_load((folder / 'bundle.yaml').read_text())


def write(folder, described):
    (folder / 'bundle.yaml').write_text(yaml.safe_dump(described, sort_keys=False))


def sign(folder):
    """Update the hashes in the description to those of the current files."""
    described = read(folder)
    for name in FILES:
        described['files'][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write(folder, described)


def refused(folder):
    """Return the one-line error of loading a bundle or building its network."""
    with pytest.raises(NavMonitorError) as caught:
        load_network(load_bundle(folder), device='cpu', trusted_packages=['tiny'])
    assert '\n' not in str(caught.value)
    return str(caught.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
