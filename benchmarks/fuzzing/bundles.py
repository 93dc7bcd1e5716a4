"""Fuzzing of bundles."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fuzzing.target import NUMBERS, Finding, Target, spoil_bytes
from fuzzing.watching import watched

ROOT = Path(__file__).resolve().parents[2]


BUNDLE_FILES = ('model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md')
EXPORTED = ('exported/network.onnx', 'exported/probe.safetensors')  # only in the shipped bundle


@dataclass(frozen=True)
class BundleCase:
    """Files of a bundle, by name; a string is the target of a symbolic link."""

    files: dict[str, bytes | str]
    signed: bool = True  # whether the description contains the hashes of these files


class BundleTarget(Target):
    """Target: ``load_bundle``, its network, and its judge on an image."""

    most_memory = 512 << 20

    def __init__(self, folder: Path) -> None:
        """Fit a tiny bundle, and read a shipped one."""
        super().__init__(folder)
        import tiny
        from safetensors.numpy import load, save

        from nav_monitor_ros.bundle.loading import load_bundle
        from nav_monitor_ros.bundle.networks import load_network
        from nav_monitor_ros.bundle.saving import save_bundle

        self._load_tensors, self._save_tensors = load, save
        self._load, self._load_network = load_bundle, load_network
        classifier = tiny.classifier()
        save_bundle(tiny.fitted(classifier), classifier, folder / 'tiny', card='')
        self._bases = [
            {
                path.relative_to(base).as_posix(): path.read_bytes()
                for path in base.rglob('*') if path.is_file()
            }
            for base in (folder / 'tiny', ROOT / 'bundles' / 'digits')
        ]
        self._hashes = [
            {name: _hash(content) for name, content in base.items() if name != 'bundle.yaml'}
            for base in self._bases
        ]
        self._place = folder / 'bundle'
        self._outside = folder.parent / f'{folder.name}-outside'
        self._outside.write_text('schema: 3\n')

    def fresh(self, chance: random.Random) -> BundleCase:
        """Return an unchanged bundle; more often the tiny one."""
        return BundleCase(dict(self._bases[chance.random() < 0.15]))

    def spoiled(self, case: BundleCase, chance: random.Random) -> BundleCase:
        """Change the description, the tensors, or the files."""
        files = dict(case.files)
        if EXPORTED[0] in files and chance.random() < 0.5:
            self._spoil_exported(files, chance)
            return BundleCase(files, signed=chance.random() < 0.95)
        way = chance.randrange(10)
        description = files.get('bundle.yaml', b'')
        if way <= 4 and isinstance(description, bytes):
            described = _plain(description)
            if isinstance(described, dict):
                for _ in range(chance.choice((1, 1, 2, 4))):
                    _spoil_values(described, chance)
                files['bundle.yaml'] = _yaml(described)
        elif way == 5 and isinstance(description, bytes):
            files['bundle.yaml'] = self._spoil_text(description, chance)
        elif way == 6:
            name = chance.choice(BUNDLE_FILES[:2])
            content = files.get(name, b'')
            if isinstance(content, bytes):
                files[name] = _spoil_safetensors(content, chance)
        elif way == 7:
            name = chance.choice(('bundle.yaml', *BUNDLE_FILES))
            targets = (None, str(self._outside), '/etc/passwd', '/dev/zero', f'../{name}', name)
            target = chance.choice(targets)
            files.pop(name, None)
            if target is not None:
                files[name] = target
        else:
            self._spoil_tensors(files, chance)
        return BundleCase(files, signed=chance.random() < 0.95)

    def _spoil_exported(self, files: dict[str, bytes | str], chance: random.Random) -> None:
        name = chance.choice(EXPORTED)
        content = files.get(name)
        if chance.random() < 0.1:
            files.pop(name, None)
            files[name] = chance.choice((str(self._outside), '/dev/zero', '../bundle.yaml'))
        elif isinstance(content, bytes) and name.endswith('.safetensors'):
            files[name] = _spoil_safetensors(content, chance)
        elif isinstance(content, bytes):
            # The graph is before and after the weights; changed weights do not invalidate a file.
            ends = content[:6000], content[-6000:]
            place = chance.randrange(2)
            spoilt = spoil_bytes(ends[place], chance, ends[place])
            files[name] = (
                spoilt + content[6000:] if place == 0 else content[:-6000] + spoilt
            )

    def _spoil_text(self, text: bytes, chance: random.Random) -> bytes:
        canary = f'!!python/object/apply:os.system ["touch {self._outside}-ran"]'.encode()
        laughs = b'\n'.join(
            [b'l0: &l0 [1,1]', *(b'l%d: &l%d [%s]' % (n, n, b','.join([b'*l%d' % (n - 1)] * 9))
                                 for n in range(1, 12))])
        merges = b'\n'.join(
            [b'm0: &m0 {a: 1}', *(b'm%d: &m%d {<<: [%s]}' % (
                n, n, b','.join([b'*m%d' % (n - 1)] * 9)) for n in range(1, 12))])
        additions = (
            canary, b'x: ' + canary, laughs, merges, laughs.replace(b'l11:', b'schema:'),
            b'[' * chance.choice((40, 900, 30000)), b'{a: ' * 2000, b'? ' * 5000,
            b'x: !!binary ' + b'A' * 1000, b'x: 0x' + b'f' * 5000, b'x: ' + b'9' * 5000,
            b'x: 2001-99-99', b'x: !!timestamp 2001', b'x: !!float ""', b'&a x: *a', b'\x00',
            b'x: 1:' + b'59:' * 4000 + b'1', b'!!set {a, b}', b'!!omap [a: 1]', b'- ' * 200_000,
        )
        addition = chance.choice(additions)
        if chance.random() < 0.3:
            return addition
        if chance.random() < 0.5:
            return spoil_bytes(text, chance, text)
        return chance.choice((addition + b'\n' + text, text + b'\n' + addition + b'\n'))

    def _spoil_tensors(self, files: dict[str, bytes | str], chance: random.Random) -> None:
        name = chance.choice(BUNDLE_FILES[1::-1])
        content = files.get(name)
        if not isinstance(content, bytes):
            return
        try:
            tensors = dict(self._load_tensors(content))
        except Exception:  # invalid since an earlier mutation
            return
        for _ in range(chance.choice((1, 1, 2, 4))):
            key = chance.choice(sorted(tensors)) if tensors else 'x'
            array_ = tensors.get(key, np.zeros(3))
            way = chance.randrange(8)
            if way == 0:
                tensors.pop(key, None)
            elif way == 1:
                kinds = (np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, bool)
                with np.errstate(all='ignore'):
                    tensors[key] = array_.astype(chance.choice(kinds))
            elif way == 2:
                tensors[key] = array_.reshape(-1)[: chance.randint(0, 5)]
            elif way == 3:
                tensors[key] = np.concatenate([array_, array_]) if array_.ndim else array_
            elif way == 4:
                tensors[key] = np.zeros((0, *array_.shape[1:]), array_.dtype)
            elif way == 5:
                tensors[key + chance.choice('/x2')] = array_
            elif array_.size:
                changed = array_.copy().reshape(-1)
                values = (0, -1, 1, 255, 1e30, -1e30, 1e-30, np.nan, np.inf, 2**62)
                place = slice(None) if way == 6 else chance.randrange(array_.size)
                with np.errstate(all='ignore'), suppress(OverflowError, ValueError):
                    changed[place] = chance.choice(values)
                tensors[key] = changed.reshape(array_.shape)
        with suppress(Exception):  # tensors that cannot be written are skipped
            files[name] = self._save_tensors(
                {key: np.ascontiguousarray(value) for key, value in tensors.items()})

    def feed(self, case: BundleCase) -> object:
        """Write the bundle, load it, run its network and judge an image."""
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        files = self._signed(case.files) if case.signed else case.files
        for name, content in files.items():
            (self._place / name).parent.mkdir(exist_ok=True)
            if isinstance(content, str):
                (self._place / name).symlink_to(content)
            else:
                (self._place / name).write_bytes(content)
        with watched(self.folder):
            bundle = self._load(self._place)
            backend = 'onnxruntime' if EXPORTED[0] in case.files else None
            classifier = self._load_network(
                bundle, backend=backend, device='cpu', trusted_packages=['tiny'])
            judge = bundle.judge(also=['all'])
            picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
            image = bundle.preprocess.apply(picture)
            verdict = judge.judge(classifier(image[None]))
        if not 0 < verdict.p_value <= 1:
            raise Finding(f'a p-value of {verdict.p_value}')
        return 'judged', sorted(bundle.scores)

    def _signed(self, files: dict[str, bytes | str]) -> dict[str, bytes | str]:
        text = files.get('bundle.yaml')
        for name in (*BUNDLE_FILES, *EXPORTED):
            content = files.get(name)
            if isinstance(content, bytes) and isinstance(text, bytes):
                for hashes in self._hashes:
                    if name in hashes:
                        text = text.replace(hashes[name], _hash(content))
        return files if text is None else {**files, 'bundle.yaml': text}


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


# For reading and writing in this module; C implementations if PyYAML has them.
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
_DUMPER = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)


def _yaml(described: Any) -> bytes:
    try:
        return yaml.dump(described, Dumper=_DUMPER, sort_keys=False).encode()
    except ValueError:  # a mutation created a number that Python cannot write
        return b'x: ' + b'9' * 9000


def _plain(text: bytes | str) -> Any:
    """Return the content of a description; None if it is not YAML or not suited for changes."""
    if isinstance(text, str) or len(text) > 20_000 or b'*' in text.replace(b'*.', b''):
        return None
    try:
        return yaml.load(text, _LOADER)
    except Exception:
        return None


JUNK: tuple[Any, ...] = (
    None, True, '', 'text', 'a\nb', '\x1b[2J', '../../etc/passwd', '/etc/passwd', 'x' * 5000, -1, 0,
    1, 2, 3, 7, 24, 25, 1000, 10**6, 10**9, 10**12, 10**30, 0.5, -0.0, 1e-320, 1e300, float('nan'),
    float('inf'), [], {}, [[1, 2]], ['a', 'b', 'c'], [0.5] * 3, list(range(2000)), {'a': 1},
    'fused', 'torchvision:resnet18', 'nav_monitor_ros.perception.reference_networks:DigitsNet',
    'nav_monitor_ros.bundle.shipped:os.system',
    'nav_monitor_ros.perception.reference_networks:torch.load',
    'os:system', 'tiny:Bars', 'tiny:torch.hub.load', {'classes': 10**9}, {'width': 10**9},
    {'width': -1}, {'command': 'true'}, {'mc_dropout': {'count': 10**7}},
    {'box': {'clusters': 10**8}}, {'window_kl': {'window': 10**30}},
    {'knn': {'neighbours': 10**30}},
)


def _spoil_values(described: Any, chance: random.Random) -> None:
    """Change one random value in nested lists and dictionaries."""
    places = list(_places(described))
    if not places:
        return
    parent, key = chance.choice(places)
    way = chance.randrange(7)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent[key], (int, float)):
        parent[key] = chance.choice((parent[key] + 1, parent[key] * 1000, -parent[key]))
    elif way == 2:
        other, name = chance.choice(places)
        with suppress(KeyError, IndexError):
            parent[key] = copy.deepcopy(other[name])
    elif way == 3 and isinstance(parent, dict):
        parent[chance.choice(('new', '', 'fused', 5, 'a\nb', 'mc_dropout'))] = chance.choice(JUNK)
    elif way == 4 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[key] = copy.deepcopy(chance.choice(JUNK))


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    entries = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )
    for number, (key, inner) in enumerate(entries):
        if number < 50 and depth < 20:
            yield value, key
            yield from _places(inner, depth + 1)


def _spoil_safetensors(content: bytes, chance: random.Random) -> bytes:
    """Change the header of a safetensors file (its length, then JSON) or arbitrary bytes."""
    length = int.from_bytes(content[:8], 'little')
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or chance.random() < 0.4:
        return spoil_bytes(content[: 1 << 16], chance, content) + content[1 << 16 :]
    named = [key for key in header if isinstance(header[key], dict)]
    if named:
        entry = header[chance.choice(named)]
        way = chance.randrange(5)
        if way == 0:
            entry['dtype'] = chance.choice(('F64', 'BF16', 'I64', 'U8', 'BOOL', 'F8_E4M3', 'X', 5))
        elif way == 1:
            entry['shape'] = [chance.choice((0, 1, 3, 1 << 32, 1 << 62)) for _ in range(3)]
        elif way == 2:
            entry['data_offsets'] = [chance.choice((0, 5, 1 << 40)), chance.choice((0, 9, 1 << 62))]
        elif way == 3:
            header['scores/' * 1000] = copy.deepcopy(entry)
        else:
            _spoil_values(header, chance)
    encoded = json.dumps(header).encode()
    claimed = len(encoded) if chance.random() < 0.9 else chance.choice(NUMBERS)
    return struct.pack('<Q', claimed) + encoded + content[8 + length :]
