"""Which scheduler a site has, with the settings of its description."""

from __future__ import annotations

from typing import Any

import pytest

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.known import make_scheduler
from lfadsrm_hpc.schedulers.pbs.pbspro import PbsPro
from lfadsrm_hpc.schedulers.pbs.torque import Torque
from lfadsrm_hpc.schedulers.sites.site import About, Client, Site
from lfadsrm_hpc.schedulers.slurm.client import Slurm


@pytest.mark.parametrize(("name", "kind"), [("slurm", Slurm), ("pbspro", PbsPro), ("torque", Torque)])
def test_each_with_its_settings(name: str, kind: Any) -> None:
    site = Site(
        About(name="hill", scheduler=name, cluster="east"), client=Client(history="none", timeout_s=7.0)
    )
    made = make_scheduler(site)
    assert type(made) is kind
    assert (made.history, made.timeout_s) == ("none", 7.0)  # type: ignore[attr-defined]
    if name == "slurm":
        assert made.cluster == "east"  # type: ignore[attr-defined]


def test_a_site_without_one() -> None:
    with pytest.raises(ConfigError, match="'local' of site 'here' takes no jobs") as caught:
        make_scheduler(Site(About(name="here", scheduler="local")))
    assert "`lfadsrm run` works without one" in str(caught.value)
