"""Write the generated parts of the documentation: tables of the README and the parameter file.

The table of scores comes from docs/measured/digits.json, the metrics.json of the `nav_monitor
evaluate` command that the README gives.

    python tools/write_docs.py            writes them
    python tools/write_docs.py --check    exits with status 1 if one of them is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nav_monitor_ros.perception.image import ENCODINGS  # noqa: E402
from nav_monitor_ros.ros.camera_parameters import CAMERA_PARAMETERS  # noqa: E402
from nav_monitor_ros.ros.parameters import PARAMETERS, markdown_table, yaml_file  # noqa: E402


def scores_table() -> str:
    """Return what was measured on the shipped digits, as a Markdown table."""
    measured = json.loads((ROOT / 'docs' / 'measured' / 'digits.json').read_text(encoding='utf-8'))
    sources = {name: name.replace('_', '-') for name in measured['separation']}
    lines = [
        '| score | '
        + ' | '.join(
            f'{title}: AUROC | FPR at 95 % recall | flagged' for title in sources.values()
        )
        + ' | digits flagged (budget 1 %) |',
        '|---' * (2 + 3 * len(sources)) + '|',
    ]
    for score, alarms in measured['false_alarms'].items():
        cells = [f'`{score}`']
        for name in sources:
            figures = measured['separation'][name][score]
            cells += [
                f'{100 * figures[key]:.2f} %' for key in ('auroc', 'fpr_at_95_ood', 'detected')
            ]
        cells.append(f'{100 * alarms["rate"]:.2f} %')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def generated(readme: str) -> str:
    """Return the README with its marked sections written anew."""
    sections = {
        'scores': scores_table(),
        'monitor parameters': markdown_table(PARAMETERS),
        'camera parameters': markdown_table(CAMERA_PARAMETERS),
        'encodings': ', '.join(f'`{encoding}`' for encoding in ENCODINGS),
    }
    for name, text in sections.items():
        pattern = re.compile(f'(<!-- {name} -->\n).*?(<!-- end -->)', re.DOTALL)
        if not pattern.search(readme):
            raise SystemExit(f'README.md lacks the section <!-- {name} -->')
        readme = pattern.sub(lambda match, text=text: f'{match[1]}{text}\n{match[2]}', readme)
    return readme


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing, compare only')
    check = parser.parse_args().check
    readme = ROOT / 'README.md'
    files = {
        readme: generated(readme.read_text(encoding='utf-8')),
        ROOT / 'config' / 'monitor.yaml': yaml_file(),
    }
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
