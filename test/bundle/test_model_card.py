"""What a person reads of a bundle: its model card, and the listing of `show`."""

from __future__ import annotations

import io

import tiny
from rich.console import Console

from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.show import show


def test_the_card_tells_what_the_bundle_promises(tiny_bundle):
    card = model_card(tiny_bundle, about='Bars for tests.')
    assert card.startswith('# tiny\n\nBars for tests.\n')
    assert 'at most 5.00% with 95% confidence' in card
    assert f'at most {tiny_bundle.calibration.thresholds["fused"][0]:.5f}' in card
    assert f'{tiny.WIDTH} neurons' in card
    assert all(name in card for name in tiny_bundle.scores)
    assert tiny_bundle.provenance['data']['sha256'] in card
    assert 'not a safety certificate' in card


def test_the_listing_shows_classes_scores_and_layers(tiny_bundle):
    out = io.StringIO()
    show(tiny_bundle, Console(file=out, width=200))
    text = out.getvalue()
    for word in (
        'Bundle tiny', 'tiny:Bars()', 'left, middle, right', f'penultimate, {tiny.WIDTH} neurons',
        'at most 5.00%', 'relu2', str(tiny_bundle.folder), *tiny_bundle.scores,
    ):
        assert word in text
    numbers = [line.split('│')[1].strip() for line in text.splitlines() if line.startswith('│')]
    assert numbers[-7:] == ['1', '2', '3', '4', '5', '6', '7']
