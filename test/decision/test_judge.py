"""One frame's verdict: what it says, what it refuses, and that it equals the scores behind it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
from scipy.special import softmax

from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.decision.judge import InvalidActivationsError, Judge
from nav_monitor_ros.decision.score_fusion import FUSED
from nav_monitor_ros.decision.verdict import ScoreValue
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.registry import SCORES


@pytest.fixture(scope='module')
def monitor(tiny_bundle):
    return Monitor(tiny_bundle, device='cpu', trusted_packages=['tiny'])


@pytest.fixture(scope='module')
def normal(monitor):
    return run(monitor.classifier, tiny.source(7, 200))


@pytest.fixture(scope='module')
def unusual(monitor):
    return run(monitor.classifier, from_arrays('strange', tiny.strange(7, 100)))


@pytest.fixture
def judge(tiny_bundle):
    return tiny_bundle.judge()


def frames(batch):
    return [batch[index : index + 1] for index in range(len(batch))]


def spoiled(frame, field, value):
    """Return the frame with one logit or feature replaced."""
    values = {'logits': frame.logits.copy(), 'features': frame.features.copy()}
    values[field][0, 1] = value
    return Activations(values['logits'], values['features'], frame.means)


# What a verdict says.


def test_a_verdict_names_the_class_and_the_best_ones(judge, normal):
    frame = normal[:1]
    probabilities = softmax(frame.logits[0].astype(np.float64))
    verdict = judge.judge(frame)
    best = int(frame.logits[0].argmax())
    assert verdict.class_index == best and verdict.class_name == tiny.CLASSES[best]
    assert verdict.confidence == pytest.approx(probabilities[best])
    assert [index for index, _ in verdict.top] == np.argsort(-probabilities).tolist()
    assert [p for _, p in verdict.top] == pytest.approx(sorted(probabilities, reverse=True))
    assert sum(p for _, p in verdict.top) == pytest.approx(1)


@pytest.mark.parametrize(('top', 'listed'), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_no_more_classes_are_listed_than_asked_or_there_are(tiny_bundle, normal, top, listed):
    verdict = tiny_bundle.judge(top=top).judge(normal[:1])
    assert len(verdict.top) == listed
    assert verdict.top[0] == (verdict.class_index, verdict.confidence)


def test_huge_logits_are_no_problem(judge, normal):
    frame = Activations(np.array([[3e38, -3e38, 0]], np.float32), normal[:1].features,
                        normal[:1].means)
    assert judge.judge(frame).confidence == 1.0


def test_a_verdict_holds_every_score_and_decides_by_one(judge, normal):
    verdict = judge.judge(normal[:1])
    assert set(verdict.scores) == {*judge.calibration.fusion_members, FUSED}
    assert verdict.members == judge.calibration.fusion_members
    assert verdict.decisive == FUSED
    assert verdict.p_value == verdict.scores[FUSED].p_value
    assert verdict.threshold == judge.calibration.thresholds[FUSED][verdict.class_index]
    assert all(0 < value.p_value <= 1 for value in verdict.scores.values())


@pytest.mark.parametrize(
    'decisive', ['pattern', 'gaussian', 'knn', 'window_kl', 'vim', 'msp', 'fused']
)
def test_any_score_may_decide(tiny_bundle, unusual, decisive):
    names = list(tiny_bundle.calibration.thresholds)
    own = {
        name: 0.01 * number + 0.001 * np.arange(3) for number, name in enumerate(names, start=1)
    }
    calibration = dataclasses.replace(tiny_bundle.calibration, thresholds=own)
    judge = Judge(tiny_bundle.scores, calibration, tiny.CLASSES, decisive=decisive)
    verdict = judge.judge(unusual[:1])
    assert verdict.decisive == decisive
    assert verdict.p_value == verdict.scores[decisive].p_value
    assert verdict.threshold == own[decisive][verdict.class_index]
    assert verdict.is_ood == (verdict.p_value <= verdict.threshold)
    assert verdict.strongest_member in verdict.members and verdict.strongest_member in verdict.why


def test_an_unknown_decisive_score_is_answered_with_those_that_there_are(tiny_bundle):
    said = "no score 'knm'; it has fused, pattern, pattern_soft"
    with pytest.raises(NavMonitorError, match=said):
        tiny_bundle.judge(decisive='knm')


def test_normal_frames_are_trusted_and_strange_ones_are_not(judge, normal, unusual):
    flagged = [judge.judge(frame).is_ood for frame in frames(normal)]
    assert np.mean(flagged) <= judge.calibration.alpha + 0.03
    assert np.mean([judge.judge(frame).is_ood for frame in frames(unusual)]) > 0.9


def test_the_score_that_fired_is_the_member_with_the_smallest_p_value(judge, unusual):
    for frame in frames(unusual[:20]):
        verdict = judge.judge(frame)
        members = {n: v.p_value for n, v in verdict.scores.items() if n != FUSED}
        assert members[verdict.strongest_member] == min(members.values())


def test_of_equal_p_values_the_member_fired_that_adds_most_to_the_fused_score(judge, unusual):
    ties = 0
    for frame in frames(unusual):
        verdict = judge.judge(frame)
        smallest = min(verdict.scores[name].p_value for name in verdict.members)
        tied = [n for n in verdict.members if verdict.scores[n].p_value == smallest]
        ties += len(tied) > 1
        assert verdict.strongest_member == max(tied, key=lambda name: verdict.fusion_terms[name])
    assert ties  # beyond all calibration images, p-values do not tell the members apart


def test_the_fused_score_is_the_sum_of_its_terms(judge, normal, unusual):
    for batch in (normal[:20], unusual[:20]):
        fused = judge.scores_of(batch)[FUSED]
        for index, frame in enumerate(frames(batch)):
            verdict = judge.judge(frame)
            assert set(verdict.fusion_terms) == set(verdict.members)
            assert sum(verdict.fusion_terms.values()) == verdict.scores[FUSED].score
            assert verdict.scores[FUSED].score == pytest.approx(fused[index], rel=1e-5)


def test_a_flagged_frame_is_unusual_in_the_kind_of_the_score_that_fired(judge, unusual):
    seen = set()
    for frame in frames(unusual):
        verdict = judge.judge(frame)
        if not verdict.is_ood:
            continue
        assert verdict.evidence_kind is judge.scores[verdict.strongest_member].evidence_kind
        assert set(verdict.flagged_kinds) == {
            judge.scores[name].evidence_kind for name in verdict.members
            if verdict.scores[name].p_value <= verdict.threshold
        }
        assert verdict.evidence_kind.sentence_part in verdict.why
        seen.add(verdict.evidence_kind)
    assert seen


def test_a_frame_that_is_not_flagged_is_unusual_in_nothing(judge, normal):
    verdicts = [judge.judge(frame) for frame in frames(normal)]
    kinds = [kind.sentence_part for kind in EvidenceKind]
    usual = [verdict for verdict in verdicts if not verdict.is_ood]
    assert usual
    for verdict in usual:
        assert verdict.evidence_kind is None and verdict.flagged_kinds == ()
        assert not any(kind in verdict.why for kind in kinds)


def verdict_of(judge, unusual, p_values, *, threshold=0.01):
    """Return a flagged verdict whose members have these p-values."""
    verdict = judge.judge(unusual[:1])
    scores = {name: ScoreValue(1.0, p_value) for name, p_value in p_values.items()}
    return dataclasses.replace(
        verdict, scores={**scores, FUSED: ScoreValue(9.0, 0.0001)}, members=tuple(p_values),
        member_kinds={name: SCORES[name].evidence_kind for name in p_values},
        threshold=threshold, fusion_terms={},
    )


def test_kinds_at_the_threshold_are_named_once_and_in_the_order_of_the_layers(judge, unusual):
    verdict = verdict_of(judge, unusual, {
        'energy': 0.01, 'vim': 0.003, 'pattern': 0.002, 'channel_means': 0.0101})
    assert verdict.evidence_kind is EvidenceKind.FEATURES
    assert verdict.flagged_kinds == (EvidenceKind.FEATURES, EvidenceKind.LOGITS)


def test_moderate_evidence_of_several_kinds_flags_a_frame_that_none_would_flag_alone(
    judge, unusual
):
    verdict = verdict_of(judge, unusual, {'energy': 0.03, 'vim': 0.02, 'channel_means': 0.015})
    assert verdict.is_ood and verdict.evidence_kind is EvidenceKind.EARLY_LAYERS
    assert verdict.flagged_kinds == ()


def test_a_single_deciding_score_gives_its_own_kind(tiny_bundle, unusual):
    for decisive, kind in (
        ('msp', EvidenceKind.LOGITS), ('knn', EvidenceKind.FEATURES),
        ('channel_means', EvidenceKind.EARLY_LAYERS),
    ):
        judge = tiny_bundle.judge(decisive=decisive)
        verdict = dataclasses.replace(judge.judge(unusual[:1]), threshold=1.0)
        assert verdict.evidence_kind is kind and verdict.flagged_kinds == (kind,)


# It is what the scores say.


def test_p_values_of_a_batch_equal_those_of_single_verdicts(judge, normal, unusual):
    for batch in (normal[:60], unusual[:60]):
        together = judge.p_values(batch)
        assert set(together) == {*judge.scores, FUSED}
        for index, frame in enumerate(frames(batch)):
            alone = judge.judge(frame)
            assert {name: p[index] for name, p in together.items()} == {
                name: value.p_value for name, value in alone.scores.items()
            }


def test_the_scores_are_those_of_the_fitted_scores(judge, unusual):
    frame = unusual[4:5]
    verdict = judge.judge(frame)
    for name, score in judge.scores.items():
        assert verdict.scores[name].score == score.score_frame(frame) == score.score(frame)[0]
        assert verdict.scores[name].p_value == judge.calibration.scores[name].p_value(
            verdict.scores[name].score, verdict.class_index
        )


def test_the_explanation_is_that_of_the_pattern_and_gaussian_scores(
    tiny_bundle, judge, normal, unusual
):
    pattern, gaussian = tiny_bundle.scores['pattern'], tiny_bundle.scores['gaussian']
    for frame in [*frames(unusual[:20]), *frames(normal[:20])]:
        verdict = judge.judge(frame)
        explanation = verdict.explanation
        assert explanation.distance == verdict.scores['pattern'].score
        assert explanation.distance == int((explanation.pattern != explanation.nearest).sum())
        monitored = pattern.monitored[verdict.class_index]
        assert np.array_equal(explanation.monitored, monitored)
        bits = (frame.features[0] > pattern.thresholds) & monitored
        assert np.array_equal(explanation.pattern, bits)
        z = gaussian.z_scores(frame.features[0], verdict.class_index)
        order = np.argsort(-np.abs(z), kind='stable')[:8]
        assert [neuron.index for neuron in explanation.neurons] == order.tolist()
        for neuron in explanation.neurons:
            assert neuron.value == frame.features[0, neuron.index]
            assert neuron.z == z[neuron.index]
            assert neuron.bit == explanation.pattern[neuron.index]
            assert neuron.expected_bit == explanation.nearest[neuron.index]


def make_judge(tiny_classifier, *names):
    bundle = tiny.fitted(tiny_classifier, scores={name: {} for name in names}, fuse=names)
    return bundle.judge()


def test_without_a_pattern_score_there_is_no_explanation(tiny_classifier, normal):
    assert make_judge(tiny_classifier, 'energy').judge(normal[:1]).explanation is None


def test_a_class_without_patterns_is_said_to_have_none(judge, normal):
    verdict = judge.judge(normal[:1])
    assert 'neurons differ from the nearest pattern' in verdict.why and '(z ' in verdict.why
    explanation = verdict.explanation
    without = dataclasses.replace(verdict, explanation=dataclasses.replace(
        explanation, distance=int(explanation.monitored.sum()) + 1, z=np.zeros(len(explanation.z))
    ))
    assert f"no pattern of '{verdict.class_name}' is stored" in without.why
    assert 'differ' not in without.why and '(z ' not in without.why


def test_without_a_gaussian_score_neurons_have_no_z_scores(tiny_classifier, normal):
    explanation = make_judge(tiny_classifier, 'pattern').judge(normal[:1]).explanation
    assert len(explanation.neurons) == 8 and {neuron.z for neuron in explanation.neurons} == {0.0}


def test_fewer_neurons_than_are_listed_are_no_problem():
    classifier = tiny.classifier('pool')  # 5 channels
    bundle = tiny.fitted(classifier)
    frame = run(classifier, tiny.source(7, 1))
    assert len(bundle.judge().judge(frame).explanation.neurons) == 5


# What it refuses.


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('field', ['logits', 'features'])
def test_what_is_no_number_is_refused(judge, normal, field, value):
    frame = spoiled(normal[:1], field, value)
    with pytest.raises(InvalidActivationsError, match=f'{field} that are not finite'):
        judge.judge(frame)
    with pytest.raises(InvalidActivationsError, match=field):
        judge.p_values(frame)
    assert issubclass(InvalidActivationsError, NavMonitorError)


# The whole monitor.


def test_the_monitor_looks_at_an_image_of_any_size_and_order(monitor):
    pixels = tiny.images(3, 1)[0][0]
    rgb = monitor.look(DecodedImage(pixels, 'rgb'))
    bgr = monitor.look(DecodedImage(np.ascontiguousarray(pixels[..., ::-1]), 'bgr'))
    assert rgb.verdict.scores == bgr.verdict.scores
    assert rgb.fingerprint == bgr.fingerprint
    large = monitor.look(DecodedImage(pixels.repeat(20, axis=0).repeat(30, axis=1), 'rgb'))
    assert large.verdict.class_index == rgb.verdict.class_index
    assert monitor.look(DecodedImage(np.zeros((1, 1), np.uint8), 'gray')).verdict.is_ood


def test_the_fingerprint_tells_images_apart(monitor):
    pixels = tiny.images(3, 1)[0][0]
    changed = pixels.copy()
    changed[5, 5, 1] ^= 1
    assert monitor.look(DecodedImage(pixels, 'rgb')).fingerprint != monitor.look(
        DecodedImage(changed, 'rgb')
    ).fingerprint


def test_the_monitor_shows_the_layer_that_is_asked_for(monitor):
    assert monitor.spatial_layer().name == 'relu1'  # the last one before pooling
    assert monitor.show_layer('1').name == 'conv'
    image = DecodedImage(tiny.images(3, 1)[0][0], 'rgb')
    assert monitor.look(image).activations.maps['conv'].shape == (1, 5, 12, 12)
    with pytest.raises(NavMonitorError, match="no layer 'conv9'; it has 1 'conv'"):
        monitor.show_layer('conv9')
    with pytest.raises(NavMonitorError, match="'penultimate', .*, cannot be chosen here"):
        monitor.show_layer('penultimate')
    assert list(monitor.look(image).activations.maps) == ['conv']
    assert monitor.show_layer(None) is None
    assert not monitor.look(image).activations.maps


def test_a_judge_can_be_made_without_a_bundle(tiny_bundle, normal):
    judge = Judge(tiny_bundle.scores, tiny_bundle.calibration, ['a', 'b', 'c'])
    assert judge.judge(normal[:1]).class_name in {'a', 'b', 'c'}
