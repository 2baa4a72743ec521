"""Batch format: round trip, reproducible bytes, one-line errors for damaged files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from xtalfill.core.batch import (
    FORMAT,
    STATUSES,
    VERSION,
    Batch,
    Stage,
    content_sha256,
    read_batch,
    seal,
    write_batch,
)
from xtalfill.core.errors import InputError

FILES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make_batch(sizes: list[int], *, seed: int = 0, stages: int = 1) -> Batch:
    """Return a batch with one candidate for each of `sizes` atoms, the last atom missing."""
    rng = np.random.default_rng(seed)
    n_systems, n_atoms = len(sizes), sum(sizes)
    is_host = np.concatenate([np.arange(size) < size - 1 for size in sizes])
    positions = rng.normal(size=(n_atoms, 3))
    positions[~is_host] = np.nan
    batch = Batch(
        positions=positions,
        atomic_numbers=rng.integers(1, 90, n_atoms),
        system_idx=np.repeat(np.arange(n_systems), sizes),
        is_host=is_host,
        cell=rng.normal(size=(n_systems, 3, 3)),
        id=np.array([f"x{i}" for i in range(n_systems)], dtype=object),
        method=np.array(["host"] * n_systems, dtype=object),
        sample=np.arange(n_systems),
        seed=np.full(n_systems, 42),
        status=np.array(["ok"] * n_systems, dtype=object),
        message=np.array([""] * n_systems, dtype=object),
    )
    for number in range(stages):
        arrays = {
            "positions": rng.normal(size=(n_atoms, 3)),
            "energy": rng.normal(size=n_systems),
            "converged": rng.random(n_systems) < 0.5,
            "note": np.array(["Å – σ"] * n_systems, dtype=object),
        }
        batch.stages[f"stage_{number}"] = Stage(arrays, {"fmax": 0.05, "who": ["a", None, True]})
    return batch


def assert_equal(first: Batch, second: Batch) -> None:
    """Check that two batches agree in all bits, types and orders."""
    for name in ("positions", "atomic_numbers", "system_idx", "is_host", "cell", "sample", "seed"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name
    for name in ("id", "method", "status", "message"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist()
    assert list(first.stages) == list(second.stages)
    for name, stage in first.stages.items():
        other = second.stages[name]
        assert stage.attrs == other.attrs
        assert stage.arrays.keys() == other.arrays.keys()
        for key, array in stage.arrays.items():
            assert array.dtype == other.arrays[key].dtype
            same = array.tolist() if array.dtype == object else array.tobytes()
            found = other.arrays[key]
            assert same == (found.tolist() if found.dtype == object else found.tobytes())


# --- round trip ----------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Strategy for valid batches."""
    sizes = draw(st.lists(st.integers(0, 5), max_size=5))
    n_systems, n_atoms = len(sizes), sum(sizes)
    is_host = draw(npst.arrays(bool, n_atoms))
    positions = draw(npst.arrays(np.float64, (n_atoms, 3)))
    positions[is_host] = np.nan_to_num(positions[is_host])
    finite = st.floats(allow_nan=False, allow_infinity=False)
    texts = st.lists(TEXT, min_size=n_systems, max_size=n_systems)
    integers = npst.arrays(np.int32, n_systems)
    batch = Batch(
        positions=positions,
        atomic_numbers=draw(npst.arrays(np.int32, n_atoms)),
        system_idx=np.repeat(np.arange(n_systems), sizes),
        is_host=is_host,
        cell=draw(npst.arrays(np.float64, (n_systems, 3, 3), elements=finite)),
        id=np.array([*draw(texts), None], dtype=object)[:-1],
        method=np.array([*draw(texts), None], dtype=object)[:-1],
        sample=np.arange(n_systems),
        seed=draw(npst.arrays(np.int64, n_systems)),
        status=np.array([draw(st.sampled_from(STATUSES)) for _ in sizes], dtype=object),
        message=np.array([*draw(texts), None], dtype=object)[:-1],
    )
    names = st.text("abcdef_", min_size=1, max_size=6).filter(lambda name: name not in vars(batch))
    for name in draw(st.lists(names, unique=True, max_size=3)):
        batch.stages[name] = Stage(
            {
                "positions": draw(npst.arrays(np.float64, (n_atoms, 3))),
                "count": draw(integers),
                "remark": np.array([*draw(texts), None], dtype=object)[:-1],
            },
            draw(st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT)),
        )
    return batch


@FILES
@given(batch=batches())
def test_round_trip(tmp_path: Path, batch: Batch) -> None:
    write_batch(batch, tmp_path / "b.h5")
    assert_equal(batch, read_batch(tmp_path / "b.h5"))


@given(batch=batches(), data=st.data())
def test_subset_keeps_its_systems(batch: Batch, data: st.DataObject) -> None:
    every = list(range(batch.n_systems))
    assert content_sha256(batch.subset(every)) == content_sha256(batch)
    chosen = sorted(data.draw(st.sets(st.sampled_from(every)))) if every else []
    subset = batch.subset(chosen)
    subset.validate()
    assert subset.id.tolist() == batch.id[chosen].tolist()
    for new, old in enumerate(chosen):
        here, there = subset.atoms_slice(new), batch.atoms_slice(old)
        assert subset.positions[here].tobytes() == batch.positions[there].tobytes()
        for name, stage in batch.stages.items():
            ours = subset.stages[name].arrays
            assert ours["positions"][here].tobytes() == stage.arrays["positions"][there].tobytes()
            assert ours["count"][new] == stage.arrays["count"][old]
            assert ours["remark"][new] == stage.arrays["remark"][old]


@FILES
@given(batch=batches())
def test_rewriting_gives_the_same_bytes(tmp_path: Path, batch: Batch) -> None:
    write_batch(batch, tmp_path / "a.h5")
    write_batch(read_batch(tmp_path / "a.h5"), tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    here = Path(__file__)
    code = (
        f"import sys; sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[2] / 'bin')!r}]\n"
        "from test_batch import make_batch\n"
        "from xtalfill.core.batch import write_batch\n"
        "write_batch(make_batch([3, 4], stages=2), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "there.h5"], check=True)
    write_batch(make_batch([3, 4], stages=2), tmp_path / "here.h5")
    assert (tmp_path / "here.h5").read_bytes() == (tmp_path / "there.h5").read_bytes()


def test_adding_a_stage_keeps_the_history(tmp_path: Path) -> None:
    write_batch(make_batch([3, 4]), tmp_path / "a.h5")
    batch = read_batch(tmp_path / "a.h5")
    batch.stages["later"] = Stage({"energy": np.array([1.0, 2.0])}, {"x": 1})
    write_batch(batch, tmp_path / "a.h5")
    after = read_batch(tmp_path / "a.h5")
    assert list(after.stages) == ["stage_0", "later"]
    assert_equal(batch, after)
    assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]


def test_units_and_version_are_in_the_file(tmp_path: Path) -> None:
    write_batch(make_batch([3]), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["positions"].attrs["units"] == "angstrom"
        assert file["stage_0/energy"].attrs["units"] == "eV"
    assert (tmp_path / "a.h5").read_bytes().startswith(f"{FORMAT} {VERSION} ".encode())


# --- damage --------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    """Return the error message for a file."""
    with pytest.raises(InputError) as caught:
        read_batch(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return a batch file with two systems and a stage."""
    write_batch(make_batch([3, 4]), tmp_path / "b.h5")
    return tmp_path / "b.h5"


def test_missing_file(tmp_path: Path) -> None:
    assert "not a readable batch" in refusal(tmp_path / "absent.h5")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n", b"\0" * 4096])
def test_file_of_another_format(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.h5").write_bytes(content)
    assert f"not an {FORMAT} file" in refusal(tmp_path / "b.h5")


def test_other_hdf5_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = [1, 2, 3]
    assert f"not an {FORMAT} file" in refusal(tmp_path / "b.h5")


def test_other_version(written: Path) -> None:
    content = written.read_bytes()
    written.write_bytes(
        content.replace(f"{FORMAT} {VERSION}".encode(), f"{FORMAT} {VERSION + 1}".encode())
    )
    assert (
        f"version {VERSION + 1} is not supported (this release reads version {VERSION})"
        in refusal(written)
    )


def test_file_without_list_of_stages(written: Path) -> None:
    with h5py.File(written, "a") as file:
        del file.attrs["stages"]
    seal(written)
    assert "not a readable batch" in refusal(written)


@pytest.mark.parametrize("name", ["positions", "id", "cell", "stage_0"])
def test_file_without_an_array(written: Path, name: str) -> None:
    with h5py.File(written, "a") as file:
        del file[name]
    seal(written)
    assert "not a readable batch" in refusal(written)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 7), ("id", "other"), ("message", "edited"), ("stage_0/energy", 0.0)],
)
def test_edited_content_fails_the_checksum(written: Path, name: str, value: Any) -> None:
    with h5py.File(written, "a") as file:
        file[name][0] = value
    assert "checksum" in refusal(written)


@pytest.mark.parametrize("attrs", ["{}", '{"fmax": 0.06, "who": ["a", null, true]}'])
def test_edited_parameters_fail_the_checksum(written: Path, attrs: str) -> None:
    with h5py.File(written, "a") as file:
        file["stage_0"].attrs["parameters"] = attrs
    assert "checksum" in refusal(written)


@FILES
@given(part=st.floats(0, 1, exclude_max=True))
def test_truncated_file(tmp_path: Path, part: float) -> None:
    write_batch(make_batch([3, 4]), tmp_path / "whole.h5")
    content = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "b.h5").write_bytes(content[: int(part * len(content))])
    refusal(tmp_path / "b.h5")


@FILES
@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bits_are_detected_or_harmless(tmp_path: Path, part: float, bit: int) -> None:
    batch = make_batch([3, 4])
    write_batch(batch, tmp_path / "b.h5")
    content = bytearray((tmp_path / "b.h5").read_bytes())
    content[int(part * len(content))] ^= 1 << bit
    (tmp_path / "b.h5").write_bytes(content)
    try:
        found = read_batch(tmp_path / "b.h5")
    except InputError as error:
        message = str(error)
    else:
        # The bit is in space that HDF5 does not use: the content must be unchanged.
        assert_equal(batch, found)
        return
    assert "\n" not in message


def test_changes_of_data_are_detected(written: Path) -> None:
    with h5py.File(written) as file:
        offset, size = file["positions"].id.get_offset(), file["positions"].id.get_storage_size()
    content = written.read_bytes()
    for position in range(offset, offset + size, 5):
        damaged = bytearray(content)
        damaged[position] ^= 1
        written.write_bytes(damaged)
        refusal(written)


# --- inconsistent content ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("positions", np.zeros((6, 3)), "positions does not have shape"),
        ("cell", np.full((2, 3, 3), np.inf), "a cell is not finite"),
        ("positions", np.full((7, 3), np.nan), "a host position is not finite"),
        ("system_idx", np.array([0, 0, 1, 1, 1, 1, 0]), "not ascending"),
        ("system_idx", np.array([0, 0, 0, 1, 1, 1, 2]), "not ascending"),
        ("status", np.array(["ok", "lost"], dtype=object), "a status is not one of"),
        ("method", np.array(["host"], dtype=object), "method does not have shape"),
    ],
)
def test_inconsistent_batch_is_not_written(
    tmp_path: Path, name: str, value: np.ndarray, reason: str
) -> None:
    batch = make_batch([3, 4])
    setattr(batch, name, value)
    with pytest.raises(InputError, match=reason):
        write_batch(batch, tmp_path / "b.h5")
    assert not list(tmp_path.iterdir())


def test_duplicate_candidates_are_refused() -> None:
    batch = make_batch([3, 4])
    batch.id[1], batch.sample[1] = batch.id[0], batch.sample[0]
    with pytest.raises(InputError, match="share id, method and sample"):
        batch.validate()


def test_stage_of_wrong_size_is_refused() -> None:
    batch = make_batch([3, 4])
    batch.stages["s"] = Stage({"energy": np.zeros(3)})
    with pytest.raises(InputError, match="s/energy has 3 rows"):
        batch.validate()


def test_failed_write_keeps_the_old_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()

    def full(*args: Any, **options: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="no space"):
        write_batch(make_batch([5]), written)
    assert written.read_bytes() == before
    assert [item.name for item in written.parent.iterdir()] == ["b.h5"]


# --- views ---------------------------------------------------------------------------------


def test_slices_and_atoms(tmp_path: Path) -> None:
    batch = make_batch([3, 0, 4])
    assert [batch.atoms_slice(i) for i in range(3)] == [slice(0, 3), slice(3, 3), slice(3, 7)]
    host = batch.to_ase(2, host_only=True)
    assert isinstance(host, Atoms)
    assert np.array_equal(host.positions, batch.positions[3:6])
    assert np.array_equal(host.cell, batch.cell[2])
    assert host.pbc.all()
    filled = batch.to_ase(2, stage="stage_0")
    assert np.array_equal(filled.positions, batch.stages["stage_0"].arrays["positions"][3:7])


def test_groups_are_ordered_and_without_references() -> None:
    batch = make_batch([2] * 6)
    batch.id[:] = ["b", "a", "b", "b", "a", "b"]
    batch.method[:] = ["random", "host", "host", "host", "reference", "reference"]
    batch.sample[:] = [0, 0, 1, 0, 0, 0]
    assert batch.groups() == {"a": [1], "b": [3, 2, 0]}
    assert (batch.reference_of("a"), batch.reference_of("b")) == (4, 5)
    assert batch.reference_of("c") is None


def test_fail_message_is_one_line() -> None:
    batch = make_batch([2])
    batch.fail(0, "relax_sites: first\n  second\tthird ")
    assert (batch.status[0], batch.message[0]) == ("failed", "relax_sites: first second third")


def test_checksum_depends_on_the_content() -> None:
    assert content_sha256(make_batch([3, 4])) == content_sha256(make_batch([3, 4]))
    assert content_sha256(make_batch([3, 4])) != content_sha256(make_batch([3, 4], seed=1))
    other = make_batch([3, 4])
    other.stages["stage_0"].attrs["fmax"] = 0.06
    assert content_sha256(other) != content_sha256(make_batch([3, 4]))


def test_message_names_the_task_folder(tmp_path: Path) -> None:
    task = tmp_path / "work" / "3f" / "0a1b"
    (task / "batches").mkdir(parents=True)
    (task / ".command.run").touch()
    path = task / "batches" / "batch_1f00.h5"
    write_batch(make_batch([3]), path)
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    staged = tmp_path / "input" / path.name
    staged.parent.mkdir()
    staged.symlink_to(path)
    assert f"damaged; remove the folder of the task that wrote it (rm -r '{task}')" in refusal(
        staged
    )
    (task / ".command.run").unlink()
    assert refusal(path).endswith("damaged; rerun the stage that wrote it")


@pytest.mark.parametrize("wrapped", [False, True])
def test_full_disk_gives_one_line(small_disk: Path, repository: Path, wrapped: bool) -> None:
    write_batch(make_batch([60] * 40, stages=0), small_disk.parent / "b.h5")
    code = (
        "from xtalfill.core.batch import read_batch, write_batch\n"
        "from xtalfill.core.errors import run_command\n"
        f"batch = read_batch({str(small_disk.parent / 'b.h5')!r})\n"
        "def main():\n"
        "    try: write_batch(batch, 'c.h5')\n"
        f"    except OSError as error: raise {'RuntimeError from error' if wrapped else ''}\n"
        "run_command(main)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=small_disk,
        env={"PYTHONPATH": str(repository / "bin"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 74, result.stderr
    line = f"ERROR: {small_disk}: No space left on device; free space, then run with -resume\n"
    assert result.stderr == line
    assert list(small_disk.iterdir()) == []
