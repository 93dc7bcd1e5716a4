"""Write the generated parts of the documentation: tables of measurements, parameters, encodings.

Measurements come from docs/measured/, which the commands in benchmarks/ write.

    python tools/write_docs.py            write them
    python tools/write_docs.py --check    exit with status 1 if one of them is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / 'tools' / 'measured'))

import measured  # noqa: E402
import measured_backends  # noqa: E402
import measured_cameras  # noqa: E402
import measured_performance  # noqa: E402
import measured_safety  # noqa: E402
import measured_scale  # noqa: E402
import measured_simulator  # noqa: E402
import measured_stopping  # noqa: E402
import measured_zoo  # noqa: E402

from nav_monitor_ros.perception.image_encodings import ENCODINGS  # noqa: E402
from nav_monitor_ros.ros.camera.parameters import CAMERA_PARAMETERS  # noqa: E402
from nav_monitor_ros.ros.safety_stop.parameters import SAFETY_STOP_PARAMETERS  # noqa: E402
from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS  # noqa: E402
from nav_monitor_ros.runtime.parameter_definition import markdown_table, yaml_file  # noqa: E402
from nav_monitor_ros.scores import option_tables  # noqa: E402


def sections() -> dict[str, dict[str, str]]:
    """Return the text between <!-- name --> and <!-- end --> for each file."""
    return {
        'README.md': {
            'scores': measured.overview(),
            'performance picture': measured_performance.picture('docs/images'),
        },
        'docs/reference.md': {
            'monitor parameters': markdown_table(PARAMETERS),
            'camera parameters': markdown_table(CAMERA_PARAMETERS),
            'score options': option_tables.markdown_table(),
            'encodings': ', '.join(f'`{encoding}`' for encoding in ENCODINGS),
        },
        'docs/judging.md': {
            'pooled patterns': measured.pooled_patterns(),
            'fusion path': measured.fusion_path(),
            'cost': measured.cost(),
            'fusion ways': measured.fusion_ways(),
        },
        'docs/evaluation.md': {
            **{f'evaluation {name}': measured.evaluation(name) for name in measured.NETWORKS},
            **{f'alarms {name}': measured.alarms(name) for name in measured.NETWORKS},
        },
        'docs/architecture.md': {'interrupts': measured_safety.interrupts()},
        'docs/backends.md': {
            'backend machine': measured_backends.backend_machine(),
            'backend scores': measured_backends.backend_scores(),
            'backend times': measured_backends.backend_times(),
        },
        'docs/cameras.md': {'cameras': measured_cameras.cameras()},
        'docs/performance.md': {
            'performance picture': measured_performance.picture('images'),
            'machines': measured_performance.machine(),
            'node rates': measured_performance.rates(),
            **{
                f'{name} times': measured_performance.times(name)
                for name in ('node', 'patterns', 'startup', 'fit', 'replay', 'gpu')
            },
            **{
                f'{name} figures': measured_performance.figures(name)
                for name in measured_performance.NAMES
            },
            'patterns bdd': measured_performance.bdds(),
            'gpu scores': measured_performance.gpu_scores(),
        },
        'docs/safety.md': {
            **{
                name: getattr(measured_safety, name)()
                for name in (
                    'streams', 'machine', 'tracks', 'brightness', 'faults', 'soak', 'garbage',
                    'fuzz',
                )
            },
            **{
                name: getattr(measured_stopping, name)()
                for name in ('stopping', 'speeds', 'visibility')
            },
            'safety_stop parameters': markdown_table(SAFETY_STOP_PARAMETERS),
        },
        'docs/scale.md': {
            name: getattr(measured_scale, name)()
            for name in (
                'memory', 'workers', 'workers_machine', 'merging', 'levels', 'by_score', 'billion',
            )
        },
        'docs/simulator.md': {'drive faults': measured_simulator.drive_faults()},
        'docs/zoo.md': {
            'zoo means A': measured_zoo.means('A'),
            'zoo means B': measured_zoo.means('B'),
            'zoo networks': measured_zoo.networks(),
            'zoo behind count': measured_zoo.behind_count('B'),
            'zoo behind B': measured_zoo.behind('B'),
        },
        'docs/study.md': {
            'triangles': measured.triangles(),
            'gammas': measured.gammas(),
            'columns': measured.columns(),
            'budget': measured.budget(),
        },
    }


def generated(file: str, text: str, parts: Mapping[str, str]) -> str:
    """Return a file's text with its marked sections replaced."""
    for name, part in parts.items():
        pattern = re.compile(f'(<!-- {name} -->\n).*?(<!-- end -->)', re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f'{file} lacks the section <!-- {name} -->')
        text = pattern.sub(lambda match, part=part: f'{match[1]}{part}\n{match[2]}', text)
    return text


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='only compare; write nothing')
    check = parser.parse_args().check
    files = {
        ROOT / name: generated(name, (ROOT / name).read_text(encoding='utf-8'), parts)
        for name, parts in sections().items()
    }
    files[ROOT / 'config' / 'monitor.yaml'] = yaml_file(
        PARAMETERS, 'nav_monitor', 'runtime/monitor_parameters'
    )
    files[ROOT / 'config' / 'safety_stop.yaml'] = yaml_file(
        SAFETY_STOP_PARAMETERS, 'safety_stop', 'ros/safety_stop/parameters'
    )
    stale = [
        path for path, text in files.items()
        if not path.exists() or path.read_text(encoding='utf-8') != text
    ]
    for path in stale:
        print(f'{path.relative_to(ROOT)} {"is out of date" if check else "written"}')
        if not check:
            path.write_text(files[path], encoding='utf-8')
    return 1 if check and stale else 0


if __name__ == '__main__':
    sys.exit(main())
