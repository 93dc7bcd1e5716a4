"""A fitted monitor on disk: a folder that a person can read and no loader has to trust."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nav_monitor_ros.bundle.calibration import describe_calibration, part, read_calibration
from nav_monitor_ros.bundle.calibration_images import CalibrationImages
from nav_monitor_ros.bundle.engines import (
    EXPORTED_FILES,
    GRAPH,
    PROBE,
    Engines,
    StoredEngines,
    candidates,
    sha256_of,
)
from nav_monitor_ros.decision.calibration import FUSED, Calibration
from nav_monitor_ros.decision.e_values import DEFAULT_EVIDENCE_LEVEL
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.atomic_folder import atomic_folder, require_writable_folder
from nav_monitor_ros.files.paths import listed, reachable
from nav_monitor_ros.files.untrusted_yaml import read_yaml, write_yaml
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.perception.network.backends import ENGINES, F32, TORCH, Engine
from nav_monitor_ros.perception.network.class_names import problem_of, read_listed, write_listed
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.outputs import OutputName
from nav_monitor_ros.perception.network.running_network import RunningNetwork
from nav_monitor_ros.perception.network.specification import ONNX, NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.registry import make_score

SCHEMA = 2
DESCRIPTION = 'bundle.yaml'
WEIGHTS = 'model.safetensors'
ONNX_WEIGHTS = 'model.onnx'  # of a network that was given in that form
FITTED = 'monitor.safetensors'
CARD = 'MODEL_CARD.md'
CLASSES = 'classes.txt'  # the class names, one a line, where they are very many
LONGEST_LIST = 1 << 16  # characters of class names in the description; YAML is slow to read
_KNOWN_FILES = {WEIGHTS, ONNX_WEIGHTS, FITTED, CARD, CLASSES, *EXPORTED_FILES}
HEADS = ('linear', 'relu_linear')  # what stands between the monitored layer and the logits

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A network with everything that was fitted to it."""

    name: str
    network: NetworkSpec
    preprocess: Preprocess
    layer: str  # the monitored one
    class_names: tuple[str, ...]
    scores: Mapping[str, Score]
    calibration: Calibration
    layer_ranges: Mapping[str, tuple[float, float]]  # 1st and 99th percentile in training
    provenance: Mapping[str, Any]
    background: int | None = None  # output of the network that stands for no class
    folder: Path | None = None  # where it was read from
    reference: Engine = Engine(TORCH)  # what ran the network when the monitor was fitted
    stored: StoredEngines | None = None  # other engines that it was exported for
    calibration_images: CalibrationImages | None = None  # None where an earlier version fitted it

    def classifier(
        self,
        *,
        backend: str | None = None,
        device: str = 'auto',
        threads: int = 1,
        trusted_packages: Sequence[str] = (),
        scores: Iterable[str] | None = None,
    ) -> RunningNetwork:
        """Return the network with its weights, ready to run.

        Its scores are ranked by the calibration of ``calibrated_for`` its engine.

        Args:
            backend: ``torch``, ``onnxruntime``, ``openvino``, ``auto`` for the fastest of them
                that is installed and may run this network, or None for what ran it when the monitor
                was fitted.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            threads: Of the backend on the CPU; 0 leaves its choice.
            trusted_packages: Packages whose network code may be imported.
            scores: Names of the scores whose needs each forward pass is to meet; None for all.

        Raises:
            NavMonitorError: The network cannot be built, is not the one that was fitted, or was not
                exported for this backend.
        """
        if self.folder is None:
            raise NavMonitorError(f"bundle '{self.name}' was not read from a folder")
        engines = [self.reference]
        if backend is not None:
            engines = candidates(backend, device, self.reference, self.stored, self.name)
        for engine in engines:
            try:
                return self._started(engine, device, threads, trusted_packages, scores)
            except NavMonitorError as error:
                if engine == engines[-1]:
                    raise
                _log.warning('the backend %s is not used: %s', engine.backend, error)
        raise AssertionError

    def calibrated_for(self, engine: Engine) -> Bundle:
        """Return this bundle with the calibration that holds for what an engine computes.

        Raises:
            NavMonitorError: Its file is missing, was changed, or is malformed.
        """
        if engine == self.reference or self.stored is None:
            return self
        own = self.stored.approval(engine).calibration
        return self if own is None else replace(self, calibration=own)

    def _started(
        self,
        engine: Engine,
        device: str,
        threads: int,
        trusted_packages: Sequence[str],
        scores: Iterable[str] | None,
    ) -> RunningNetwork:
        classifier = (
            self.by_torch(device, threads, trusted_packages, engine.precision)
            if engine.backend == TORCH
            else self._exported(engine, threads)
        )
        wanted = self.scores if scores is None else scores
        equip(classifier, [self.scores[name] for name in wanted])
        if classifier.classes != len(self.class_names):
            raise NavMonitorError(
                f'bundle {self.folder} names {len(self.class_names)} classes, but its network has '
                f'{classifier.classes}; fit the monitor again'
            )
        width = next(iter(self.scores.values())).width
        if classifier.width != width:
            raise NavMonitorError(
                f'bundle {self.folder} was fitted to {width} neurons, but layer {self.layer} of '
                f'its network has {classifier.width}; fit the monitor again'
            )
        if self.stored is not None and (
            engine != self.reference or str(classifier.device) != 'cpu'
        ):
            self.stored.check_probe(classifier, self.reference)
        if self.stored is not None and engine != self.reference:
            self.stored.approval(engine)  # a calibration that cannot be read is found here
        return classifier

    def by_torch(
        self, device: str, threads: int, trusted_packages: Sequence[str], precision: str = F32
    ) -> RunningNetwork:
        """Return the network run by torch, without what the scores need.

        Args:
            device: As for ``classifier``.
            threads: Likewise.
            trusted_packages: Likewise.
            precision: On a GPU, ``f32`` or ``tf32``.

        Raises:
            NavMonitorError: The network cannot be built.
        """
        # Imported here: torch takes seconds to load, and other backends do without.
        from nav_monitor_ros.perception.network.torch.classifier import Classifier
        from nav_monitor_ros.perception.network.torch.device import select_device

        assert self.folder is not None
        return Classifier(
            self.network.build(trusted_packages, self.folder / WEIGHTS),
            self.preprocess,
            layer=self.layer,
            background=self.background,
            device=select_device(device),
            threads=threads,
            precision=precision,
        )

    def _exported(self, engine: Engine, threads: int) -> RunningNetwork:
        assert self.folder is not None
        if self.network.spec == ONNX:
            path = self.folder / ONNX_WEIGHTS  # checked when the bundle was read
        else:
            assert self.stored is not None
            path = self.stored.verified(GRAPH)
        return OnnxClassifier(
            self._graph(path),
            self.preprocess,
            engine=engine,
            layer=self.layer,
            background=self.background,
            threads=threads,
        )

    def _graph(self, path: Path) -> OnnxGraph:
        own = self.network.spec == ONNX
        return OnnxGraph.read(path, output=self.network.output if own else None)

    def notes(self) -> list[str]:
        """Return one line for each thing that a person should know of what was fitted."""
        left_out = self.provenance.get('left_out') or {}
        return [
            *(note for score in self.scores.values() for note in score.notes()),
            *(f'{name} is left out: {reason}' for name, reason in left_out.items()),
        ]

    def judge(
        self,
        *,
        decisive: str = FUSED,
        also: Sequence[str] = (),
        top: int = 3,
        evidence_level: float = DEFAULT_EVIDENCE_LEVEL,
    ) -> Judge:
        """Return the fitted scores with their calibration, ready to judge.

        Args:
            decisive: The score whose p-value decides.
            also: Scores that verdicts name besides, ``all`` for all of them.
            top: How many classes a verdict lists.
            evidence_level: P-value at or below which a frame counts as evidence.

        Raises:
            NavMonitorError: One of them is not a score of this bundle, or the level is out of
                range.
        """
        return Judge(
            self.scores, self.calibration, self.class_names,
            decisive=decisive, also=also, top=top, evidence_level=evidence_level,
        )


def equip(classifier: RunningNetwork, scores: Iterable[Score]) -> None:
    """Have every forward pass yield what the scores need.

    Raises:
        NavMonitorError: The network cannot give it.
    """
    scores = list(scores)
    for score in scores:
        score.check_layers({layer.name: layer.channels for layer in classifier.layers})
    classifier.watch(layer for score in scores for layer in score.channel_mean_layers)
    classifier.sample_dropout(max((score.dropout_passes for score in scores), default=0))


def shipped_bundles() -> dict[str, Path]:
    """Return the bundles that came with the package, name -> folder."""
    for share in _share_folders():
        found = {p.parent.name: p.parent for p in sorted(share.glob(f'bundles/*/{DESCRIPTION}'))}
        if found:
            return found
    return {}


def find_bundle(bundle: str) -> Path:
    """Return the folder of a bundle given as a path or as the name of a shipped one.

    Raises:
        NavMonitorError: Neither exists.
    """
    if not bundle:
        raise NavMonitorError('no bundle is given; name a folder or a shipped bundle')
    shipped = shipped_bundles()
    if bundle in shipped:
        return shipped[bundle]
    folder = Path(os.path.expanduser(bundle))
    if not reachable(folder).is_dir():
        raise NavMonitorError(
            f"bundle '{bundle}' is neither a folder nor a shipped bundle "
            f'({", ".join(shipped) or "none is installed"})'
        )
    return folder


def size_of(folder: Path) -> int:
    """Return how many bytes the files of a bundle have, without others in its folder."""
    return sum(
        (folder / name).stat().st_size for name in own_files(folder) if (folder / name).is_file()
    )


def own_files(folder: Path) -> set[str]:
    """Return the files that the description in a folder lists, and itself; none without one."""
    try:
        described = read_yaml(folder / DESCRIPTION) if (folder / DESCRIPTION).is_file() else None
    except NavMonitorError:
        return set()
    files = described.get('files') if isinstance(described, dict) else None
    if not isinstance(files, dict):
        return set()
    return {DESCRIPTION, *(name for name in _KNOWN_FILES if name in files)}


def written_files(
    spec: str, class_names: Sequence[str] = (), *, exported: bool = False
) -> set[str]:
    """Return the files that a bundle of a network may consist of.

    Args:
        spec: Of the network.
        class_names: Of its classes.
        exported: Whether it is exported for other backends, too.
    """
    return {
        DESCRIPTION, *_hashed(spec), *((CLASSES,) if _are_listed(class_names) else ()),
        *(EXPORTED_FILES if exported else ()),
    }


def check_foreign(folder: Path, names: Iterable[str]) -> None:
    """Check that files which are going to be written replace none but those of a bundle.

    Raises:
        NavMonitorError: A file of somebody else has such a name.
    """
    own = own_files(folder)
    for name in sorted(names):
        if name not in own and os.path.lexists(folder / name):
            raise NavMonitorError(
                f'{folder / name} is no file of a bundle there, and would be replaced; move it, or '
                'choose another output folder'
            )


def load_bundle(bundle: str | Path) -> Bundle:
    """Read a bundle and check it whole.

    Args:
        bundle: A folder, or the name of a shipped bundle.

    Returns:
        The bundle; its network is not built yet.

    Raises:
        NavMonitorError: A file is missing or was changed, the schema is unknown, or the contents
            contradict each other.
    """
    folder = find_bundle(str(bundle))
    _require_own_files(folder, (DESCRIPTION,))
    described = _read_description(folder)
    _require_own_files(folder, (*_hashed(_spec_of(described)), *own_files(folder)))
    _check_hashes(folder, described)
    return _assembled(folder, described)


def _assembled(folder: Path, described: Mapping[str, Any]) -> Bundle:
    """Return a bundle from its description and its files, which were checked."""
    try:
        return _assemble(folder, described)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f'lacks {error}' if isinstance(error, KeyError) else error
        raise NavMonitorError(
            f'{folder / DESCRIPTION} is malformed: {_brief(what)}; fit it again'
        ) from None
    except MemoryError:
        raise NavMonitorError(f'there is not memory enough for bundle {folder}') from None
    except NavMonitorError as error:
        raise NavMonitorError(_brief(error, 1000)) from None


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
        classifier.save(scratch / _hashed(bundle.network.spec)[0])
        save_file(_fitted_tensors(bundle), scratch / FITTED)
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
        for name in _hashed(bundle.network.spec):
            shutil.copyfile(source / name, scratch / name)
        (scratch / GRAPH).parent.mkdir()
        if graph is not None:
            shutil.copyfile(graph, scratch / GRAPH)
        save_file(_contiguous(engines.probe), scratch / PROBE)
        for name, approval in engines.approvals.items():
            if approval.calibration is not None:
                save_file(
                    _contiguous(approval.calibration.tensors()),
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
            described = _describe(bundle)
            if engines is not None:
                described['exported'] = engines.describe()
            if _are_listed(bundle.class_names):
                write_listed(scratch / CLASSES, bundle.class_names)
            names = (*_hashed(bundle.network.spec), CLASSES, *EXPORTED_FILES)
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
        _assembled(scratch, _read_description(scratch))
    except NavMonitorError as error:
        reason = str(error).replace(str(scratch), str(folder))
        raise NavMonitorError(f'{folder} is not written: it could not be read: {reason}') from None


def check_output(
    folder: Path, *, force: bool = False, outside: Mapping[str, Path | None] | None = None,
    writes: Iterable[str] = (),
) -> None:
    """Check that a new bundle may be written to a folder, before hours of work go into it.

    Args:
        folder: Where it is to go.
        force: A bundle may be there, or other files; these stay.
        outside: Folders that are written to meanwhile and must not lie within, by their options.
        writes: Files that are going to be written, besides those of every bundle.

    Raises:
        NavMonitorError: It may not.
    """
    if (reachable(folder).exists() or folder.is_symlink()) and not folder.is_dir():
        raise NavMonitorError(f'{folder} is not a folder; choose another output folder')
    if not force and folder.is_dir() and listed(folder):
        holds = 'holds a bundle already' if (folder / DESCRIPTION).is_file() else 'is not empty'
        raise NavMonitorError(
            f'{folder} {holds}; choose another output folder, or write there with --force (files '
            "that are not the bundle's stay)"
        )
    require_writable_folder(folder)
    check_foreign(folder, {DESCRIPTION, FITTED, CARD, *writes})
    for option, path in (outside or {}).items():
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise NavMonitorError(
                f'{option} {path} lies in the output folder {folder}, which appears when the work '
                'is done; name one outside of it'
            )


def _share_folders() -> list[Path]:
    """Return the folders where this package's data may lie, the code's own installation first."""
    here = Path(__file__).resolve()
    own = [parent / 'share' / 'nav_monitor_ros' for parent in here.parents]
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    return [here.parents[1], *own, *(prefix / 'share' / 'nav_monitor_ros' for prefix in prefixes)]


def _hashed(spec: object) -> tuple[str, ...]:
    """Return the names of the files that every bundle of such a network has, its weights first."""
    return (ONNX_WEIGHTS if spec == ONNX else WEIGHTS, FITTED, CARD)


def _spec_of(described: Mapping[str, Any]) -> object:
    network = described.get('network')
    return network.get('spec') if isinstance(network, dict) else None


def _require_own_files(folder: Path, names: Iterable[str]) -> None:
    """Check that a bundle's files are its own: links may lead to anybody's.

    Raises:
        NavMonitorError: One of them lies elsewhere.
    """
    if folder in shipped_bundles().values():
        return  # colcon may have installed them as links
    inside = folder.resolve()
    for name in names:
        try:
            own = (folder / name).resolve().is_relative_to(inside)
        except (OSError, RuntimeError):  # links in a circle
            own = False
        if not own:
            raise NavMonitorError(
                f'{folder / name} is a link that leads out of the bundle; copy the bundle with its '
                'links resolved (cp -rL)'
            )


def _brief(what: object, length: int = 300) -> str:
    """Return a text of a file fit for a message."""
    text = ' '.join(str(what).split())
    return text if len(text) <= length else f'{text[:length]}...'


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not reachable(path).is_file():
        raise NavMonitorError(f'{folder} is not a bundle: it has no {DESCRIPTION}')
    described = read_yaml(path)
    if not isinstance(described, dict):
        raise NavMonitorError(f'{path} is malformed: not a mapping; fit it again')
    if described.get('schema') != SCHEMA:
        raise NavMonitorError(
            f'{path} has schema {_brief(repr(described.get("schema")))}, and this version reads '
            f'{SCHEMA}; fit the monitor again or install the version that wrote it'
        )
    return described


def _check_hashes(folder: Path, described: Mapping[str, Any]) -> None:
    hashes = described.get('files')
    if not isinstance(hashes, dict):
        raise NavMonitorError(f'{folder / DESCRIPTION} is malformed: lacks files; fit it again')
    # Only names that this version knows are opened: a listed name cannot lead out of the folder.
    listed_classes = (CLASSES,) if isinstance(described.get('class_names'), dict) else ()
    for name in (*_hashed(_spec_of(described)), *listed_classes):
        if not (folder / name).is_file():
            raise NavMonitorError(f'bundle {folder} lacks {name}; copy or fit it again')
        if sha256_of(folder / name) != hashes.get(name):
            raise NavMonitorError(
                f'{folder / name} was changed after it was written (SHA-256 differs from '
                f'{DESCRIPTION}); copy or fit it again'
            )


def _assemble(folder: Path, described: Mapping[str, Any]) -> Bundle:
    try:
        tensors = load_file(folder / FITTED)
    except (SafetensorError, OSError) as error:
        raise NavMonitorError(f'{folder / FITTED} is unreadable: {one_line(error)}') from None
    _require_numbers(folder, tensors)
    network = described['network']
    monitor = described['monitor']
    class_names = _class_names(folder, described['class_names'])
    _require_printable(
        described['name'], network['spec'], monitor['layer'], *class_names, *monitor['scores']
    )
    # The head's weights belong to the network; the scores have a copy among their own tensors, so
    # that they can be read without building it.
    head = None
    if monitor['head'] is not None:
        if monitor['head'] not in HEADS:
            raise ValueError(f"monitor.head is '{monitor['head']}', not one of {HEADS}")
        head = Head(
            tensors['head/weight'], tensors['head/bias'], rectified=monitor['head'] == HEADS[1]
        )
    width = int(monitor['width'])
    if width < 1 or not class_names:
        raise ValueError('it monitors no neurons or knows no classes')
    if head is not None and (
        head.weight.shape != (len(class_names), width) or head.bias.shape != (len(class_names),)
    ):
        raise ValueError('the last layer has other classes or neurons than the monitor')
    scores = {}
    for name, settings in monitor['scores'].items():
        score = make_score(
            name, settings or {}, classes=len(class_names), width=width, head=head
        )
        stored = part(tensors, f'scores/{name}/')
        score.restore(stored)
        if set(stored) != set(score.tensors()):
            raise ValueError(f'settings and stored arrays of {name} contradict each other')
        scores[name] = score
    if not scores:
        raise NavMonitorError(f'bundle {folder} has no scores; fit it again')
    return Bundle(
        name=str(described['name']),
        network=NetworkSpec(
            str(network['spec']), dict(network.get('arguments') or {}), _output(network)
        ),
        background=None if network['background'] is None else int(network['background']),
        preprocess=Preprocess.from_dict(described['preprocess']),
        layer=str(monitor['layer']),
        class_names=class_names,
        scores=scores,
        calibration=read_calibration(
            described['calibration'], part(tensors, 'calibration/'), scores
        ),
        layer_ranges={
            str(layer): (float(low), float(high))
            for layer, (low, high) in described['layer_ranges'].items()
        },
        provenance=dict(described['provenance']),
        folder=folder,
        reference=_reference(network),
        stored=_stored(folder, described, scores),
        calibration_images=CalibrationImages.restored(part(tensors, 'calibration_images/')),
    )


def _class_names(folder: Path, described: object) -> tuple[str, ...]:
    if isinstance(described, dict):
        if described != {'file': CLASSES}:
            raise ValueError(f'class_names is neither a list nor the file {CLASSES}')
        return read_listed(folder / CLASSES)
    if not isinstance(described, list):
        raise TypeError('class_names is no list')
    return tuple(str(name) for name in described)


def _are_listed(class_names: Sequence[str]) -> bool:
    """Return whether class names have a file of their own."""
    return sum(map(len, class_names)) > LONGEST_LIST


def _output(network: Mapping[str, Any]) -> OutputName | None:
    found = network.get('output')
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | str)):
        raise ValueError(f'network.output is {_brief(repr(found), 80)}, no number and no name')
    return found


def _reference(network: Mapping[str, Any]) -> Engine:
    name = str(network.get('engine', TORCH))
    found = next((engine for engine in ENGINES if str(engine) == name), None)
    if found is None or (found.backend == TORCH) == (network['spec'] == ONNX):
        raise ValueError(f"network.engine '{_brief(name, 80)}' does not run such a network")
    return found


def _stored(
    folder: Path, described: Mapping[str, Any], scores: Mapping[str, Score]
) -> StoredEngines | None:
    exported = described.get('exported')
    if exported is None:
        return None
    return StoredEngines(folder, dict(exported), dict(described['files']), scores)


def _require_printable(*texts: object) -> None:
    for text in map(str, texts):
        problem = problem_of(text)
        if problem:
            raise ValueError(f'a name {problem}')


def _require_numbers(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.kind == 'f' and not np.isfinite(tensor).all():
            raise NavMonitorError(
                f'{folder / FITTED}: {name} holds values that are not finite numbers; fit it again'
            )


def _describe(bundle: Bundle) -> dict[str, Any]:
    calibration = bundle.calibration
    first = next(iter(bundle.scores.values()))
    return {
        'schema': SCHEMA,
        'name': bundle.name,
        'network': {
            'spec': bundle.network.spec,
            'arguments': dict(bundle.network.arguments),
            **({} if bundle.network.output is None else {'output': bundle.network.output}),
            'background': bundle.background,
            **({} if bundle.reference.backend == TORCH else {'engine': str(bundle.reference)}),
        },
        'preprocess': bundle.preprocess.to_dict(),
        'class_names': (
            {'file': CLASSES} if _are_listed(bundle.class_names) else list(bundle.class_names)
        ),
        'monitor': {
            'layer': bundle.layer,
            'width': first.width,
            'head': None if first.head is None else HEADS[first.head.rectified],
            'scores': {name: score.settings for name, score in bundle.scores.items()},
            'notes': bundle.notes(),
        },
        'calibration': describe_calibration(calibration),
        'layer_ranges': {
            layer: [float(f'{low:.6g}'), float(f'{high:.6g}')]
            for layer, (low, high) in bundle.layer_ranges.items()
        },
        'provenance': dict(bundle.provenance),
    }


def _fitted_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    tensors = {
        f'scores/{name}/{key}': array
        for name, score in bundle.scores.items()
        for key, array in score.tensors().items()
    }
    for name, array in bundle.calibration.tensors().items():
        tensors[f'calibration/{name}'] = array
    if bundle.calibration_images is not None:
        for name, array in bundle.calibration_images.tensors().items():
            tensors[f'calibration_images/{name}'] = array
    head = next(iter(bundle.scores.values())).head
    if head is not None:
        tensors['head/weight'], tensors['head/bias'] = head.weight, head.bias
    return _contiguous(tensors)


def _contiguous(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.ascontiguousarray(array) for key, array in tensors.items()}
