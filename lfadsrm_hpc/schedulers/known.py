"""Which scheduler a site has."""

from __future__ import annotations

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.batch import BatchScheduler
from lfadsrm_hpc.schedulers.sites.site import SCHEDULERS, Site


def make_scheduler(site: Site) -> BatchScheduler:
    """Return the scheduler of a site, with the site's client settings.

    Raises
    ------
    ConfigError
        The site has none (local), or one that is not known.
    """
    history, timeout_s = site.client.history, site.client.timeout_s
    if site.scheduler == "slurm":
        from lfadsrm_hpc.schedulers.slurm.client import Slurm

        return Slurm(history=history, timeout_s=timeout_s, cluster=site.site.cluster)
    if site.scheduler == "pbspro":
        from lfadsrm_hpc.schedulers.pbs.pbspro import PbsPro

        return PbsPro(history=history, timeout_s=timeout_s)
    if site.scheduler == "torque":
        from lfadsrm_hpc.schedulers.pbs.torque import Torque

        return Torque(history=history, timeout_s=timeout_s)
    raise ConfigError(
        f"the scheduler {site.scheduler!r} of site {site.name!r} takes no jobs",
        hint=f"there are: {', '.join(SCHEDULERS)}; `lfadsrm run` works without one",
    )
