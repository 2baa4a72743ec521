"""The methods paragraph of a report, with citations, for the stages of the run.

Each sentence has a text and the keys of its citations. All numbers come from the parameters that
the batches hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xtalfill.core.relaxations import POSITIONS, RANK, SITES
from xtalfill.registry.documentation import METHOD_TEXTS
from xtalfill.registry.methods import METHODS
from xtalfill.results.citations import Citation, citations
from xtalfill.results.sentence import potential_keys

_SAMPLER_TEXT = (
    " ({steps} noise levels, {predictor} predictor{share}, "
    "{corrector_steps} Langevin steps per level)"
)
_LIBRARY_CITATIONS = {"SSSP 1.3.0 PBE efficiency": ("prandini2018",)}
_FUNCTIONAL_CITATIONS = {"PBE": ("perdew1996",)}
_OPTIMIZERS = {"FIRE": "bitzek2006", "L-BFGS": "liu1989"}
# Methods whose weights come with xtalfill.
_BUNDLED = {"host", "td", "pos", "repaint", "mix"}


@dataclass(frozen=True)
class Sentence:
    """A sentence and the keys of its citations."""

    text: str
    keys: tuple[str, ...] = ()


def methods_paragraph(provenance: dict[str, Any], evaluation: dict[str, Any]) -> list[Sentence]:
    """Return the methods of a run, sentence by sentence.

    Args:
        provenance: Content of provenance.json.
        evaluation: Content of evaluation.json.
    """
    counts = provenance["counts"]
    sentences = [
        Sentence(
            f"{counts['structures_restored']} of {counts['structures_in']} structures were "
            f"restored with xtalfill {provenance['xtalfill']}, a Nextflow pipeline",
            ("ditommaso2017", *_engine_keys(provenance), "larsen2017", "wojdyr2022"),
        )
    ]
    if counts.get("structures_stored"):
        number = counts["structures_stored"]
        sentences.append(
            Sentence(f"{number} of them had been restored before with equal settings and weights")
        )
    if not provenance["batches"]:
        return sentences
    stages = provenance["batches"][0]["stages"]
    # A batch has no entry of method potential if all its hosts were refused.
    inpaint = [batch["stages"].get("inpaint", {}) for batch in provenance["batches"]]
    sentences += [
        _proposal(
            name, content, next((one for one in inpaint if name in one), stages.get("inpaint", {}))
        )
        for name, content in evaluation["methods"].items()
    ]
    sentences += _training(provenance, evaluation)
    if "screen" in stages:
        sentences.append(
            Sentence(
                f"Where a structure had over {stages['screen']['keep']} proposals of a method, "
                f"those of lowest energy ({stages['screen']['mlip']}, before relaxation) were "
                "relaxed, as many of each source as it has places"
            )
        )
    if SITES in stages and POSITIONS in stages:
        sentences.append(_relaxation(stages[SITES], stages[POSITIONS]))
        sentences += _spared(stages[POSITIONS])
    if RANK in stages:
        sentences.append(_ranking(stages[RANK]))
    if "select" in stages:
        sentences.append(
            Sentence(
                "The candidate of lowest energy of each structure and method was selected; "
                "pymatgen's StructureMatcher identified candidates in the same minimum",
                ("ong2013",),
            )
        )
    if "dft" in stages:
        sentences += _validation(stages["dft"], ranked_twice=RANK in stages)
    if counts["structures_with_reference"]:
        sentences += _judgement(stages.get("evaluate", {}), evaluation)
    return sentences


def _proposal(name: str, content: dict[str, Any], attrs: dict[str, Any]) -> Sentence:
    known = METHOD_TEXTS.get(name)
    text, keys = (known.report, known.citations) if known else ("proposed", ())
    if name == "potential" and name not in attrs:
        return Sentence(f"Method {name}: no calculation of a host succeeded", ())
    if name == "potential":
        pseudos, cites = _pseudopotentials(attrs[name])
        told = {"protocol": attrs[name]["protocol"]["name"], "pseudos": pseudos}
        text, keys = text.format_map(attrs[name] | told), (*keys, *cites)
    elif name in METHODS and METHODS[name].weights:
        renoised = attrs["predictor"] == "x0_renoise"
        share = f" with {attrs['renoise']:g} of each level's noise" if renoised else ""
        text = (text + _SAMPLER_TEXT).format_map({**attrs, "share": share})
    samples = content["n_samples"]
    return Sentence(f"Method {name}: {samples} candidates per structure were {text}", keys)


def _engine_keys(provenance: dict[str, Any]) -> tuple[str, ...]:
    """Return what to cite for the container engine."""
    engine = provenance["workflow"].get("container")
    return ("kurtzer2017",) if engine in ("apptainer", "singularity") else ()


def _training(provenance: dict[str, Any], evaluation: dict[str, Any]) -> list[Sentence]:
    """Return on what the bundled score models were trained, if a method used them."""
    if provenance["parameters"].get("model") or not _BUNDLED & set(evaluation["methods"]):
        return []
    text = "The bundled score models were trained on crystals of the Materials Project"
    return [Sentence(text, ("jain2013",))]


def _relaxation(sites: dict[str, Any], positions: dict[str, Any]) -> Sentence:
    mlip = str(sites["mlip"])
    return Sentence(
        f"In a fixed cell, the restored sites alone were relaxed first with the potential {mlip} "
        f"({sites['optimizer']}, largest force below {sites['fmax']} eV/Å within "
        f"{sites['max_steps']} steps), then all atoms (below {positions['fmax']} eV/Å within "
        f"{positions['max_steps']} steps); "
        "the references were relaxed in the same way",
        (*potential_keys(mlip), "batzner2022", "cohen2025", _OPTIMIZERS[sites["optimizer"]]),
    )


def _spared(positions: dict[str, Any]) -> list[Sentence]:
    """Return which candidates were dropped, merged or added, if any."""
    found = []
    if "drop_above" in positions:
        found.append(
            f"Candidates whose energy was more than {positions['drop_above']} eV/atom above the "
            "lowest one after the first relaxation were dropped and count as failures"
        )
    if "merge" in positions:
        found.append(
            f"Of candidates that the first relaxation had brought to {_same(positions['merge'])}, "
            "only one was relaxed further"
        )
    if "stop_below" in positions:
        found.append(
            "The candidates of a structure and method were relaxed five at a time, until the "
            "estimated probability that the next one would be lower than all others was below "
            f"{positions['stop_below']}"
        )
    if "rounds" in positions:
        found.append(
            f"In at most {positions['rounds']} further rounds the two lowest minima of a structure "
            "and method were moved (new noise on half of the restored sites, sites of one host "
            "atom turned about it, a site moved to the next host atom of its kind) and relaxed in "
            "the same way; what was lower than all others became a further candidate"
        )
    return [Sentence(text) for text in found]


def _same(merge: dict[str, Any]) -> str:
    """Return when two candidates are in the same minimum."""
    return (
        f"the same minimum (atoms within {merge['distance']} Å of atoms of the same element, "
        f"energies within {1000 * merge['energy_per_atom']:.0f} meV/atom)"
    )


def _ranking(rank: dict[str, Any]) -> Sentence:
    # A batch of an earlier release may lack "merge": all candidates were relaxed.
    one = f", of candidates in {_same(rank['merge'])} only one," if "merge" in rank else ""
    return Sentence(
        f"All atoms of candidates and references{one} were then relaxed with the potential "
        f"{rank['mlip']} (below {rank['fmax']} eV/Å within {rank['max_steps']} steps), whose "
        "energies were used",
        potential_keys(str(rank["mlip"])),
    )


def _validation(dft: dict[str, Any], *, ranked_twice: bool) -> list[Sentence]:
    """Return how pw.x relaxed the best candidates."""
    protocol = dft["protocol"]
    version = f" {', '.join(dft['pw'])}" if dft["pw"] else ""
    spin = "spin-polarised" if dft["spin"] else "without spin polarisation"
    pseudos, keys = _pseudopotentials(dft)
    other = ", the lowest minima of the first potential where these differ" if ranked_twice else ""
    return [
        Sentence(
            f"The selected candidates{other}, other distinct minima within "
            f"{1000 * dft['window']:g} meV/atom (at most {dft['candidates']} candidates of a "
            "structure and method) and the references were symmetrised with a tolerance of "
            f"{protocol['symmetry_tolerance']:g} Å ({protocol['symmetry_tolerance_filled']:g} Å "
            "for restored sites)",
            ("togo2024",),
        ),
        Sentence(
            f"Their positions were then relaxed in the fixed cell with pw.x{version} of "
            f"Quantum ESPRESSO, {spin} (protocol {protocol['name']}: pseudopotentials and cutoffs "
            f"{pseudos}, k-points at most {protocol['kpoints_distance']:g} 1/Å apart, "
            f"{protocol['smearing']} smearing of {protocol['degauss']:g} Ry, "
            f"forces below {protocol['force_threshold']:g} Ry/bohr, "
            f"energy below {protocol['energy_threshold_per_atom']:g} Ry/atom)",
            ("giannozzi2009", "giannozzi2017", "nascimento2025", *keys),
        ),
    ]


def _pseudopotentials(attrs: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the library and functional of the pseudopotentials, and what to cite."""
    library, functional = attrs["library"], attrs["functional"]
    text = f"of {library or 'the table ' + attrs['table']}"
    text += f" (functional {functional})" if functional else " (functional unknown)"
    return text, (*_LIBRARY_CITATIONS.get(library, ()), *_FUNCTIONAL_CITATIONS.get(functional, ()))


def _judgement(attrs: dict[str, Any], evaluation: dict[str, Any]) -> list[Sentence]:
    settings = evaluation["settings"]
    level = f"{100 * settings['interval_level']:.0f} %"
    tolerances = ", ".join(f"{name} {attrs[name]}" for name in ("ltol", "stol", "angle_tol"))
    sentences = [
        Sentence(
            f"A candidate matches if StructureMatcher ({tolerances}) finds it equivalent to the "
            "relaxed reference; it counts as LES (lower energy or structural match) if it matches "
            "or its energy is lower",
            ("ong2013", "reents2026"),
        ),
        Sentence(
            f"Intervals of {level} over structures are Wilson score intervals where each is right "
            "or wrong, and percentile bootstrap intervals of means over candidates "
            f"({settings['bootstrap_resamples']} resamples)",
            ("wilson1927", "efron1979"),
        ),
    ]
    if evaluation["paired_tests"]:
        text = "Pairs of methods were compared with the exact McNemar test"
        sentences.append(Sentence(text, ("mcnemar1947",)))
    return sentences


def cited(sentences: list[Sentence]) -> list[tuple[str, Citation]]:
    """Return the works that the sentences cite, in order of first mention."""
    keys = dict.fromkeys(key for sentence in sentences for key in sentence.keys)
    works = citations()
    return [(key, works[key]) for key in keys]
