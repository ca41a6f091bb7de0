"""Draw the pictures of docs/plots.md again, with the code of the page itself, from runs that are made up.

python docs/images/draw.py            then look at them, and commit
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/results")]
MOST_BYTES = 60_000


@contextlib.contextmanager
def drawn() -> Iterator[Path]:
    """Run the Python of the page in a folder of its own; yield the folder, where the pictures lie then."""
    from made_up_runs import build

    from lfadsrm_hpc.results import plots

    code = re.findall(r"^```python\n(.*?)^```$", (HERE.parent / "plots.md").read_text(), re.M | re.S)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, plots.style("light"):
        build(Path(folder) / "runs")
        os.chdir(folder)
        try:
            names: dict[str, Any] = {"__name__": "plots"}
            for block in code:
                exec(compile(block, "docs/plots.md", "exec"), names)
        finally:
            os.chdir(before)
        yield Path(folder)


def small(path: Path, to: Path) -> int:
    """Copy a picture with few colours, as many as fit; return its size."""
    from PIL import Image

    picture = Image.open(path)
    picture.load()
    for colors in (256, 128, 64, 32):
        picture.quantize(colors, method=Image.Quantize.FASTOCTREE).save(to, optimize=True)
        if to.stat().st_size < MOST_BYTES:
            break
    return to.stat().st_size


def main() -> None:
    with drawn() as folder:
        for path in sorted(folder.glob("*.png")):
            size = small(path, HERE / path.name)
            print(f"{HERE / path.name}  {size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
