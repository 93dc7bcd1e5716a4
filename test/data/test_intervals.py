"""Images of bags are labelled by time intervals, and neighbours count as alike."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import PERIOD, RAW, START, write_bag, write_images

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.intervals import group_by_time, label_by_intervals
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions

CAMERA = '/camera/image_raw'


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Return a bag of 12 images, 1/30 s apart."""
    return write_bag(tmp_path_factory.mktemp('bags') / 'drive', 'mcap')


@pytest.fixture(params=['mcap', 'sqlite3'])
def bars(request, tmp_path):
    """Return a bag of the tiny network's images, 10 a second, each class for 5 s in turn."""
    pixels, labels = tiny.images(1, 300)
    order = np.argsort(labels, kind='stable')
    pictures = [pixels[i] for i in order]
    lines = ['start,end,class']
    for label, name in enumerate(tiny.CLASSES):
        first, last = np.flatnonzero(labels[order] == label)[[0, -1]]
        lines.append(f'{first / 10 - 0.01:.3f},{last / 10 + 0.05:.3f},{name}')
    lines[1] = lines[1].replace('-0.010', '0')
    (tmp_path / 'bars.csv').write_text('\n'.join(lines) + '\n')
    path = write_images(tmp_path / 'bars', {CAMERA: pictures}, rate=10, storage=request.param)
    return f'{path}:{CAMERA}?labels={tmp_path}/bars.csv', labels[order]


def source_with(bag, tmp_path, text, more=''):
    (tmp_path / 'labels.csv').write_text(text)
    return open_source(f'{bag}:{RAW}?labels={tmp_path}/labels.csv{more}')


def test_images_take_the_class_of_their_interval_and_others_are_left_out(bag, tmp_path):
    # Image n was received at n / 30 s; an interval's end is not part of it.
    source = source_with(bag, tmp_path, 'start,end,class\n0.06,0.15,stop\n\n0.3,9,free\n')
    numbers = (source.received_ns - START) // PERIOD
    assert numbers.tolist() == [2, 3, 4, 10, 11]  # image 9 was there just before 0.3 s
    assert source.class_names == ('free', 'stop')
    assert source.own_labels.tolist() == [1, 1, 1, 0, 0]


def test_times_may_be_those_since_1970_to_the_nanosecond(bag, tmp_path):
    third = START + 3 * PERIOD
    begin, end = (f'{t // 10**9}.{t % 10**9:09d}' for t in (third, third + PERIOD))
    source = source_with(bag, tmp_path, f'{begin},{end},a\n')
    assert ((source.received_ns - START) // PERIOD).tolist() == [3]


def test_classes_may_be_the_networks_numbers(bag, tmp_path):
    source = source_with(bag, tmp_path, '0,0.1,7\n0.1,0.2,12\n')
    assert source.class_names is None and source.own_labels.tolist() == [7, 7, 7, 7, 12, 12, 12]


def test_what_keeps_some_images_comes_after_labels(bag, tmp_path):
    source = source_with(bag, tmp_path, '0,0.2,a\n0.2,1,b\n', '&classes=b&limit=2')
    assert source.own_labels.tolist() == [1, 1] and len(source) == 2


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('start,end\n', 'line 1: not start,end,class'),
        ('0,1,a\n2,1,b\n', 'line 2: ends at 1, not after its start'),
        ('0,1,a\n2,2,b\n', 'line 2: ends at 2, not after its start'),
        ('0,1,a\n0.5,2,b\n', 'line 2: overlaps with the interval of line 1'),
        ('start,end,class\n5,6,a\n0,1,b\n5.5,5.6,a\n', 'line 4: overlaps with the interval of'),
        ('0,1,a\nsoon,2,b\n', "line 2: 'soon' is not a time; write seconds"),
        ('0,1,a\n-1,2,b\n', "'-1' is not a time"),
        ('0,nan,a\n', "'nan' is not a time"),
        ('0,inf,a\n', "'inf' is not a time"),
        ('0,1e99,a\n', 'is not a time'),
        ('1e999999,2,a\n', 'is not a time'),
        ('0,1e-999999999,a\n', 'not after its start'),
        ('0,1,\n', 'line 1: not start,end,class'),
        ('100,200,a\n', 'none of the 12 images'),
        ('', 'holds no intervals'),
    ],
)
def test_bad_intervals_are_refused_with_their_line(bag, tmp_path, text, said):
    with pytest.raises(NavMonitorError) as caught:
        source_with(bag, tmp_path, text)
    assert said in str(caught.value) and 'labels.csv' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_table_that_is_not_there_or_no_text_is_refused(bag, tmp_path):
    with pytest.raises(NavMonitorError, match='none.csv are unreadable: No such file'):
        open_source(f'{bag}:{RAW}?labels={tmp_path}/none.csv')
    (tmp_path / 'bytes.csv').write_bytes(b'\xff\xfe\xff')
    with pytest.raises(NavMonitorError, match='bytes.csv are unreadable'):
        open_source(f'{bag}:{RAW}?labels={tmp_path}/bytes.csv')
    for option, said in (
        ('group=soon', "group is 'soon'"), ('group=1e-10', "group is '1e-10'"),
        ('label=a', "no option 'label'"),
    ):
        with pytest.raises(NavMonitorError, match=said):
            open_source(f'{bag}:{RAW}?{option}')


def test_images_of_one_second_belong_together_unless_another_time_is_asked_for(bag):
    assert set(open_source(f'{bag}:{RAW}').groups.tolist()) == {0}
    fifths = open_source(f'{bag}:{RAW}?group=0.2').groups
    assert fifths.tolist() == [0] * 7 + [1] * 5
    assert open_source(f'{bag}:{RAW}?group=0').groups is None


@given(
    gaps=st.lists(st.integers(0, 900), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 20_000), min_size=2, max_size=12, unique=True),
    seconds=st.sampled_from([0.0, 0.5, 3.0]),
)
@settings(max_examples=80, deadline=None)
def test_labels_and_groups_are_those_of_the_definition(tmp_path_factory, gaps, cuts, seconds):
    milliseconds = np.cumsum(gaps) - gaps[0]
    times = 1_700_000_000_000_000_000 + milliseconds * 1_000_000
    source = ImageSource('bag', lambda _: None, np.arange(len(times)), received_ns=times)
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    intervals = list(zip(cuts[::2], cuts[1::2], strict=True))
    expected = {
        place: number
        for place, time in enumerate(milliseconds)
        for number, (start, end) in enumerate(intervals) if start <= time < end
    }
    table = tmp_path_factory.mktemp('tables') / 'a.csv'
    table.write_text(''.join(
        f'{start / 1000},{end / 1000},{number}\n' for number, (start, end) in enumerate(intervals)
    ))
    if not expected:
        with pytest.raises(NavMonitorError, match='lies in an interval'):
            label_by_intervals(source, table)
        return
    labelled = group_by_time(label_by_intervals(source, table), seconds)
    labels = labelled.own_labels.tolist()
    assert dict(zip(labelled.places.tolist(), labels, strict=True)) == expected
    if not seconds:
        assert labelled.groups is None
        return
    origin = labelled.received_ns[0]
    keys = [
        (label, (time - origin) // round(seconds * 1e9))
        for label, time in zip(labelled.own_labels, labelled.received_ns, strict=True)
    ]
    for one in range(len(keys)):
        for other in range(len(keys)):
            same = labelled.groups[one] == labelled.groups[other]
            assert same == (keys[one] == keys[other])


def test_a_monitor_is_fitted_to_a_bag_and_judged_on_one(bars, tmp_path):
    spec, labels = bars
    options = FitOptions(false_alarm_rate=0.1, class_names=tiny.CLASSES)
    data = open_source(spec)
    assert len(data) == 300
    classifier = tiny.classifier()
    bundle = fit(classifier, tiny.SPEC, data, tiny.source(2, 80), options, workers=3)
    noted = bundle.provenance
    assert noted['labels'] == 'data' and noted['correctly_classified'] == 300
    assert noted['data']['source'] == f'bars:{CAMERA}?labels=bars.csv'
    unlabelled = fit(
        classifier, tiny.SPEC, open_source(spec.partition('?')[0]), tiny.source(2, 80), options
    )
    assert unlabelled.provenance['labels'] == 'network predictions'
    # Names decide, though the alphabet's order is another one than the network's.
    other = FitOptions(false_alarm_rate=0.1, class_names=('right', 'left', 'middle'))
    with pytest.raises(NavMonitorError, match='no training image was classified correctly'):
        fit(classifier, tiny.SPEC, data, tiny.source(2, 80), other)
    evaluation, _ = evaluate(classifier, bundle.judge(), data, {})
    assert evaluation.accuracy == 1.0


def test_a_bag_calibrates_as_so_many_independent_images_as_it_has(bars):
    spec, _ = bars
    options = FitOptions(false_alarm_rate=0.1, class_names=tiny.CLASSES)
    bundle = fit(tiny.classifier(), tiny.SPEC, tiny.source(9, 150), open_source(spec), options)
    calibration = bundle.calibration
    assert len(calibration.scores['pattern']) == 300
    assert calibration.effective_size <= len(calibration.fused)


def test_a_class_that_the_network_lacks_is_named(bars, tmp_path):
    spec, _ = bars
    (tmp_path / 'odd.csv').write_text('0,1,left\n1,2,kangaroo\n')
    data = open_source(f'{spec.partition("?")[0]}?labels={tmp_path}/odd.csv')
    options = FitOptions(false_alarm_rate=0.1, class_names=tiny.CLASSES)
    with pytest.raises(NavMonitorError, match="the class 'kangaroo', which is none of .*--classes"):
        fit(tiny.classifier(), tiny.SPEC, data, tiny.source(2, 80), options)


def test_the_folders_of_a_bag_and_its_table_are_not_noted():
    spec = '/home/ann/drive:/camera/image_raw?labels=/home/ann/a.csv&group=5'
    assert source_label(spec) == 'drive:/camera/image_raw?labels=a.csv&group=5'
