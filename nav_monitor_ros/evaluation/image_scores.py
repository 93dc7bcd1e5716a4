"""Per-image scores of an evaluation as a file for further analysis: NPZ or Parquet."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.decision.judge import Judge
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.evaluation.evidence_kinds import evidence_kinds
from nav_monitor_ros.evaluation.results import JudgedSources
from nav_monitor_ros.evaluation.scored_images import JudgedImages
from nav_monitor_ros.files.atomic_file import atomic_file

ROWS = 1 << 16  # rows that are in memory at a time
NPZ, PARQUET = '.npz', '.parquet'

Values = np.ndarray | list[str]  # of some rows


@dataclass(frozen=True)
class _Column:
    """A column of the table."""

    name: str
    dtype: Any  # numpy's type; str for text of any length
    values: Callable[[_Rows], Values]


@dataclass(frozen=True)
class _Rows:
    """Neighbouring images of one source."""

    source: ImageSource
    name: str  # name of the source in the evaluation
    images: JudgedImages
    start: int  # index of the first one in the source

    def __len__(self) -> int:
        return len(self.images)


class ImageTable:
    """One row for each image of an evaluation.

    Columns: ``source``, ``image`` (file, or number in the source from 0), ``label`` (true class;
    empty if unknown), ``class`` (predicted), ``class_index``, ``confidence``, ``flagged`` (by the
    default score), ``evidence_kind`` (empty unless flagged), and for each score ``score/NAME`` and,
    except for those of other libraries, ``p_value/NAME``.
    """

    def __init__(
        self, judge: Judge, sources: Mapping[str, ImageSource], judged: JudgedSources
    ) -> None:
        """Describe the table; nothing is computed yet.

        Args:
            judge: Scores that judged the images.
            sources: Sources by their names in the evaluation; the first is in-distribution, and has
                labels that are classes of the network, if any.
            judged: Scores of all images.
        """
        self._sources = sources
        self._judged = judged
        self._length = sum(map(len, judged.sources.values()))
        inside, first = next(iter(judged.sources.items()))
        labels = {name: _labels(source) for name, source in sources.items()}
        labels[inside] = _labels(sources[inside].numbered_for(judge.class_names), judge.class_names)

        def flagged(rows: _Rows) -> Values:
            images = rows.images
            return images.p_values[judge.decisive] <= judge.thresholds[images.predicted]

        self._columns = [
            _Column('source', str, lambda rows: [_text(rows.name)] * len(rows)),
            _Column('image', str, _image_names),
            _Column('label', str, lambda rows: labels[rows.name](rows)),
            _Column('class', str, lambda rows: [
                _text(judge.class_names[index]) for index in rows.images.predicted.tolist()]),
            _Column('class_index', np.int64, lambda rows: rows.images.predicted),
            _Column('confidence', np.float64, lambda rows: rows.images.confidence),
            _Column('flagged', np.bool_, flagged),
            _Column('evidence_kind', str, lambda rows: evidence_kinds(judge, rows.images).tolist()),
            *(
                _Column(f'score/{name}', np.float64, partial(_scores, name=name))
                for name in first.scores
            ),
            *(
                _Column(f'p_value/{name}', np.float64, partial(_p_values, name=name))
                for name in first.p_values
            ),
        ]

    def __len__(self) -> int:
        """Return the number of images."""
        return self._length

    def write(
        self, path: Path, progress: Progress = lambda what, done, total: None
    ) -> None:
        """Write the table atomically; its suffix decides the format.

        At most ``ROWS`` images are in memory in addition to the scores. NPZ files are written
        column by column and hold one array of equal length for each column, text as fixed-width
        Unicode; Parquet files are written in row groups.

        Args:
            path: Path of the file, ``.npz`` or ``.parquet``; an existing file is replaced.
            progress: Called with the stage, the number of rows or values written and the total.

        Raises:
            NavMonitorError: The format is unknown, pyarrow is missing, or the file cannot be
                written.
        """
        require_format(path)
        write = self._write_parquet if path.suffix == PARQUET else self._write_npz
        try:
            with atomic_file(path) as scratch:
                write(scratch, progress)
        except OSError as error:
            raise NavMonitorError(f'cannot write {path}: {error.strerror or error}') from error

    def _rows(self) -> Iterator[_Rows]:
        for name, source in self._sources.items():
            images = self._judged.sources[name]
            for start in range(0, len(images), ROWS):
                yield _Rows(source, name, images[start : start + ROWS], start)

    def _write_npz(self, scratch: Path, progress: Progress) -> None:
        total = len(self._columns)
        with zipfile.ZipFile(scratch, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for number, column in enumerate(self._columns):
                dtype = np.dtype(column.dtype)
                if column.dtype is str:
                    # A fixed width, so that numpy reads it without pickle.
                    longest = max((len(text) for rows in self._rows() for text in
                                   column.values(rows)), default=1)
                    dtype = np.dtype(f'<U{max(1, longest)}')
                with archive.open(f'{column.name}.npy', 'w', force_zip64=True) as stream:
                    np.lib.format.write_array_header_1_0(stream, {
                        'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False,
                        'shape': (len(self),),
                    })
                    for rows in self._rows():
                        progress('per-image scores', number, total)
                        stream.write(np.asarray(column.values(rows), dtype).tobytes())

    def _write_parquet(self, scratch: Path, progress: Progress) -> None:
        arrow, parquet = _pyarrow()
        types = {
            str: arrow.string(), np.int64: arrow.int64(), np.float64: arrow.float64(),
            np.bool_: arrow.bool_(),
        }
        schema = arrow.schema([(column.name, types[column.dtype]) for column in self._columns])
        done = 0
        with scratch.open('wb') as stream, parquet.ParquetWriter(stream, schema) as writer:
            for rows in self._rows():
                progress('per-image scores', done, len(self))
                writer.write_batch(arrow.record_batch([
                    arrow.array(column.values(rows), types[column.dtype])
                    for column in self._columns
                ], schema=schema))
                done += len(rows)


def require_format(path: Path) -> None:
    """Check that a file of per-image scores can be written in the format of its suffix.

    Raises:
        NavMonitorError: The suffix is unknown, or pyarrow is missing for Parquet.
    """
    if path.suffix not in (NPZ, PARQUET):
        raise NavMonitorError(
            f'cannot write {path}: per-image scores are written as {NPZ} or {PARQUET}'
        )
    if path.suffix == PARQUET:
        _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its module for Parquet files.

    Raises:
        NavMonitorError: It is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:  # it is missing, or does not support this numpy
        raise NavMonitorError(
            f"writing {PARQUET} needs pyarrow: pip install 'nav_monitor_ros[parquet]', or pyarrow "
            f'itself; {NPZ} needs neither ({one_line(error)})'
        ) from None
    return pyarrow, pyarrow.parquet


def _image_names(rows: _Rows) -> list[str]:
    source = rows.source
    places = source.places[rows.start : rows.start + len(rows)].tolist()
    if source.file_name is None:
        return list(map(str, places))
    return [_text(source.file_name(place)) for place in places]


def _scores(rows: _Rows, name: str) -> np.ndarray:
    return rows.images.scores[name]


def _p_values(rows: _Rows, name: str) -> np.ndarray:
    return rows.images.p_values[name]


def _labels(
    source: ImageSource, class_names: Sequence[str] | None = None
) -> Callable[[_Rows], list[str]]:
    """Return a function that names the true classes of rows; '' without labels.

    Args:
        source: Images with labels, if they are known.
        class_names: In the order of the labels; None for the source's own names, or its numbers if
            it has none.
    """
    def named(rows: _Rows) -> list[str]:
        places = range(rows.start, rows.start + len(rows))
        return [_text(source.label_name(place, class_names)) for place in places]

    return named


def _text(name: str) -> str:
    """Return a name whose bytes that are not text are spelt out, as files of text need it."""
    return name.encode('utf-8', 'backslashreplace').decode('utf-8')
