"""The sentence about an answer: what a paper needs, from what the batch tells."""

from __future__ import annotations

from dataclasses import replace

from hand_made_batches import Case, Made, brucite, build
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.results.candidate_source import CandidateSource
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.columns import make_row
from xtalfill.results.confidence import CALIBRATED, Confidence, not_calibrated
from xtalfill.results.sentence import potential_keys, sentence

STAGES = {"relax_positions": {"mlip": "oam-small", "fmax": 0.05}}


def rows() -> list[CandidateRow]:
    batch = build([Case("mg", brucite(), 2, [Made(), Made(relaxed=(0, 0, 2.2), energy=0.5)])])
    batch.stages["evaluate"] = evaluate_batch(batch)
    return [make_row(CandidateRow, CandidateSource(batch, index, "Mg(OH)2")) for index in (0, 1)]


def test_it_names_method_potential_settings_and_works() -> None:
    first, second = rows()
    text = sentence(replace(first, space_group="P-3m1"), [first, second], STAGES)
    assert text.startswith("The 2 H sites per cell of Mg(OH)2 were determined with xtalfill ")
    assert "(method host, 2 candidates, seed 42; Reents et al. 2026, https://doi.org/" in text
    assert "with the potential oam-small (" in text
    assert "to forces below 0.05 eV/Å; the crystal of lowest energy, space group P-3m1," in text
    assert text.endswith(
        "was reached by 1 of 2 candidates and lies 100.0 meV/atom below the next of 2 distinct "
        "minima."
    )


def test_one_site_and_a_file_of_a_potential_are_told_in_words() -> None:
    first, second = (replace(row, n_missing=1) for row in rows())
    ranked = STAGES | {"relax_rank": {"mlip": "nequix-oam-1.nqx", "fmax": 0.05}}
    text = sentence(first, [first, second], ranked)
    assert text.startswith("The H site per cell of Mg(OH)2 was determined with ")
    assert " and then nequix-oam-1 (Koker" in text


def test_a_mix_is_told_by_its_sources() -> None:
    first, second = (replace(row, method="mix", source="host") for row in rows())
    assert "(method host, 2 candidates" in sentence(first, [first, second], STAGES)
    others = [replace(second, source=name) for name in ("voids", "symmetric")]
    assert "(methods host, symmetric and voids, 3 cand" in sentence(first, [first, *others], STAGES)


def test_second_potential_and_dft_are_told() -> None:
    first, _ = rows()
    stages = STAGES | {"relax_rank": {"mlip": "7net-0", "fmax": 0.02}}
    text = sentence(first, [first], stages, dft_agrees=False)
    assert "potentials oam-small (" in text
    assert "and then 7net-0 (Park et al. 2024" in text
    assert "to forces below 0.02 eV/Å" in text
    assert text.endswith("and is not the lowest by DFT.")


def test_odds_are_told_where_they_are_calibrated() -> None:
    first, second = rows()
    odds = Confidence(0.98, 0.85, CALIBRATED)
    text = sentence(first, [first, second], STAGES, odds=odds)
    assert text.endswith(
        "2 distinct minima; of like answers for known crystals, 98 % were the true crystal or "
        "lower in energy, 85 % the true crystal."
    )
    unknown = sentence(first, [first, second], STAGES, odds=not_calibrated("method td"))
    assert unknown == sentence(first, [first, second], STAGES)


def test_nothing_is_said_where_the_potential_is_unknown() -> None:
    first, _ = rows()
    assert sentence(first, [first], {}) == ""
    assert potential_keys("my.nqx") == ("koker2025",)
