"""`lfadsrm site`: list, show, check, detect, write and trust site descriptions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lfadsrm_hpc.cli.common import json_option, print_json, print_rich_table, say
from lfadsrm_hpc.cli.completing import complete_sites
from lfadsrm_hpc.cli.trusting import trust
from lfadsrm_hpc.errors import ConfigError, UsageError
from lfadsrm_hpc.layout import check_name
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.rendering import shell_quote
from lfadsrm_hpc.trust import file_key, remember, user_folder

if TYPE_CHECKING:
    from lfadsrm_hpc.schedulers.sites.compare import Finding
    from lfadsrm_hpc.schedulers.sites.live import LiveSite
    from lfadsrm_hpc.schedulers.sites.loading import LoadedSite

EXIT_INVALID = 3
EXIT_NOTHING = 4
_TIME_LIMIT_S = 15.0
_CONTEXT = {"max_content_width": 100}

F = TypeVar("F", bound=Callable[..., Any])

_name_argument = click.argument(
    "name", required=False, default=None, metavar="[NAME]", shell_complete=complete_sites
)
_project_option = click.option(
    "--project",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder whose site_configs belong to it; otherwise the experiment found from here upwards.",
)
_set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Over all files, such as options.account=lab."
)
_time_limit_option = click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=_TIME_LIMIT_S,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of one call of the scheduler.",
)


@click.group()
def site() -> None:
    """List, show, check, detect, write and trust descriptions of clusters.

    A site is described by TOML files of its name, each laid over the one before, key by key: packaged,
    system (folders in LFADSRM_SITE_PATH), user (~/.config/lfadsrm/site_configs), project (site_configs beside
    experiment.toml), --set. Without NAME, commands take LFADSRM_SITE, or the site that this machine looks
    like.

    \b
    Examples:
      lfadsrm site list
      lfadsrm site detect
      lfadsrm site show perlmutter
      lfadsrm site check
      lfadsrm site init ourcluster
      lfadsrm site trust
    """


site.add_command(trust)


@site.command("list", context_settings=_CONTEXT)
@_project_option
@json_option
def list_(project: Path | None, as_json: bool) -> None:
    """List all sites that are described, and where.

    \b
    Examples:
      lfadsrm site list
      lfadsrm site list --json

    \b
    Exit codes: 0 listed, with what is invalid; 2 usage.
    """
    from lfadsrm_hpc.schedulers.sites.loading import LoadedSite, list_sites

    found = list_sites(_project(project))
    if as_json:
        print_json({"sites": [_entry(name, one) for name, one in found.items()]})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("site", "scheduler", "layer", "verified", "description"):
        table.add_column(column)
    for name, one in found.items():
        if isinstance(one, LoadedSite):
            about = one.site.site
            table.add_row(name, about.scheduler, one.layer, about.verified, about.description)
        else:
            table.add_row(name, "", "", "", "invalid")
            say(f"{name} is invalid: {one}")
    print_rich_table(table)


def _entry(name: str, one: LoadedSite | ConfigError) -> dict[str, Any]:
    if isinstance(one, ConfigError):
        return {"name": name, "error": str(one)}
    about = one.site.site
    return {
        "name": name,
        "scheduler": about.scheduler,
        "description": about.description,
        "layer": one.layer,
        "verified": about.verified,
        "files": [str(path) for path in one.files],
        "error": None,
    }


@site.command(context_settings=_CONTEXT)
@_name_argument
@click.option("--origin", is_flag=True, help="Say behind each key which file it comes from.")
@click.option("--all", "everything", is_flag=True, help="Show keys that no file says, with their defaults.")
@_set_option
@_project_option
@json_option
def show(
    name: str | None,
    origin: bool,
    everything: bool,
    sets: tuple[str, ...],
    project: Path | None,
    as_json: bool,
) -> None:
    """Show the site NAME as all layers together say it.

    \b
    Examples:
      lfadsrm site show
      lfadsrm site show polaris --origin
      lfadsrm site show generic-slurm --all --set request.partition=gpu

    \b
    Exit codes: 0 shown; 2 usage; 3 there is no such site, or it is invalid or not trusted.
    """
    from lfadsrm_hpc.schedulers.sites.loading import choose_site, to_settings
    from lfadsrm_hpc.schedulers.sites.writing import site_text

    loaded = choose_site(name, project=_project(project), sets=sets)
    if as_json:
        print_json(
            {
                "site": to_settings(loaded.site),
                "origins": dict(loaded.origins),
                "files": [str(path) for path in loaded.files],
                "templates": [str(path) for path in loaded.templates],
            }
        )
        return
    said = None if everything else ["site.name", *loaded.origins]
    text = site_text(loaded.site, said, remark=loaded.origin if origin else None)
    click.echo(text, nl=False)


@site.command(context_settings=_CONTEXT)
@_name_argument
@click.option("--live", is_flag=True, help="Ask the scheduler and compare what it says with the description.")
@_time_limit_option
@_set_option
@_project_option
@json_option
def check(
    name: str | None,
    live: bool,
    time_limit: float,
    sets: tuple[str, ...],
    project: Path | None,
    as_json: bool,
) -> None:
    """Check the site NAME: its files, a request for every partition, and with --live the scheduler itself.

    Lines that begin with "wrong" make jobs fail or wait for ever; those with "note" are worth knowing.

    \b
    Examples:
      lfadsrm site check
      lfadsrm site check --live
      lfadsrm site check sherlock
      lfadsrm site check generic-slurm --live --set partitions.gpu.max_walltime=2d --json

    \b
    Exit codes: 0 nothing is wrong; 2 usage; 3 something is; 6 the scheduler does not answer.
    """
    from lfadsrm_hpc.schedulers.sites.compare import check_requests, compare
    from lfadsrm_hpc.schedulers.sites.live import ask_scheduler
    from lfadsrm_hpc.schedulers.sites.loading import choose_site

    loaded = choose_site(name, project=_project(project), sets=sets)
    found = check_requests(loaded.site)
    answer = None
    if live:
        if loaded.site.is_local:
            raise UsageError(
                f"the site {loaded.site.name!r} has no scheduler to ask", hint="leave --live out"
            )
        answer = ask_scheduler(loaded.site.scheduler, time_limit)
        found += compare(loaded.site, answer)
    _tell(loaded, found, answer, as_json)
    if any(finding.wrong for finding in found):
        raise SystemExit(EXIT_INVALID)


def _tell(loaded: LoadedSite, found: list[Finding], live: LiveSite | None, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(
            {
                "site": loaded.site.name,
                "files": [str(path) for path in loaded.files],
                "findings": [asdict(finding) for finding in found],
                "live": asdict(live) if live is not None else None,
            }
        )
        return
    for finding in found:
        where = loaded.origins.get(finding.key, "")
        click.echo(f"{'wrong' if finding.wrong else 'note'}: {finding.key}: {finding.what}")
        if finding.wrong and where:
            click.echo(f"  where: {where}")
    wrong = sum(finding.wrong for finding in found)
    asked = f", compared with {live.scheduler} {live.version}".rstrip() if live is not None else ""
    say(f"{loaded.site.name}: {len(loaded.files)} files{asked}; {wrong} wrong, {len(found) - wrong} notes")


@site.command(context_settings=_CONTEXT)
@_project_option
@json_option
def detect(project: Path | None, as_json: bool) -> None:
    """Tell which site this machine looks like, and why.

    Variables and host names are looked at first; the scheduler is asked only where they say nothing.

    \b
    Examples:
      lfadsrm site detect
      lfadsrm site detect --json

    \b
    Exit codes: 0 one or more; 2 usage; 3 a file is invalid or not trusted; 4 none.
    """
    from dataclasses import asdict

    from lfadsrm_hpc.schedulers.sites.loading import detect_sites

    found = detect_sites(_project(project))
    if as_json:
        print_json({"sites": [asdict(one) for one in found]})
    for one in [] if as_json else found:
        click.echo(f"{one.name}  {one.why}")
    if not found:
        say("this machine is none of the sites that are described; `lfadsrm site init NAME` describes it")
        raise SystemExit(EXIT_NOTHING)


@site.command(context_settings=_CONTEXT)
@click.argument("name", metavar="NAME")
@click.option(
    "--from",
    "base",
    metavar="SITE",
    shell_complete=complete_sites,
    help="Extend this site; otherwise the scheduler is asked.",
)
@click.option("--here", is_flag=True, help="Write into site_configs of the project, not of the user.")
@_time_limit_option
@_project_option
@json_option
def init(
    name: str, base: str | None, here: bool, time_limit: float, project: Path | None, as_json: bool
) -> None:
    """Write a commented site file NAME.toml; one that is there is never changed.

    If a site NAME is described already, or with --from, the file says only what is your own (account,
    environment, partitions of your group) and is laid over it. Otherwise it is made from what the scheduler
    of this machine says of its partitions and limits.

    \b
    Examples:
      lfadsrm site init ourcluster
      lfadsrm site init perlmutter
      lfadsrm site init ours --from generic-pbspro --here

    \b
    Exit codes: 0 written; 2 there is such a file already, or the name cannot be one; 3 SITE is
    invalid; 6 no scheduler answers here.
    """
    from lfadsrm_hpc.schedulers.sites.layers import FOLDER, site_folders, site_names
    from lfadsrm_hpc.schedulers.sites.loading import load_site
    from lfadsrm_hpc.schedulers.sites.writing import overlay_text

    check_name(name, "site")
    place = _project(project)
    with site_folders(place) as folders:
        known = name in site_names(folders)
    path = (place if here else user_folder()) / FOLDER / f"{name}.toml"
    if path.exists():
        raise UsageError("there is such a file already", where=path, hint="edit it, or take another name")
    day = time.strftime("%Y-%m-%d")
    if base is not None or known:
        text = overlay_text(name, load_site(base or name, project=place).site, day)
    else:
        text = _from_scheduler(name, time_limit, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not publish_new(path, text.encode()):
        raise UsageError("there is such a file already", where=path)
    if here:
        with contextlib.suppress(ConfigError):  # it is this user's own
            remember(file_key(path), text.encode(), "a site file")
    must = _to_mend(name, project=place)
    if must is not None:
        say(f"warning: {path} must be edited first: {must}")
    if as_json:
        print_json({"site": name, "file": path, "to_mend": must})
    else:
        click.echo(path)
    say(f"Next: edit it, then: lfadsrm site check {shell_quote(name)} --live")


def _from_scheduler(name: str, time_limit: float, day: str) -> str:
    from lfadsrm_hpc.schedulers.sites.detection import host_names
    from lfadsrm_hpc.schedulers.sites.live import find_scheduler
    from lfadsrm_hpc.schedulers.sites.writing import live_text

    return live_text(name, find_scheduler(time_limit), host_names()[-1], day)


def _to_mend(name: str, project: Path) -> str | None:
    """Return why a site cannot be used as it stands; None: it can."""
    from lfadsrm_hpc.schedulers.sites.loading import load_site

    try:
        load_site(name, project=project)
    except ConfigError as error:
        return error.what
    return None


def _project(given: Path | None) -> Path:
    from lfadsrm_hpc.schedulers.sites.loading import project_of

    return given.absolute() if given is not None else project_of(Path.cwd() / "collection")
