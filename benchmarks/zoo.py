"""Train and evaluate many small networks written in different styles, and compare the scores.

    python benchmarks/zoo.py train [--only NAME,...] [--data ../shared/data]
    python benchmarks/zoo.py activations --only NAME,... --output FOLDER
    python benchmarks/zoo.py choose --half A --cache FOLDER --output FILE.json
    python benchmarks/zoo.py evaluate [--half A|B|all] [--only NAME,...] --output FILE.json
    python benchmarks/zoo.py table FILE.json
    python benchmarks/zoo.py summary A.json B.json --output docs/measured/zoo.json
    python benchmarks/zoo.py list

The networks, their data and the division into a half for choosing and a half for reporting are
described in benchmarks/zoo/README.md. Every command continues where an earlier run was interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zoo.registry import half_of, selected

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, default=ROOT.parent / 'shared' / 'data')
    parser.add_argument('--work', type=Path, default=ROOT / 'build' / 'zoo')
    commands = parser.add_subparsers(dest='command', required=True)
    for name in ('train', 'activations', 'choose', 'evaluate', 'list'):
        command = commands.add_parser(name)
        command.add_argument('--only', default='', help='names with commas between; default: all')
        command.add_argument('--half', choices=('A', 'B', 'all'), default='all')
        command.add_argument('--data', type=Path, default=argparse.SUPPRESS)
        command.add_argument('--work', type=Path, default=argparse.SUPPRESS)
        if name in ('activations', 'choose', 'evaluate'):
            command.add_argument('--output', type=Path, required=True)
        if name == 'choose':
            command.add_argument(
                '--cache', type=Path, required=True, help='folder that activations wrote')
    table = commands.add_parser('table')
    table.add_argument('file', type=Path, help='written by evaluate')
    summary = commands.add_parser('summary')
    summary.add_argument('files', type=Path, nargs='+', help='written by evaluate')
    summary.add_argument('--output', type=Path, required=True)
    options = parser.parse_args()
    if options.command == 'summary':
        from zoo.summary import write_summary

        write_summary(options.files, options.output)
        return
    if options.command == 'table':
        from zoo.table import print_table

        print_table(json.loads(options.file.read_text()))
        return
    networks = selected(options.only, options.half)
    if options.command == 'list':
        for network in networks:
            print(f'{half_of(network.name)}  {network.name:20} {network.data:14} {network.kind}')
    elif options.command == 'train':
        from zoo.training import train

        for network in networks:
            if not network.foreign:
                described = train(network, options.data, options.work)
                print(f'{network.name}: accuracy {described["accuracy_test"]:.4f}', flush=True)
    elif options.command == 'activations':
        from zoo.activations import write_activations

        for network in networks:
            write_activations(network, options.data, options.output)
    elif options.command == 'choose':
        from zoo.choice import choose

        if any(half_of(network.name) != 'A' for network in networks):
            parser.error('only half A may be used to choose: add --half A')
        choose(networks, options.cache, options.output)
    else:
        from zoo.evaluation import evaluate_networks

        evaluate_networks(networks, options.data, options.work, options.output)


if __name__ == '__main__':
    main()
