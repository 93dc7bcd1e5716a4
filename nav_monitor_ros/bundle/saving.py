"""Write a bundle: its folder appears complete or not at all."""

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
        bundle: What was fitted.
        classifier: Runs the bundle's network.
        folder: Where to write; the files of a bundle that is there already are replaced, and others
            stay.
        card: The text of the model card, Markdown.
        force: Write to a folder that holds other things than a bundle, too.

    Raises:
        NavMonitorError: The folder holds something else than a bundle, or cannot be written.
    """

    def fill(scratch: Path) -> None:
        classifier.save(scratch / required_files(bundle.network.spec)[0])
        save_file(fitted_tensors(bundle), scratch / FITTED)
        (scratch / CARD).write_text(card, encoding='utf-8', errors='backslashreplace')

    _write(bundle, None, folder, fill, force)


def save_exported(
    bundle: Bundle, engines: Engines, graph: Path | None, folder: Path, *, force: bool = False
) -> None:
    """Write a bundle with what its network was exported for, and all else as it is.

    Args:
        bundle: Read from a folder, which may be the one to write to.
        engines: What the exported network was found to be worth.
        graph: The exported network; None where the bundle's own network is in that form.
        folder: Where to write; the bundle's own folder, or as for ``save_bundle``.
        force: As for ``save_bundle``.

    Raises:
        NavMonitorError: The folder holds something else than a bundle, or cannot be written.
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
    """Write a bundle's files beside the folder, describe them, and put them in its place."""
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
                # safetensors writes files that only their owner can read
                file.chmod(0o755 if file.is_dir() else 0o644)
            scratch.chmod(0o755)
            check_foreign(folder, (DESCRIPTION, *described['files']))
    except OSError as error:
        raise NavMonitorError(f'cannot write {folder}: {error.strerror or error}') from error


def _require_readable(scratch: Path, folder: Path) -> None:
    """Check that what was written can be read again.

    Raises:
        NavMonitorError: It cannot; nothing takes the folder's place then.
    """
    try:
        bundle_of(scratch, read_description(scratch))
    except NavMonitorError as error:
        reason = str(error).replace(str(scratch), str(folder))
        raise NavMonitorError(f'{folder} is not written: it could not be read: {reason}') from None
