"""Render self-contained pages from templates, with styles and scripts inlined."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent
_TEMPLATES = _HERE / 'templates'
_ASSETS = _HERE / 'assets'


def render(template: str, *, templates: Path | None = None, **values: Any) -> str:
    """Return a rendered template; every value is escaped unless it is ``Markup``.

    Args:
        template: File name of a template.
        templates: Another folder with templates, searched before the package's own; a style or
            script next to them is found like the package's.
        values: Values for the template.

    Raises:
        jinja2.TemplateNotFound: The template does not exist.
        jinja2.UndefinedError: A value that the template needs is missing.
    """
    return _environment(templates).get_template(template).render(**values)


def render_fragment(template: str, **values: Any) -> Markup:
    """Return a rendered template as part of another page, not escaped again."""
    return Markup(render(template, **values))


@lru_cache(maxsize=4)
def _environment(templates: Path | None) -> Environment:
    folders = [folder for folder in (templates, _TEMPLATES) if folder is not None]
    environment = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )

    def asset(name: str) -> Markup:
        # Not through the template engine, since CSS and JavaScript contain braces.
        for folder in (_ASSETS, *folders):
            if (folder / name).is_file():
                return Markup((folder / name).read_text(encoding='utf-8'))
        raise FileNotFoundError(f'no style or script is called {name}')

    environment.globals['asset'] = asset
    return environment
