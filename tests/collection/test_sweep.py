"""Sweeps: table tests of pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.sweep import choice, conditional, grid, log, random_, uniform, zip_
from lfadsrm_hpc.errors import ParamsError

BASE = RunParams(co_dim=0)


def pairs(found: list[RunParams], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(p, name) for name in names) for p in found]


def test_generate_sweep_is_a_list_of_copies() -> None:
    found = BASE.generate_sweep("factors_dim", [2, 4, 6, 8])
    assert isinstance(found, list)
    assert pairs(found, "factors_dim", "co_dim") == [(2, 0), (4, 0), (6, 0), (8, 0)]
    assert BASE.factors_dim == 50


def test_all_ways_to_say_a_grid() -> None:
    expected = [(32, 0), (32, 2), (64, 0), (64, 2)]
    names = ("gen_dim", "co_dim")
    assert pairs(BASE.generate_sweep("gen_dim", [32, 64], "co_dim", [0, 2]), *names) == expected
    assert pairs(BASE.generate_sweep(gen_dim=[32, 64], co_dim=[0, 2]), *names) == expected
    assert pairs(BASE.generate_sweep("c_gen_dim", [32, 64], c_co_dim=np.array([0, 2])), *names) == expected
    assert pairs(grid(BASE, gen_dim=(32, 64), co_dim=range(0, 4, 2)), *names) == expected


def test_zip() -> None:
    found = BASE.generate_sweep("gen_dim", [32, 64], "con_dim", [16, 8], mode="zip")
    assert pairs(found, "gen_dim", "con_dim") == [(32, 16), (64, 8)]
    assert pairs(zip_(BASE, gen_dim=[32, 64]), "gen_dim") == [(32,), (64,)]
    with pytest.raises(ParamsError, match="gen_dim has 2, con_dim has 1"):
        zip_(BASE, gen_dim=[32, 64], con_dim=[16])


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("factor_dim", [2]), {}, "did you mean 'factors_dim'"),
        ((), {"factor_dim": [2]}, "did you mean 'factors_dim'"),
        (("factors_dim",), {}, "names and lists in turn"),
        (([2], "factors_dim"), {}, "names and lists in turn"),
        (("factors_dim", 2), {}, "must be a list"),
        (("output_dist", "poisson"), {}, "must be a list"),
        (("factors_dim", []), {}, "empty"),
        ((), {}, "at least one name"),
        (("factors_dim", [2], "factors_dim", [4]), {}, "twice"),
        (("factors_dim", [2]), {"factors_dim": [4]}, "twice"),
        (("factors_dim", [2]), {"c_factors_dim": [4]}, "twice"),
        (("factors_dim", [2, 0]), {}, "factors_dim = 0"),
        (("factors_dim", [2]), {"mode": "random"}, "no sweep mode 'random'"),
    ],
)
def test_wrong_sweeps_are_named(arguments: tuple[Any, ...], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        BASE.generate_sweep(*arguments, **keywords)


def test_random_is_seeded_and_in_range() -> None:
    draws = {
        "l2_gen_scale": log(1.0, 1e4),
        "keep_prob": uniform(0.5, 1.0),
        "co_dim": choice(0, 2),
        "c_gen_dim": log(32, 128),
        "ic_dim": [8, 16],
    }
    found = random_(BASE, 200, seed=3, **draws)
    assert found == random_(BASE, 200, seed=3, **draws)
    assert found != random_(BASE, 200, seed=4, **draws)
    assert len({p.param_hash for p in found}) == 200
    assert all(1 <= p.l2_gen_scale <= 1e4 and 0.5 <= p.keep_prob <= 1 for p in found)
    assert {p.co_dim for p in found} == {0, 2}
    assert {p.ic_dim for p in found} == {8, 16}
    assert all(isinstance(p.gen_dim, int) and 32 <= p.gen_dim <= 128 for p in found)
    # even in the logarithm: half of the draws below the geometric mean
    below = sum(p.l2_gen_scale < 100 for p in found)
    assert 70 < below < 130


def test_random_columns_do_not_disturb_each_other() -> None:
    alone = random_(BASE, 5, seed=1, keep_prob=uniform(0.5, 1))
    beside = random_(BASE, 5, seed=1, l2_gen_scale=log(1, 10), c_keep_prob=uniform(0.5, 1))
    assert [p.keep_prob for p in alone] == [p.keep_prob for p in beside]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: uniform(2, 1),
        lambda: log(0, 1),
        lambda: uniform(0, float("inf")),
        lambda: choice(),
        lambda: random_(BASE, 0, seed=1, keep_prob=uniform(0.5, 1)),
        lambda: random_(BASE, 1, seed=1, keep_probs=uniform(0.5, 1)),
        lambda: random_(BASE, 1, seed=1, keep_prob=[]),
    ],
)
def test_wrong_draws_are_refused(wrong: Any) -> None:
    with pytest.raises(ParamsError):
        wrong()


def test_bounds_hold_to_the_last_bit() -> None:
    assert all(p.l2_gen_scale == 0.3 for p in random_(BASE, 50, seed=0, l2_gen_scale=log(0.3, 0.3)))


def test_conditional() -> None:
    swept = grid(BASE, co_dim=[0, 2, 4])
    by_function = conditional(swept, lambda p: p.co_dim > 0, con_dim=[32, 64])
    assert pairs(by_function, "co_dim", "con_dim") == [(0, 128), (2, 32), (2, 64), (4, 32), (4, 64)]
    by_value = conditional(swept, {"c_co_dim": 2}, con_dim=[32, 64])
    assert pairs(by_value, "co_dim", "con_dim") == [(0, 128), (2, 32), (2, 64), (4, 128)]
    with pytest.raises(ParamsError, match="did you mean 'co_dim'"):
        conditional(swept, {"co_dims": 2}, con_dim=[32])
