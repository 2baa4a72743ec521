"""Compile a packaged nequip model for this machine and check the result.

A compiled model depends on the type of machine and the torch version, and not every machine can
compile one. A failure is therefore not an error: RELAX then uses the eager model.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase.data import covalent_radii

from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.relax.interface import Evaluation, EvaluationError, MemoryShortageError, Potential
from xtalfill.relax.potentials import load_potential

# Compiled and eager models sum in different order; far above the float32 rounding error.
ENERGY_TOLERANCE = 1e-4  # eV per atom
FORCE_TOLERANCE = 1e-3  # relative to the largest force
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class CompileSettings:
    """The parameter of the stage COMPILE_POTENTIAL.

    Attributes:
        device: Where the compiled model will run.
    """

    device: Literal["cpu", "cuda"]


def compile_model(package: Path, compiled: Path, *, device: str) -> str:
    """Compile a packaged model for this machine and compare it with the eager model.

    Args:
        package: Packaged model, ``.nequip.zip``.
        compiled: Output file, ``.nequip.pt2``; not written if the compilation fails.
        device: "cpu" or "cuda".

    Returns:
        Why the compilation failed, in one line; empty on success.

    Raises:
        ConfigError: The package cannot be loaded.
    """
    eager = load_potential(str(package), device=device)
    problem = _nequip_compile(package, compiled, device=device)
    if not problem:
        try:
            problem = disagreement(eager, load_potential(str(compiled), device=device))
        except ConfigError as error:
            problem = str(error)
    if problem:
        compiled.unlink(missing_ok=True)
    return problem


def _nequip_compile(package: Path, compiled: Path, *, device: str) -> str:
    """Run nequip-compile, forward its output to stderr, return why it failed or ""."""
    command: list[str | Path] = [sys.executable, "-m", "nequip.scripts.compile", package, compiled]
    command += ["--mode", "aotinductor", "--target", "batch", "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    print(done.stdout, done.stderr, sep="", file=sys.stderr, flush=True)
    if done.returncode == 0 and compiled.is_file():
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    # The last line of a traceback starts with the name of the exception.
    errors = [line for line in done.stderr.splitlines() if _is_exception(line)]
    return (errors or lines or ["no output"])[-1][:300] + f" (exit {done.returncode})"


def _is_exception(line: str) -> bool:
    name = line.split(":", 1)[0]
    return name.endswith(("Error", "Exception", "Compiler")) and " " not in name


def disagreement(eager: Potential, compiled: Potential) -> str:
    """Return in one line how two potentials differ; empty if they agree.

    The compiled model was traced with a fixed batch size, so one crystal and several are tested.
    """
    some = _trial_crystals(eager.elements)
    for crystals in (some[:1], some):
        try:
            pairs = zip(eager.evaluate(crystals), compiled.evaluate(crystals), strict=True)
            apart = [_apart(*pair) for pair in pairs]
        except (EvaluationError, MemoryShortageError) as error:
            return f"the models cannot be compared on {len(crystals)} crystal(s): {error}"
        energy, force = np.max(apart, axis=0)
        if not (energy < ENERGY_TOLERANCE and force < FORCE_TOLERANCE):
            return (
                f"the compiled model differs from the eager one by {energy:.2g} eV/atom in the "
                f"energy and by {100 * force:.2g} % of the largest force"
            )
    return ""


def _apart(one: Evaluation, other: Evaluation) -> tuple[float, float]:
    """Return the energy difference, eV per atom, and the relative force difference."""
    energy = abs(one.energy - other.energy) / len(one.forces)
    largest = max(float(np.abs(one.forces).max()), 1.0)
    return energy, float(np.abs(one.forces - other.forces).max()) / largest


def _trial_crystals(elements: Iterable[int]) -> list[Crystal]:
    """Return three disordered crystals of different sizes made of supported elements."""
    generator = np.random.default_rng(_SEED)
    known = sorted(elements)
    crystals = []
    for n_atoms in (4, 6, 9):
        numbers = generator.choice(known, n_atoms)
        spacing = 2.0 * covalent_radii[numbers].max()
        grid = np.array([(0, site // 3, site % 3) for site in range(n_atoms)])
        positions = spacing * grid + generator.normal(scale=0.1, size=(n_atoms, 3))
        crystals.append(Crystal(numbers, positions, spacing * np.diag([1.0, 3.0, 3.0])))
    return crystals
