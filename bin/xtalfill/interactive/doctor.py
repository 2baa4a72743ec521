"""What this machine has of what xtalfill uses, and what each missing thing would cost to get."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xtalfill.core.checksums import SUMS, check_file
from xtalfill.core.errors import ConfigError
from xtalfill.core.files import BUNDLED_POTENTIALS, PROJECT, SSSP, WEIGHTS
from xtalfill.dft.pseudos import PseudoTable, check_files, read_table
from xtalfill.registry.methods import METHODS

PSEUDOS = Path("/usr/share/espresso/pseudo")  # of Debian's quantum-espresso-data-sssp
MEMORY_GB, DISK_GB = 8, 10  # of the README
_IN_CHECKOUT = (PROJECT / "Makefile").is_file()
_RESTORE = "restore the file with git checkout" if _IN_CHECKOUT else "install xtalfill again"
_PACKAGES = "run make setup" if _IN_CHECKOUT else "install xtalfill again (about 6 GB with torch)"
_NEXTFLOW = "run make setup in a checkout of xtalfill (40 MB of Java libraries)"
_GEMNET_KINDS = ("td", "pos", "mattergen")  # of weights
_SHOWN = 8  # missing pseudopotentials by name


@dataclass(frozen=True)
class Finding:
    """One thing that xtalfill uses.

    Attributes:
        name: What it is.
        found: What is here, e.g. a version; empty if it is missing.
        use: What needs it.
        remedy: How to get it.
        essential: Whether the defaults need it.
    """

    name: str
    found: str
    use: str
    remedy: str
    essential: bool = False

    def __str__(self) -> str:
        if self.found:
            return f"ok       {self.name}: {self.found}"
        return f"missing  {self.name}: needed by {self.use}; {self.remedy}"


def examine(*, pseudo_dir: Path = PSEUDOS) -> Iterator[Finding]:
    """Yield a finding for each thing that xtalfill uses.

    Args:
        pseudo_dir: Folder of the pseudopotentials.
    """
    python = platform.python_version() if sys.version_info >= (3, 11) else ""
    yield Finding("Python", python, "everything", "install Python 3.11 or newer", essential=True)
    for package, use in {"torch": "all models", "numba": "the kernels of the potentials"}.items():
        yield Finding(package, _version(package), use, _PACKAGES, essential=True)
    yield Finding(
        "GPU", _gpu(), "--device cuda only", "use the CPU, or a node with a GPU and its driver"
    )
    yield from _models()
    yield _mattergen()
    yield Finding(
        "pw.x", _pw_version(), "--validate", "Debian: apt-get install quantum-espresso (48 MB)"
    )
    yield _pseudopotentials(pseudo_dir)
    yield from _programs()
    yield from _room()


def _models() -> Iterator[Finding]:
    """Yield the bundled weights and potentials, compared with their checksums."""
    for folder, use in ((WEIGHTS, "--method"), (BUNDLED_POTENTIALS, "--mlip")):
        sums = folder / SUMS
        lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
        if not lines:
            yield Finding(f"{folder.name}/{SUMS}", "", use, _RESTORE, essential=True)
        for name in sorted(line.split("  ")[1] for line in lines):
            essential = name == "host.pt"
            short = name.split(".")[0]
            yield _model(folder / name, f"{use} {short}", essential=essential)
    sevenn = importlib.util.find_spec("sevenn")
    folder = Path((sevenn.origin if sevenn else None) or "none").parent
    files = sorted(folder.glob("pretrained_potentials/SevenNet_0_*/*.pth"))
    found = f"{files[0].name} in sevenn {_version('sevenn')}" if files else ""
    yield Finding("potential 7net-0", found, "--mlip 7net-0", _PACKAGES, essential=True)


def _model(path: Path, use: str, *, essential: bool) -> Finding:
    name = f"{path.parent.name}/{path.name}"
    try:
        check_file(path)
    except ConfigError as error:
        return Finding(name, "", use, f"{error}; {_RESTORE}", essential=essential)
    return Finding(name, "sha256 agrees", use, _RESTORE, essential=essential)


def _mattergen() -> Finding:
    """Return whether the package with the GemNet of four methods is here."""
    from xtalfill.models.mattergen_compat import MATTERGEN_VERSION

    names = [name for name, one in METHODS.items() if one.weights in _GEMNET_KINDS]
    remedy = f"pip install --no-deps mattergen=={MATTERGEN_VERSION} (0.3 MB)"
    return Finding("mattergen", _version("mattergen"), f"--method {', '.join(names)}", remedy)


def _pseudopotentials(folder: Path) -> Finding:
    """Compare the files of SSSP with the md5 of its table."""
    table = read_table(SSSP)
    lost = [symbol for symbol in sorted(table) if not _is_sound(table, folder, symbol)]
    name, use = "SSSP 1.3.0 PBE efficiency", "--validate and --method potential"
    remedy = "Debian 13: apt-get install quantum-espresso-data-sssp (43 MB), or --pseudo_dir"
    if not lost:
        return Finding(name, f"{len(table)} files in {folder}, md5 agrees", use, remedy)
    some = ", ".join(lost[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
    what = f"{len(lost)} of {len(table)} files are missing in {folder} or differ ({some})"
    return Finding(name, "", use, f"{what}; {remedy}")


def _is_sound(table: PseudoTable, folder: Path, symbol: str) -> bool:
    try:
        return bool(check_files(table, folder, [symbol]))
    except ConfigError:
        return False


def _programs() -> Iterator[Finding]:
    """Yield the programs around the pipeline."""
    tools = str(PROJECT / ".tools" / "bin")
    nextflow = shutil.which("nextflow") or shutil.which("nextflow", path=tools)
    run = "the pipeline (not by xtalfill restore)"
    yield Finding("Nextflow", nextflow or "", run, _NEXTFLOW)
    java = _first_line(["java", "-version"], r'version "([^"]+)"')
    yield Finding(
        "Java", java, "Nextflow", "Debian: apt-get install openjdk-17-jre-headless (44 MB)"
    )
    apptainer = _first_line(["apptainer", "--version"], r"(\d[\w.-]*)")
    yield Finding("Apptainer", apptainer, "-profile apptainer", "ask the administrator of the site")
    slurm = _first_line(["sbatch", "--version"], r"(\d[\w.-]*)")
    yield Finding("Slurm", slurm, "-profile slurm", "use a login node of a cluster")


def _room() -> Iterator[Finding]:
    """Yield free memory and disk; too little counts as missing."""
    gigabytes = _free_memory() / 1e9
    enough = f"{gigabytes:.1f} GB free" if gigabytes >= MEMORY_GB else ""
    yield Finding(
        "memory", enough, "large cells", f"{gigabytes:.1f} GB are free, {MEMORY_GB} are advised"
    )
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = f"{free:.0f} GB free in {Path.cwd()}" if free >= DISK_GB else ""
    remedy = f"{free:.1f} GB are free in {Path.cwd()}, {DISK_GB} are advised"
    yield Finding("disk", enough, "installation and runs", remedy)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return ""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def _pw_version() -> str:
    # pw.x has no option for its version: it prints it before it reads its input.
    with tempfile.TemporaryDirectory() as folder:
        return _first_line(["pw.x"], r"PWSCF v\.?(\S+)", folder=folder)


def _first_line(command: list[str], pattern: str, *, folder: str | None = None) -> str:
    """Return what a pattern finds in the output of a program; empty if there is none."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - the caller's constants
            [program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else f"{program} (version unknown)"


def _free_memory() -> float:
    """Return the available memory in bytes."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return 1024.0 * int(match[1]) if match else 0.0
