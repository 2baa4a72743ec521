"""A parameter goes from nextflow_schema.json into the settings of the stages that read it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from stage_settings import REPOSITORY, defaults, properties, write_settings
from xtalfill.core.errors import ConfigError
from xtalfill.core.settings import parameter, parameters_of, read_settings
from xtalfill.dft.launch import LaunchSettings
from xtalfill.dft.plan_run import PlanDftSettings
from xtalfill.inputs.check import CheckSettings
from xtalfill.inputs.scan_parts import DivideSettings
from xtalfill.proposals.dft_potential.place import PlacePotentialSettings
from xtalfill.proposals.dft_potential.plan import PlanPotentialSettings
from xtalfill.proposals.stage import InpaintSettings
from xtalfill.relax.compiled import CompileSettings
from xtalfill.relax.settings import RelaxStageSettings

SETTINGS = {
    "check": CheckSettings,
    "divide_input": DivideSettings,
    "inpaint": InpaintSettings,
    "plan_potential": PlanPotentialSettings,
    "place_potential": PlacePotentialSettings,
    "compile_potential": CompileSettings,
    "relax": RelaxStageSettings,
    "plan_dft": PlanDftSettings,
    "pw_relax": LaunchSettings,
}
OTHERS = {
    "train",  # takes options, not JSON
    "workflow",  # main.nf, lib/ and conf/
}
TYPES = {"string": str, "integer": int, "number": float, "boolean": bool}


def test_every_parameter_names_what_reads_it() -> None:
    for name, spec in properties().items():
        assert spec["stages"], name
        assert set(spec["stages"]) <= set(SETTINGS) | OTHERS, name
        assert "workflow" not in spec["stages"] or len(spec["stages"]) == 1, name


@pytest.mark.parametrize("stage", SETTINGS)
def test_the_settings_of_a_stage_are_its_parameters(stage: str) -> None:
    assert set(parameters_of(SETTINGS[stage])) == set(defaults(stage))
    for name, kind in parameters_of(SETTINGS[stage]).items():
        wanted = str(TYPES[properties()[name]["type"]].__name__)
        assert wanted in str(kind) or "Literal" in str(kind), name


@pytest.mark.parametrize("stage", SETTINGS)
def test_the_defaults_of_the_pipeline_can_be_read(stage: str, tmp_path: Path) -> None:
    path = write_settings(tmp_path, stage, **({"max_validate": 3} if stage == "plan_dft" else {}))
    read_settings(path, SETTINGS[stage])


def test_a_choice_of_the_schema_is_that_of_the_settings() -> None:
    for stage, kind in SETTINGS.items():
        for name, expected in parameters_of(kind).items():
            if "Literal" in str(expected):
                assert set(get_args(expected)) == set(properties()[name]["enum"]), (stage, name)


def test_modules_and_workflows_name_stages_that_are_known() -> None:
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in (REPOSITORY / "main.nf", *(REPOSITORY / "subworkflows").glob("*/main.nf"))
    )
    for stage in {*SETTINGS, "train"}:
        assert text.count(f"forStage('{stage}')") == 1, stage


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Settings inside others."""

    count: int
    share: float = field(metadata=parameter("the_share"))
    fixed: int = field(default=7, metadata=parameter(None))


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Settings of a stage."""

    inner: Inner
    name: str | None
    how: Literal["a", "b"]
    on: bool


GOOD: dict[str, Any] = {"count": 3, "the_share": 1, "name": None, "how": "a", "on": True}


def read(folder: Path, content: Any) -> Outer:
    path = folder / "settings.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_settings(path, Outer)


def test_fields_inside_take_their_values_from_the_same_file(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found == Outer(inner=Inner(count=3, share=1.0), name=None, how="a", on=True)
    assert type(found.inner.share) is float
    assert read(tmp_path, GOOD | {"name": 'a "quoted"\' $(name)'}).name == 'a "quoted"\' $(name)'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 3.0}, "count is 3.0; it must be an integer"),
        ({"count": True}, "count is true; it must be an integer"),
        ({"count": None}, "count is null; it must be an integer"),
        ({"the_share": "1"}, 'the_share is "1"; it must be a number'),
        ({"name": 1}, "name is 1; it must be a text"),
        ({"how": "c"}, "how is 'c'; choose from a, b"),
        ({"on": 1}, "on is 1; it must be true or false"),
        ({"share": 1.0}, "the parameter share is unknown to this stage"),
        ({"fixed": 8}, "the parameter fixed is unknown to this stage"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_name(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=r"\A[^\n]+\Z") as error:
        read(tmp_path, GOOD | change)
    assert says in str(error.value)


def test_a_missing_parameter_and_a_file_without_parameters_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the parameter on is missing"):
        read(tmp_path, {name: value for name, value in GOOD.items() if name != "on"})
    with pytest.raises(ConfigError, match="not a JSON object"):
        read(tmp_path, [])
    with pytest.raises(ConfigError, match="not readable JSON"):
        read_settings(tmp_path / "absent.json", Outer)
