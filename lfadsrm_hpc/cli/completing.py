"""What a shell may complete: names of the collection at hand, of sites and of states.

It is asked while somebody types, so it opens what `status` opens at most, and never says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.errors import LfadsrmError

if TYPE_CHECKING:
    import click

    from lfadsrm_hpc.collection.roster import Roster

    Names = Callable[[click.Context, str], Iterable[str]]
    Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(names: Names) -> Complete:
    """Return what click asks: the names that begin as what was typed; none where they cannot be told."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            found = list(dict.fromkeys(names(ctx, incomplete)))
        except Exception:  # a traceback in the middle of a line that somebody types helps nobody
            return []
        return [name for name in found if name.startswith(incomplete)]

    return complete


def _roster(ctx: click.Context) -> Roster:
    from lfadsrm_hpc.cli.places import find_place, is_place
    from lfadsrm_hpc.collection.roster import Roster

    where = ctx.params.get("where")
    # Where the last option still lacks its value, click leaves arguments aside.
    given = [where] if where is not None else [word for word in ctx.args if is_place(Path(word))]
    return Roster.open(find_place(Path(given[0]) if given else None).collection)


def _runs(ctx: click.Context, incomplete: str) -> Iterator[str]:
    """Yield run specs, which mean a run where --match helps or there is but one, and run ids."""
    roster = _roster(ctx)
    yield from roster.specs
    yield from (entry.id for entry in roster.entries)


def _runs_and_places(ctx: click.Context, incomplete: str) -> Iterator[str]:
    """Yield the folders here too, for an argument that may be either."""
    yield from (path.name for path in Path.cwd().iterdir() if path.is_dir())
    with suppress(LfadsrmError):
        yield from _runs(ctx, incomplete)


def _specs(ctx: click.Context, incomplete: str) -> Iterable[str]:
    return _roster(ctx).specs


def _swept(ctx: click.Context, incomplete: str) -> list[str]:
    roster = _roster(ctx)
    return roster.varying(roster.entries)


def _conditions(ctx: click.Context, incomplete: str) -> Iterator[str]:
    """Yield NAME= of hyperparameters that differ, or NAME=VALUE once a name stands there."""
    from lfadsrm_hpc.collection.words import value_text

    roster = _roster(ctx)
    name, equals, _ = incomplete.partition("=")
    if not equals:
        yield from (f"{one}=" for one in roster.varying(roster.entries))
        return
    for params in roster.own:
        yield f"{name}={value_text(roster.values(params)[name])}"


def _states(ctx: click.Context, incomplete: str) -> list[str]:
    from lfadsrm_hpc.manifest.states import RunState

    names = [state.value for state in RunState]
    return [name.lower() for name in names] if incomplete.islower() else names


def _sites(ctx: click.Context, incomplete: str) -> list[str]:
    from lfadsrm_hpc.schedulers.sites.layers import site_folders, site_names
    from lfadsrm_hpc.schedulers.sites.loading import project_of

    with site_folders(project_of(Path.cwd() / "collection")) as folders:
        return sorted(site_names(folders))


def _submissions(ctx: click.Context, incomplete: str) -> list[str]:
    return [one.path.name for one in _roster(ctx).layout.submissions()]


def _kinds(ctx: click.Context, incomplete: str) -> Iterable[str]:
    from lfadsrm_hpc.collection.cleaning import KINDS

    return KINDS


complete_runs = _completing(_runs)
complete_runs_and_places = _completing(_runs_and_places)
complete_specs = _completing(_specs)
complete_swept = _completing(_swept)
complete_conditions = _completing(_conditions)
complete_states = _completing(_states)
complete_sites = _completing(_sites)
complete_kinds = _completing(_kinds)
complete_submissions = _completing(_submissions)
