"""The Jinja environment: StrictUndefined, one shell-quoting filter, and the template search path."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from lfadsrm_hpc.errors import TemplateError


@contextmanager
def packaged_folder(name: str) -> Iterator[Path]:
    """Give the folder `templates` or `site_configs` as it ships.

    It is a subpackage in a wheel or an editable install, and stands beside the package in a clone.
    """
    beside = Path(__file__).resolve().parent.parent / name
    try:
        resource = files(f"lfadsrm_hpc.{name}")
    except ModuleNotFoundError:
        if not beside.is_dir():
            raise TemplateError(
                f"the folder {name!r} of lfadsrm_hpc is missing", where=beside, hint="reinstall lfadsrm_hpc"
            ) from None
        yield beside
        return
    with as_file(resource) as path:
        yield path


def shell_quote(value: object) -> str:
    """Quote a text so that a POSIX shell reads exactly it, as one word.

    Raises
    ------
    TemplateError
        It holds a NUL, which no shell word can, or a line break, which breaks line-based scheduler files.
    """
    text = str(value)
    if any(c in text for c in "\0\n\r"):
        raise TemplateError(
            f"{text!r} cannot be written into a shell script", hint="remove line breaks and NUL characters"
        )
    return shlex.quote(text)


def shell_comment(value: object) -> str:
    """Make a text safe to stand behind a `#`: one line, printable."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def render(template: str, values: Mapping[str, object], *, search: Sequence[Path] = ()) -> str:
    """Render a template; the first folder of `search` that has it wins, then the packaged one.

    Raises
    ------
    TemplateError
        The template does not exist, names a value that was not given, or is malformed.
    """
    import jinja2

    with packaged_folder("templates") as packaged:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([*(str(path) for path in search), str(packaged)]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # shell scripts: every value goes through the filter q
        )
        environment.filters["q"] = shell_quote
        environment.filters["comment"] = shell_comment
        try:
            return environment.get_template(template).render(**values)
        except jinja2.TemplateNotFound as error:
            raise TemplateError(f"there is no template {error.name!r}", where=packaged) from error
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"template {error.name}: {error.message}", where=f"{error.filename}, line {error.lineno}"
            ) from error
        except jinja2.UndefinedError as error:
            raise TemplateError(f"template {template}: {error.message}", where=template) from error
