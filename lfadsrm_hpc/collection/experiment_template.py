"""The commented experiment.toml that `lfadsrm init` writes."""

from __future__ import annotations

import json

_TEMPLATE = """\
# An experiment of lfadsrm_hpc. `lfadsrm prepare` builds the run collection from it, `lfadsrm run` trains it.
# Paths start at the folder of this file.

[collection]
name = "NAME"                # the folder <root>/<name> holds everything that is made
root = "runs"
# comment = "what this is about"

[datasets]
path = "datasets"            # one file a recording session: .h5, .nc, .npz, .mat, .nwb, ...
files = ["*"]                # names or patterns, in this order
# min_trials = 50            # leave smaller sessions out
# options = { bin_ms = 5 }   # how to read them, where the files do not say it: docs/readers.md
# silence = ["rare_neurons"]  # warnings of `prepare` that are not wanted, by the names at their ends
# alignment = "alignment"    # stitched runs: align by the files of the same names in there, not by these

[params]                     # hyperparameters; what is not named keeps its default (`lfadsrm show --params`)
spike_bin_ms = 10
co_dim = 0                   # inferred inputs; 0: none
batch_size = 64
gen_dim = 64
ic_enc_dim = 64
learning_rate_stop = 1e-3

[sweep]                      # every combination of these
factors_dim = [4, 8]

[run_specs]
singles = true               # each session alone ...
stitched = "all"             # ... and all of them together, under this name; leave out for none
# specs = [{ name = "two_days", datasets = ["day1", "day2"] }]

[queue]                      # the local queue (`lfadsrm run`)
# slots = 2                  # runs at a time without a GPU

[cluster]                    # `lfadsrm submit`; `lfadsrm site list` shows the sites that are known
# site = "perlmutter"        # where this is not to be recognised by itself
# walltime = "4:00:00"       # of one run; it goes on from its checkpoint with `lfadsrm retry`
# partition = "gpu"
# account = "m1234"
# max_parallel = 16          # runs at a time
# set = ["stopping.warning=10m"]    # any other key of the site
"""


def template(name: str) -> str:
    """Return a commented `experiment.toml` for a collection of this name."""
    # A JSON text is a TOML text, whatever the name holds, as long as no character is escaped by two halves.
    return _TEMPLATE.replace('"NAME"', json.dumps(name, ensure_ascii=False), 1)
