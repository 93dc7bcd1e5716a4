"""Shared fixtures: a tiny fitted monitor, in memory and on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.ros.process.domain import take_domain


@pytest.fixture(scope='session', autouse=True)
def _one_thread() -> None:
    # Two threads on busy cores make such small networks much slower.
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def _own_domain() -> Iterator[None]:
    # For nodes that a test starts without a `Graph`, which takes its own domain.
    with take_domain() as domain, pytest.MonkeyPatch.context() as patch:
        for name, value in domain.environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope='session')
def tiny_classifier() -> Classifier:
    """Return the tiny network as a classifier; tests must leave its taps empty."""
    return tiny.classifier()


@pytest.fixture(scope='session')
def tiny_folder(tiny_classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a fitted bundle, which tests must not change."""
    folder = tmp_path_factory.mktemp('bundles') / 'tiny'
    bundle = tiny.fitted(tiny_classifier)
    save_bundle(bundle, tiny_classifier, folder, card=model_card(bundle))
    return folder


@pytest.fixture(scope='session')
def tiny_bundle(tiny_folder: Path) -> Bundle:
    """Return the fitted bundle, read back from its folder."""
    return load_bundle(tiny_folder)


@pytest.fixture
def bundle_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """Return the folder of a copy of the bundle, which the test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / 'copy'))
