"""Export the shipped bundles' networks for other backends: python tools/export_bundles.py DATA.

``corridor`` is not exported, to keep it small. DATA is the folder with mnist.npz and gtsrb.npz,
from which the others were fitted. The calibration images are held out as in the fit, and their
fingerprint is compared with that in the bundle.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.cli.export import export_bundle
from nav_monitor_ros.data.image_source import ImageSource, split, without
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.fitting import engine_export
from nav_monitor_ros.fitting.train import TASKS
from nav_monitor_ros.perception.network.backends import F32, usable_here

BUNDLES = Path(__file__).resolve().parents[1] / 'bundles'


def main() -> None:
    """Export the networks of the bundles into their folders."""
    data = Path(sys.argv[1])
    # In single precision only, so that the bundles do not depend on the processor of this machine.
    engine_export.usable_here = lambda engine: engine.precision == F32 and usable_here(engine)
    for folder in (BUNDLES / 'digits', BUNDLES / 'traffic_signs'):
        export_bundle(
            folder, 'all', held_out(folder, data), folder,
            trusted_packages=[], threads=1, seed=int(load_bundle(folder).provenance['seed']),
        )


def held_out(folder: Path, data: Path) -> ImageSource:
    """Return the images that a shipped bundle was calibrated on.

    Args:
        folder: Folder of the bundle.
        data: Folder with the archives.

    Raises:
        SystemExit: The images in ``data`` differ from those of the calibration.
    """
    provenance = load_bundle(folder).provenance
    images = open_source(str(data / provenance['data']['source']))
    excluded = provenance.get('excluded', 'nothing')
    if excluded != 'nothing':
        images = without(images, open_source(excluded))
    _, calibration = split(images, TASKS[folder.name].held_out, int(provenance['seed']))
    if calibration.fingerprint() != provenance['calibration']['sha256']:
        raise SystemExit(f'{folder.name} was not calibrated on the images in {data}')
    return calibration


if __name__ == '__main__':
    main()
