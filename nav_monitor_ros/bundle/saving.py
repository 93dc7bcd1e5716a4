"""Write a bundle atomically: its folder appears complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.numpy import save_file

from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.bundle_files import (
    CARD,
    CLASSES,
    DESCRIPTION,
    EXPORTED_FILES,
    FITTED,
    GRAPH,
    PROBE,
    has_class_file,
    own_files,
    required_files,
    sha256_of,
)
from nav_monitor_ros.bundle.description import (
    bundle_of,
    contiguous,
    describe,
    fitted_tensors,
    read_description,
)
from nav_monitor_ros.bundle.engines import Engines
from nav_monitor_ros.bundle.output_folder import check_foreign, check_output
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_folder import atomic_folder
from nav_monitor_ros.files.untrusted_yaml import write_yaml
from nav_monitor_ros.perception.network.class_names import write_listed
from nav_monitor_ros.perception.network.running_network import RunningNetwork


def save_bundle(
    bundle: Bundle, classifier: RunningNetwork, folder: Path, *, card: str, force: bool = False
) -> None:
    """Write a bundle; the folder appears complete or not at all.

    Args:
        bundle: The fitted bundle.
        classifier: Runs the bundle's network.
        folder: Output folder; the files of an existing bundle are replaced, other files are kept.
        card: The text of the model card, Markdown.
        force: Also write to a folder that holds other files.

    Raises:
        NavMonitorError: The folder holds other files or cannot be written.
    """

    def fill(scratch: Path) -> None:
        classifier.save(scratch / required_files(bundle.network.spec)[0])
        save_file(fitted_tensors(bundle), scratch / FITTED)
        (scratch / CARD).write_text(card, encoding='utf-8', errors='backslashreplace')

    _write(bundle, None, folder, fill, force)


def save_exported(
    bundle: Bundle, engines: Engines, graph: Path | None, folder: Path, *, force: bool = False
) -> None:
    """Write a bundle with the engines for which its network was exported; the rest is unchanged.

    Args:
        bundle: Bundle read from a folder, which may be the output folder.
        engines: Results for the exported network.
        graph: The exported network; None if the bundle's own network has that form.
        folder: Output folder; the bundle's own folder, or as for ``save_bundle``.
        force: As for ``save_bundle``.

    Raises:
        NavMonitorError: The folder holds other files or cannot be written.
    """
    assert bundle.folder is not None
    source = bundle.folder

    def fill(scratch: Path) -> None:
        for name in required_files(bundle.network.spec):
            shutil.copyfile(source / name, scratch / name)
        (scratch / GRAPH).parent.mkdir()
        if graph is not None:
            shutil.copyfile(graph, scratch / GRAPH)
        save_file(contiguous(engines.probe), scratch / PROBE)
        for name, approval in engines.approvals.items():
            if approval.calibration is not None:
                save_file(
                    contiguous(approval.calibration.tensors()),
                    scratch / 'exported' / f'{name}.safetensors',
                )

    _write(bundle, engines, folder, fill, force)


def _write(
    bundle: Bundle, engines: Engines | None, folder: Path, fill: Callable[[Path], None],
    force: bool,
) -> None:
    """Write a bundle's files next to the folder, describe them, and move them into place."""
    check_output(folder, force=force or (folder / DESCRIPTION).is_file())
    owned = own_files(folder)
    try:
        with atomic_folder(folder, owned=owned, last=DESCRIPTION) as scratch:
            fill(scratch)
            described = describe(bundle)
            if engines is not None:
                described['exported'] = engines.describe()
            if has_class_file(bundle.class_names):
                write_listed(scratch / CLASSES, bundle.class_names)
            names = (*required_files(bundle.network.spec), CLASSES, *EXPORTED_FILES)
            described['files'] = {
                name: sha256_of(scratch / name) for name in names if (scratch / name).is_file()
            }
            write_yaml(scratch / DESCRIPTION, described)
            _require_readable(scratch, folder)
            for file in scratch.rglob('*'):
                # safetensors creates files that only their owner can read
                file.chmod(0o755 if file.is_dir() else 0o644)
            scratch.chmod(0o755)
            check_foreign(folder, (DESCRIPTION, *described['files']))
    except OSError as error:
        raise NavMonitorError(f'cannot write {folder}: {error.strerror or error}') from error


def _require_readable(scratch: Path, folder: Path) -> None:
    """Check that the written files can be read.

    Raises:
        NavMonitorError: They cannot; the folder is then left unchanged.
    """
    try:
        bundle_of(scratch, read_description(scratch))
    except NavMonitorError as error:
        reason = str(error).replace(str(scratch), str(folder))
        raise NavMonitorError(f'{folder} is not written: it could not be read: {reason}') from None
