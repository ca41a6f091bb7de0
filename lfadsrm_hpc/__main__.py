"""`python -m lfadsrm_hpc` is `lfadsrm`: scripts use it, so that they do not depend on PATH."""

from lfadsrm_hpc.cli.main import main

if __name__ == "__main__":
    main()
