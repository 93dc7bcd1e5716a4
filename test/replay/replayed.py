"""Pictures of a drive, and functions to read the outputs of its replay."""

from __future__ import annotations

import csv

import tiny

FRONT, REAR = '/front/image', '/rear/image'


def drive(seed=7, count=40, strange=range(15, 28)):
    """Return pictures of a drive that are temporarily out-of-distribution."""
    pictures, others = tiny.images(seed, count)[0], tiny.strange(seed, count)
    return [others[n] if n in strange else pictures[n] for n in range(count)]


def rows_of(path):
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream))


def messages_of(bag):
    """Return the messages of a bag, read by rosbags: topic -> [(time, message)...]."""
    from rosbags.highlevel import AnyReader

    found = {}
    with AnyReader([bag]) as reader:
        for connection, time_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((time_ns, message))
    return found


def table_of(judge, bag, path, *more):
    assert judge(bag, '--csv', path, *more) == 0
    return rows_of(path)


def refused(capsys, status):
    """Assert that a command ended as for invalid input; return its one-line error."""
    assert status == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith('nav_monitor replay: ') and '\n' not in said
    return said
