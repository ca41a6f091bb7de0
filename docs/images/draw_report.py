"""Take the pictures of docs/report.md again, with Chromium, from runs that are made up.

python docs/images/draw_report.py            then look at them, and commit
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/results")]

MOST_BYTES = 150_000
REASONS = {
    "suspect": "The validation cost rose by 6 % after its lowest epoch: the model is over-fitted.",
    "bad": "Rates of different conditions hardly differ: condition structure was not learned.",
}


def build(folder: Path) -> Any:
    """Make up a sweep of which most runs are complete, two have failed and two are still to come."""
    import fabricated
    import made_up_runs

    rc = made_up_runs.build(folder / "runs")
    for number, run in enumerate(rc.runs):
        rng = np.random.default_rng(number)
        few = abs(np.log2(run.params.factors_dim) - 3)
        scores = {
            "co_bps": 0.21 - 0.03 * few + 0.01 * rng.random() - 0.01 * (run.n_datasets == 1),
            "bits_per_spike": 0.3 - 0.03 * few + 0.01 * rng.random(),
            "psth_r2": 0.8 - 0.06 * few + 0.02 * rng.random(),
        }
        shown = run.params.factors_dim == 8 and run.params.l2_gen_scale == 10 and run.params.seed == 0
        if shown:
            scores["co_bps"] += 0.02
            token = run.status().claim.token  # type: ignore[union-attr]
            fabricated.write_metrics(run, token, scores, "good")
        elif number in (7, 22):
            _end(run, 1, "the cost is not finite at epoch 41")
        elif number not in (15, 31):
            verdict = "bad" if few == 2 and rng.random() < 0.5 else "suspect" if few == 1 else "good"
            reasons = [REASONS[verdict]] if verdict in REASONS else []
            fabricated.write_metrics(run, _end(run, 0, ""), scores, verdict, reasons)
    return rc


def _end(run: Any, code: int, message: str) -> str:
    from lfadsrm_hpc.manifest import store
    from lfadsrm_hpc.manifest.records import Exit, Identity

    claim = store.take_local(run.layout, Identity.local("", 0))
    store.heartbeat(run.layout, claim, epoch=80, device="NVIDIA A100")  # type: ignore[arg-type]
    end = Exit(code, "failed" if code else "done", peak_memory_mb=2143.0, message=message)
    store.publish_exit(run.layout, claim, end)  # type: ignore[arg-type]
    return str(claim.token)  # type: ignore[union-attr]


def take(folder: Path) -> None:
    """Write both pictures."""
    from browser import Browser

    page = build(folder).report(folder / "report.html").path
    parts = [folder / f"{k}.png" for k in range(5)]
    with Browser() as browser:
        tab = browser.open(page, width=1180, height=1420, after="sort=-co_bps")
        tab.value("document.querySelector('.path').textContent = '/data/ann/runs/reaching'")
        tab.picture(parts[0])
        for part, place in zip(parts[1:], ("overview", "runs", "curves", "rates"), strict=True):
            tab = browser.open(page, width=390, height=800, dark=True, after="sort=-co_bps")
            tab.value(f"document.querySelector('#{place}').scrollIntoView()")
            tab.picture(part)
    wide = Image.open(parts[0]).convert("RGB")
    _keep(wide, HERE / "report.png")
    phones = [Image.open(part).convert("RGB") for part in parts[1:]]
    beside = Image.new("RGB", (4 * 390 + 3 * 20, 800), "white")
    for k, phone in enumerate(phones):
        beside.paste(phone, (k * 410, 0))
    _keep(beside, HERE / "report_phone.png")


def _keep(picture: Image.Image, path: Path) -> None:
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, f"{path} is too large"
    print(path, path.stat().st_size)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as scratch:
        take(Path(scratch) / "reaching")
