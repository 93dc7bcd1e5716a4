"""What `show` says in words: the budget, the labels, and the engines that were refused."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from nav_monitor_ros.bundle.engines import StoredEngines
from nav_monitor_ros.bundle.show import engines_table, show


def rows_of(bundle):
    """Return the rows of the first table by their names, with folded lines joined."""
    out = io.StringIO()
    show(bundle, Console(file=out, width=200))
    rows, name = {}, ''
    for line in out.getvalue().split('\nScores ')[0].splitlines():
        if line.startswith('│'):
            _, first, text, _ = (part.strip() for part in line.split('│'))
            name = first or name
            rows[name] = f'{rows.get(name, "")} {text}'.strip()
    return rows


def with_provenance(bundle, **changes):
    return dataclasses.replace(bundle, provenance={**bundle.provenance, **changes})


def test_labels_and_correct_classifications_are_told_in_words(tiny_bundle):
    images = tiny_bundle.provenance['data']['images']
    rows = rows_of(with_provenance(tiny_bundle, correctly_classified=images - 7))
    assert rows['labels'] == 'from the data'
    assert rows['correctly classified'] == (
        f'{images - 7} of {images} training images ({1 - 7 / images:.1%})')


def test_correct_classifications_of_calibration_images_are_told_in_words(tiny_bundle):
    calibration = {'source': 'held_out', 'correctly_classified': 39, 'labelled': 40, 'images': 80}
    rows = rows_of(with_provenance(tiny_bundle, calibration=calibration))
    assert rows['calibration'] == (
        'source held_out, images 80, 39 of 40 with labels are classified correctly (97.5%)')
    rows = rows_of(with_provenance(tiny_bundle, calibration={**calibration, 'labelled': 0}))
    assert rows['calibration'].endswith('correctly_classified 39, labelled 0, images 80')


@pytest.mark.parametrize('data', [None, 'text', {}, {'images': 0}, {'images': 'many'}])
def test_a_provenance_may_hold_anything(tiny_bundle, data):
    rows = rows_of(with_provenance(tiny_bundle, data=data, correctly_classified=5))
    assert rows['correctly classified'] == '5'
    rows = rows_of(with_provenance(tiny_bundle, correctly_classified=None, labels='data'))
    assert rows['correctly classified'] == 'None'


def test_for_images_in_groups_the_confidence_is_said_to_be_approximate(tiny_bundle):
    alone = rows_of(tiny_bundle)['false alarms']
    images = len(tiny_bundle.calibration.fused)
    assert f'{images} images calibrate' in alone and 'approximate' not in alone
    calibration = dataclasses.replace(tiny_bundle.calibration, effective_size=images - 20)
    grouped = rows_of(dataclasses.replace(tiny_bundle, calibration=calibration))['false alarms']
    assert f'{images} images in groups, equivalent to {images - 20} independent ones' in grouped
    assert 'confidence is approximate, because the images of one group are alike' in grouped


def stored(**refused):
    one = {'source': 'held_out', 'images': 80, 'largest_change': 0.1, 'reclassified': 3,
           'flagged': 2, 'flagged_by_reference': 1, 'calibration': 'network'}
    described = {name: {**one, 'refused': reason} for name, reason in refused.items()}
    return StoredEngines(None, described, {}, {})


def printed(bundle):
    out = io.StringIO()
    Console(file=out, width=250).print(engines_table(bundle))
    return out.getvalue()


def test_a_reason_for_refusing_several_engines_is_printed_once(tiny_bundle):
    engines = stored(openvino_f32='it differs', onnxruntime_f32='it differs', torch_tf32='')
    text = printed(dataclasses.replace(tiny_bundle, stored=engines))
    assert text.count('it differs') == 1
    assert 'openvino_f32, onnxruntime_f32 refused: it differs' in text
    assert text.count('│ refused ') == 2 and text.count('from the fit') == 1


def test_an_engine_that_did_not_run_has_no_figures(tiny_bundle):
    engines = stored(openvino_f32='its last linear layer differs')
    engines.described['openvino_f32']['images'] = 0
    [row] = [line for line in printed(dataclasses.replace(tiny_bundle, stored=engines)).splitlines()
             if line.startswith('│ openvino_f32')]
    assert [cell.strip() for cell in row.split('│')[2:-1]] == ['none', '', '', '', 'refused']
