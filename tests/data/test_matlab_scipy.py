"""Matlab files v4 to v7: nested cells, structs, texts and sparse matrices come out whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.matlab
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix, issparse

from lfadsrm_hpc.data.formats import matlab
from lfadsrm_hpc.data.formats.matlab_values import Structs


def plain(value: Any) -> Any:
    """Return what scipy loads as nested lists and dicts."""
    if issparse(value):
        return [value.shape, value.toarray().astype(complex).ravel().tolist()]
    if isinstance(value, scipy.io.matlab.MatlabFunction | scipy.io.matlab.MatlabOpaque):
        return None
    if value.dtype.names:
        items = [{name: plain(item[name]) for name in value.dtype.names} for item in value.ravel(order="F")]
        return items[0] if len(items) == 1 else items
    if value.dtype.kind == "O":
        return [value.shape, [plain(item) for item in value.ravel()]]
    if value.dtype.kind == "U":
        rows = [str(row).rstrip() for row in value.ravel()]
        return rows if len(rows) > 1 else "".join(rows)
    return [value.shape, np.asarray(value).astype(complex).ravel().tolist()]


def ours(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: ours(item) for name, item in value.items()}
    if isinstance(value, Structs):
        return [ours(item) for item in value.items]
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            return [value.shape, [ours(item) for item in value.ravel()]]
        if value.dtype.kind == "U":
            return value.tolist()
        return [value.shape, value.astype(complex).ravel().tolist()]
    return value


def same(path: Path) -> int:
    wanted = {k: v for k, v in loadmat(path, squeeze_me=False).items() if not k.startswith("__")}
    with matlab.opened(path) as file:
        for name, value in wanted.items():
            expected = plain(value)
            if name not in file.names:
                assert expected is None, f"{path.name}: {name} is lost"
                continue
            np.testing.assert_equal(ours(file.get([name])), expected, err_msg=f"{path.name}: {name}")
    return len(wanted)


shapes = st.lists(st.integers(0, 4), min_size=2, max_size=3)
numbers = st.builds(
    lambda shape, kind: (
        (np.arange(np.prod(shape)) % 7 - (3 if kind[0] in "fi" else 0)).reshape(shape).astype(kind)
    ),
    shapes,
    st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "c16"]),
)
texts = st.text(st.characters(codec="ascii", min_codepoint=33), max_size=6)
leaves = st.one_of(
    numbers,
    texts.map(lambda text: np.array(text)),
    st.builds(lambda n: csc_matrix(np.eye(3)[:, :n] * 2), st.integers(1, 3)),
    st.just(np.array([[True, False]])),
)


def cells(items: list[Any]) -> Any:
    out = np.empty((1, len(items)), dtype=object)
    out[0, :] = items
    return out


names = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(cells),
        st.dictionaries(names, inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(names, trees, min_size=1, max_size=3), st.booleans())
def test_what_scipy_writes_is_read_as_scipy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    savemat(path, content, do_compression=compressed)
    assert same(path) == len(content)


def test_version_4(tmp_path: Path) -> None:
    savemat(
        tmp_path / "a.mat", {"spikes": np.eye(2), "subject": "monkey", "s": csc_matrix(np.eye(2))}, format="4"
    )
    with matlab.opened(tmp_path / "a.mat") as file:
        assert file.get(["spikes"]).tolist() == [[1, 0], [0, 1]]
        assert file.get(["subject"]) == "monkey"
        assert file.get(["s"]).tolist() == [[1, 0], [0, 1]]
        assert file.structs() == []
