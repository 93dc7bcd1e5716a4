"""The command ``nav_monitor export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nav_monitor_ros.cli.console import ProgressBars, say, table_console
from nav_monitor_ros.cli.options.bundle import add_backends, add_bundle, add_force, listed
from nav_monitor_ros.cli.options.device_and_threads import add_seed, add_threads, add_trust
from nav_monitor_ros.cli.options.output_paths import check_outputs
from nav_monitor_ros.cli.options.sources import opened
from nav_monitor_ros.errors import NavMonitorError

_EXAMPLE = """\
example:
  nav_monitor fit ... --calibration photos/held_out --output my_bundle
  nav_monitor export my_bundle --backend all --calibration photos/held_out"""


def add_export(commands: Any) -> None:
    """Add the command."""
    export = commands.add_parser(
        'export',
        help="export a bundle's network to faster backends",
        description='Write the network of a bundle in ONNX form, for the backends onnxruntime and '
        'openvino, and run the calibration images with each of them, and with torch in '
        'TensorFloat-32 if there is a GPU. If the scores of a backend agree with '
        "those of the bundle's own network closely enough to keep the false-alarm budget, the "
        "bundle's calibration is used; otherwise the backend is calibrated separately or, if that "
        'is impossible, refused. If every backend is refused, nothing is written.',
        epilog=_EXAMPLE,
    )
    add_bundle(export)
    add_backends(export, '--backend', 'all')
    export.add_argument('--calibration', required=True, metavar='SOURCE',
                        help='held-out in-distribution images, the same as for `fit`; only those '
                        'on which the monitor was calibrated are used')
    export.add_argument('--output', type=Path, metavar='DIR',
                        help='folder for the exported bundle (default: that of the bundle)')
    add_force(export)
    add_trust(export)
    add_threads(
        export, "the network's threads on the CPU; 0: each backend chooses (default: 1)")
    add_seed(export, 'seed for dividing images on which the monitor was not calibrated')
    export.set_defaults(run=_export)


def export_bundle(
    bundle: str | Path, backends: str, calibration: Any, output: Path, *,
    trusted_packages: list[str], threads: int, seed: int, force: bool = False,
) -> Any:
    """Export a bundle and print the results.

    Args:
        bundle: Folder, or name of a shipped bundle.
        backends: Comma-separated names.
        calibration: Source of the calibration images.
        output: Folder to write to.
        trusted_packages: Packages whose network code may be imported.
        threads: Threads of the network.
        seed: Seed, as given to ``fit``.
        force: Whether to write to a folder that contains other files than a bundle's.

    Returns:
        The exported bundle.

    Raises:
        NavMonitorError: The bundle cannot be used or exported, or no engine is approved; nothing is
            written then.
    """
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.bundle.networks import load_network
    from nav_monitor_ros.bundle.show import engines_table
    from nav_monitor_ros.fitting.engine_export import engines_here, export

    loaded = load_bundle(bundle)
    names = listed(backends)
    engines_here(names, loaded)
    reference = load_network(
        loaded, device='cpu', threads=threads, trusted_packages=trusted_packages
    )
    with ProgressBars() as progress:
        export(
            loaded, reference, calibration, names, output, threads=threads, seed=seed,
            trusted_packages=trusted_packages, force=force, progress=progress,
        )
    exported = load_bundle(output)
    table_console().print(engines_table(exported))
    return exported


def _export(options: argparse.Namespace) -> None:
    from nav_monitor_ros.bundle.bundle_files import EXPORTED_FILES
    from nav_monitor_ros.bundle.output_folder import check_foreign, check_output
    from nav_monitor_ros.bundle.shipped import find_bundle, shipped_bundles
    from nav_monitor_ros.fitting.engine_export import NoEngineApproved

    own = find_bundle(options.bundle)
    output = options.output or own
    if options.output is None and own.resolve() in {
        folder.resolve() for folder in shipped_bundles().values()
    }:
        raise NavMonitorError(
            f"'{options.bundle}' is part of the package and must not be changed; give an output "
            f'folder: nav_monitor export {options.bundle} --output my_{own.name} ...'
        )
    if output.resolve() == own.resolve():
        options = argparse.Namespace(**{**vars(options), 'bundle': None})
    check_outputs(options, {}, folders={'--output': output})
    # Exporting in place only adds files to the bundle.
    check_output(output, force=options.force or output.resolve() == own.resolve())
    check_foreign(output, EXPORTED_FILES)
    try:
        export_bundle(
            own, options.backend, opened(options.calibration), output,
            trusted_packages=options.trust, threads=options.threads, seed=options.seed,
            force=options.force,
        )
    except NoEngineApproved as error:
        raise NavMonitorError(f'nothing is written to {output}: {error}') from None
    say(f'wrote {output}')
