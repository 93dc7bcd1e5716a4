"""The frame of a page that is one file, asks nobody for anything, and runs its own scripts only."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline';
  script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color-scheme: light dark; --page: #f5f6f8; --card: #ffffff; --head: #181a1e;
  --ink: #1c1f24; --muted: #5c626c; --line: #d8dbe0; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #121417; --card: #1c1f24; --head: #0b0c0e; --ink: #f0f2f5; --muted: #a6acb6;
    --line: #343841; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header { background: var(--head); color: #f0f2f5; padding: 32px 24px 28px; }
header > *, main { max-width: 1168px; margin-left: auto; margin-right: auto; }
h1 { font-size: clamp(24px, 3.6vw, 34px); line-height: 1.2; letter-spacing: -0.02em;
  margin-top: 0; margin-bottom: 10px; overflow-wrap: anywhere; }
header p { color: #c5cad2; margin-top: 0; margin-bottom: 0; overflow-wrap: anywhere; }
main { padding: 8px 24px 56px; }
h2 { font-size: 21px; letter-spacing: -0.01em; margin: 32px 0 6px; }
main p { color: var(--muted); margin: 0 0 14px; max-width: 84ch; }
section { background: var(--card); border-radius: 12px; padding: 18px; margin-top: 16px;
  box-shadow: 0 1px 2px #0002; }
img { max-width: 100%; }
$style
</style>
</head>
<body>
<header>
<h1>$title</h1>
$lines
</header>
<main>
$body
</main>
</body>
</html>
""")


def page(title: str, lines: Sequence[str], body: str, style: str = '') -> str:
    """Return a whole HTML page.

    Args:
        title: Plain text.
        lines: Facts below the title, plain text, a paragraph each.
        body: HTML.
        style: More CSS, for the parts of the body.
    """
    return _PAGE.substitute(
        title=escape(title),
        lines='\n'.join(f'<p>{escape(line)}</p>' for line in lines),
        body=body,
        style=style,
    )


def section(heading: str, text: str, body: str) -> str:
    """Return a part of a page under a heading, with a sentence on what is seen.

    Args:
        heading: Plain text.
        text: Plain text; may be empty.
        body: HTML.
    """
    told = f'<p>{escape(text)}</p>' if text else ''
    return f'<h2>{escape(heading)}</h2>\n{told}\n<section>{body}</section>'
