"""The Jinja environment: StrictUndefined, one shell-quoting filter, and the template search path.

Templates run in Jinja's sandbox, and those of a project only when the user has trusted them (`trust.py`).

In `*.html.j2` every value is escaped. Filters for scripts: `q` for every text that reaches a shell, `comment`
for what stands behind a `#`, and for the lines that a scheduler reads (`#SBATCH`, `#PBS`) `word`,
`slurm_path`, `pbs_path` and `directive`, which refuse what cannot stand there.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from lfadsrm_hpc.errors import TemplateError
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.trust import require_file

if TYPE_CHECKING:
    import jinja2

_WORD = re.compile(r"[A-Za-z0-9_.,:+@/=^-]+")
_PBS_PATH = re.compile(r"/[A-Za-z0-9_.,+@/=~-]*")


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


def directive_word(value: object) -> str:
    """Return a value of a scheduler's option if every scheduler reads it as it is, unquoted.

    Raises
    ------
    TemplateError
        It holds blanks, quotes or other characters that some scheduler reads otherwise.
    """
    text = str(value)
    if not _WORD.fullmatch(text):
        raise TemplateError(
            f"{text!r} cannot stand in a line that the scheduler reads",
            hint="use letters, digits and _ . , : + @ / = ^ - alone",
        )
    return text


def directive_line(value: object) -> str:
    """Return a site's own option of a job, which is taken as it is, if it is one.

    Raises
    ------
    TemplateError
        It is more than one line, or does not begin with a dash.
    """
    text = str(value).strip()
    if not text.isprintable() or not text.startswith("-"):
        raise TemplateError(
            f"{text!r} is not an option of a job", hint="write one line that begins with a dash"
        )
    return text


def slurm_path(value: object, pattern: str = "") -> str:
    """Quote a folder for a `#SBATCH` line; `pattern`: what follows it, where % fills in Slurm's numbers.

    Raises
    ------
    TemplateError
        It holds a backslash, which switches Slurm's patterns off, or what is not printable.
    """
    text = str(value)
    if not text.isprintable() or "\\" in text:
        raise TemplateError(
            f"the path {text!r} cannot stand in a #SBATCH line",
            hint="rename the folder, or reach it through a link without backslashes and control characters",
        )
    text = text.replace("%", "%%") + pattern
    return text if _WORD.fullmatch(text.replace("%", "")) else '"' + text.replace('"', '\\"') + '"'


def pbs_path(value: object) -> str:
    """Return a path if PBS and Torque take it in a `#PBS` line.

    They end a path at a blank or at a byte beyond ASCII, read `host:path`, and fill in `$` and `^` names.

    Raises
    ------
    TemplateError
        It holds such a character.
    """
    text = str(value)
    if not _PBS_PATH.fullmatch(text):
        raise TemplateError(
            f"the path {text!r} cannot stand in a #PBS line",
            hint="keep the collection where the path has letters, digits and _ . , + @ = ~ - alone, or reach "
            "it through a link with such a path",
        )
    return text


def _is_page(template: str | None) -> bool:
    """Return whether a template makes HTML, where names must not be able to mean anything."""
    return template is not None and template.endswith(".html.j2")


Source = tuple[str, str, Callable[[], bool]]


def _trusted_loader(folders: Sequence[Path]) -> Callable[[str], Source | None]:
    """Return what loads a template from the first folder that has it, if its content is trusted.

    Raises
    ------
    UntrustedError
        Here, from what Jinja calls: the content that is judged is the content that is used.
    """

    def load(name: str) -> Source | None:
        if any(part in ("", ".", "..") for part in name.split("/")):
            return None
        for path in (folder / name for folder in folders):
            if path.is_file():
                data = read_bytes(path)
                require_file(path, data, "a template")
                # Read anew for each rendering: trust can be taken back, and a file be changed.
                return data.decode(), str(path), lambda: False
        return None

    return load


@lru_cache(maxsize=8)
def _environment(packaged: Path, search: tuple[Path, ...]) -> jinja2.Environment:
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    ours = jinja2.FileSystemLoader(str(packaged))
    theirs = [path for path in search if path.resolve() != packaged.resolve()]  # in a clone they may be one
    environment = SandboxedEnvironment(
        loader=jinja2.ChoiceLoader(
            [
                # What a template of the same name extends.
                jinja2.PrefixLoader({"packaged": ours}),
                jinja2.FunctionLoader(_trusted_loader(theirs)),
                ours,
            ]
        ),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=_is_page,  # in shell scripts every value goes through the filter q instead
    )
    environment.filters |= {
        "q": shell_quote,
        "comment": shell_comment,
        "word": directive_word,
        "directive": directive_line,
        "slurm_path": slurm_path,
        "pbs_path": pbs_path,
    }
    return environment


def choose_template(names: Sequence[str], search: Sequence[Path] = ()) -> str:
    """Return the name that is found first: the folders count before the order of the names.

    Raises
    ------
    TemplateError
        There is none of them.
    """
    with packaged_folder("templates") as packaged:
        for folder in (*search, packaged):
            for name in names:
                if (folder / name).is_file():
                    return name
        raise TemplateError(f"there is no template {' or '.join(names)}", where=packaged)


def _line_of(error: Exception, search: Sequence[Path]) -> str:
    """Return the line of a template of the user at which an error came up; "" where there is none."""
    folders = tuple(f"{path}{os.sep}" for path in search)
    frames = [one for one in extract_tb(error.__traceback__) if one.filename.startswith(folders)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def render(template: str, values: Mapping[str, object], *, search: Sequence[Path] = ()) -> str:
    """Render a template; the first folder of `search` that has it wins, then the packaged one.

    A template can extend the packaged one of its own name: `{% extends "packaged/slurm.sh.j2" %}`.

    Raises
    ------
    TemplateError
        The template does not exist, names a value that was not given, is malformed, or reaches for what the
        sandbox does not give.
    UntrustedError
        It is a project's, and the user has not trusted it.
    """
    import jinja2
    from jinja2.exceptions import SecurityError

    with packaged_folder("templates") as packaged:
        try:
            return _environment(packaged, tuple(search)).get_template(template).render(**values)
        except jinja2.TemplateNotFound as error:
            raise TemplateError(f"there is no template {error.name!r}", where=packaged) from error
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"template {error.name}: {error.message}", where=f"{error.filename}, line {error.lineno}"
            ) from error
        except SecurityError as error:
            raise TemplateError(
                f"template {template} reaches for what templates may not use: {error.message}",
                where=_line_of(error, search) or template,
                hint="a template may use the values that it is given, and no Python behind them",
            ) from error
        except jinja2.UndefinedError as error:
            raise TemplateError(f"template {template}: {error.message}", where=template) from error
        except RecursionError as error:
            raise TemplateError(
                f"template {template} extends itself",
                where=template,
                hint=f'{{% extends "packaged/{Path(template).name}" %}} extends the packaged one',
            ) from error
        except UnicodeDecodeError as error:
            found = next((path for path in (one / template for one in search) if path.is_file()), template)
            raise TemplateError(
                f"template {template}: this file, or one that it extends, is not UTF-8", where=found
            ) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            if not (line := _line_of(error, search)):
                raise  # no doing of the user's
            what = f"template {template}: {type(error).__name__}: {error}"
            raise TemplateError(what, where=line) from error
