"""Jinja templates of the scripts that lfadsrm_hpc writes (see `lfadsrm_hpc.rendering`)."""
