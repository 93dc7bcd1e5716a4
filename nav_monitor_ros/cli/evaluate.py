"""The command ``nav_monitor evaluate``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say, table_console, write_json
from nav_monitor_ros.cli.options.bundle import add_bundle, add_force, listed
from nav_monitor_ros.cli.options.device_and_threads import add_running, add_trust
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.ray import add_ray, cluster_of
from nav_monitor_ros.cli.options.sources import SOURCE, opened, say_how_matched
from nav_monitor_ros.errors import NavMonitorError

_log = logging.getLogger(__name__)


def add_evaluate(commands: Any) -> None:
    """Add the command."""
    evaluate = commands.add_parser(
        'evaluate',
        help='compare the scores of a bundle',
        description='Compare the scores of a bundle on one in-distribution and several '
        f'out-of-distribution sources.\n\n{SOURCE}.',
        epilog='example:\n'
        '  nav_monitor evaluate digits --inside sample:digits \\\n'
        "      --ood 'triangles=sample:triangles?count=1000' --ood noise=sample:noise",
    )
    add_bundle(evaluate)
    evaluate.add_argument('--inside', required=True, metavar='SOURCE',
                          help='in-distribution images that were not used for anything else')
    evaluate.add_argument('--ood', action='append', default=[], metavar='NAME=SOURCE',
                          help='out-of-distribution images; may be repeated, or left out to '
                          'measure only false alarms and patterns')
    evaluate.add_argument('--scores', metavar='A,B,...',
                          help='scores to compare, in addition to the fused ones (default: all)')
    evaluate.add_argument('--peers', metavar='SOURCE',
                          help="compare with pytorch-ood's detectors, too, fitted to these "
                          'labelled training images')
    evaluate.add_argument('--rate', type=float, default=30.0, metavar='HZ',
                          help='frames per second when sources are played as video (default: 30)')
    evaluate.add_argument('--hours', type=float, metavar='H',
                          help='play H hours of in-distribution video, of images drawn at random '
                          '(default: each image once, in order)')
    evaluate.add_argument('--ood-seconds', type=float, default=3.0, metavar='S',
                          help='duration after which out-of-distribution video counts as '
                          'undetected (default: 3)')
    evaluate.add_argument('--output', type=Path, metavar='DIR',
                          help='folder for metrics.json and report.html')
    add_force(evaluate, 'metrics.json and report.html of an evaluation in it')
    evaluate.add_argument('--image-scores', type=Path, metavar='FILE',
                          help='file for the scores of every image, .npz or .parquet: source, '
                          'image, label, class, flag, kind of evidence, scores and p-values')
    add_trust(evaluate)
    add_running(evaluate)
    add_ray(evaluate, parts='images')
    evaluate.add_argument('--backend',
                          help='backend that runs the network: torch, onnxruntime, openvino or '
                          'auto (default: the one that the monitor was fitted with)')
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.bundle.networks import load_network
    from nav_monitor_ros.bundle.shipped import find_bundle
    from nav_monitor_ros.evaluation.evaluate import evaluate
    from nav_monitor_ros.evaluation.image_scores import ImageTable, require_format
    from nav_monitor_ros.evaluation.output_folder import METRICS, REPORT, check_output
    from nav_monitor_ros.evaluation.report_data import evaluation_report, reuse_warning
    from nav_monitor_ros.evaluation.report_page import write_report
    from nav_monitor_ros.evaluation.streams import StreamPlan
    from nav_monitor_ros.evaluation.tables import tables, term_lines

    output = options.output
    written = [] if output is None else [output / METRICS, output / REPORT]
    check_outputs(options, {'--output': written, '--image-scores': options.image_scores})
    if output is not None:
        check_output(output, force=options.force)
    if options.image_scores is not None:
        require_format(options.image_scores)
    outside = {}
    for text in options.ood:
        name, equals, source = text.partition('=')
        if not equals:
            raise NavMonitorError(f'--ood {text}: write NAME=SOURCE')
        if name in outside or name == options.inside:
            raise NavMonitorError(f"--ood {text}: the name '{name}' is taken; choose another one")
        outside[name] = opened(source)
    streams = StreamPlan(options.rate, options.hours, options.seed, options.ood_seconds)
    if options.peers and not outside:
        raise NavMonitorError('--peers needs out-of-distribution images; give --ood')
    if options.peers and options.ray:
        raise NavMonitorError('--peers runs on one machine only; leave out --peers or --ray')
    inside = opened(options.inside)
    peers = opened(options.peers) if options.peers else None
    bundle = load_bundle(options.bundle)
    also = listed(options.scores) or ('all',)
    classifier = load_network(
        bundle, backend=options.backend, device=options.device, threads=options.threads,
        trusted_packages=options.trust, scores=bundle.judge(also=also).scores,
    )
    judge = bundle.calibrated_for(classifier.engine).judge(also=also)
    with cluster_of(options) as cluster, ProgressBars() as progress:
        remote = None
        if cluster is not None:
            from nav_monitor_ros.cluster.judging import JudgeJob, RayJudge

            remote = RayJudge(
                cluster,
                JudgeJob(
                    str(find_bundle(options.bundle).absolute()), also, options.backend,
                    tuple(options.trust), options.device, options.threads, options.workers or None,
                ),
                part=options.ray_part, progress=progress,
            )
        result, judged = evaluate(
            classifier, judge, inside, outside, peers_training=peers, streams=streams,
            workers=options.workers or None, remote=remote, progress=progress,
        )
    warning = reuse_warning(bundle, inside.name, judged)
    if warning:
        _log.warning('%s', warning)
    console = table_console()
    if result.accuracy is not None:
        console.print(f'accuracy on {inside.name}: {result.accuracy:.2%}')
        say_how_matched(inside, bundle.class_names)
    if outside:
        for line in term_lines():
            console.print(line)
        console.print()
    for shown in tables(result):
        console.print(shown)
    if output is not None:
        metrics = {'bundle': bundle.name, 'inside': inside.name, **result.to_dict()}
        write_json(output / METRICS, metrics)
        with ProgressBars() as progress:
            report = evaluation_report(bundle, judge, inside, outside, result, judged)
            write_report(output / REPORT, report)
        say(f'wrote {output / REPORT}')
    if options.image_scores is not None:
        with ProgressBars() as progress:
            table = ImageTable(judge, {inside.name: inside, **outside}, judged)
            table.write(options.image_scores, progress)
        say(f'wrote {options.image_scores}')
    _say_result(result, judge.decisive)


def _say_result(result: Any, decisive: str) -> None:
    """Print the main result last, where it is seen after all tables."""
    from nav_monitor_ros.evaluation.summary import accuracy_warning, result_lines

    say('')
    say(f'{decisive} decides:')
    for line in result_lines(result):
        say(f'- {line}')
    warning = accuracy_warning(result)
    if warning:
        say(f'warning: {warning}')
