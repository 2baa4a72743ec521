"""The pipeline without its engines: configuration, schema, Slurm, what an edit makes run again."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nextflow_project import (
    REPOSITORY,
    Project,
    lines_with,
    make_image,
    not_cached,
    read_csv,
    read_trace,
    said,
)

BIN = REPOSITORY / "bin"
COMMANDS = {
    "SHEET_FILES": "sheet_files.py",
    "FETCH_INPUT": "fetch_input.py",
    "DIVIDE_INPUT": "divide_input.py",
    "JUDGE": "judge.py",
    "LIST_INCOMPLETE": "list_incomplete.py",
    "CHECK": "check_structures.py",
    "INPAINT": "inpaint.py",
    "PLAN_POTENTIAL": "plan_potential.py",
    "PLACE_POTENTIAL": "place_potential.py",
    "GATHER_POTENTIAL": "gather_potential.py",
    "FETCH_POTENTIAL": "fetch_potential.py",
    "COMPILE_POTENTIAL": "compile_potential.py",
    "RELAX": "relax.py",
    "SELECT": "select_candidates.py",
    "PLAN_DFT": "plan_dft.py",
    "PW_RELAX": "pw_relax.py",
    "GATHER_DFT": "gather_dft.py",
    "EVALUATE": "evaluate.py",
    "REGISTER": "register_run.py",
    "STORE": "store.py",
    "COLLECT": "collect.py",
    "REPORT": "report.py",
    "TRAIN": "train.py",
}
FETCH, COMPILE = "POTENTIALS:FETCH_POTENTIAL", "POTENTIALS:COMPILE_POTENTIAL"
PLAN, PW, GATHER = (f"VALIDATE:{name}" for name in ("PLAN_DFT", "PW_RELAX", "GATHER_DFT"))
BASELINE = {"PLAN": 1, "PLACE": 2, "GATHER": 2}
TASKS = {
    "INPUT:SOURCES:SHEET_FILES": 1,
    "INPUT:CHECK": 1,
    "INPAINT": 2,
    **{f"BASELINE:{name}_POTENTIAL": count for name, count in BASELINE.items()},
    FETCH: 1,
    COMPILE: 2,
    "RELAX": 2,
    "SELECT": 2,
    PLAN: 1,
    PW: 2,
    GATHER: 2,
    "EVALUATE": 2,
    "COLLECT": 1,
    "REPORT": 1,
}

METHODS = "host,td,pos,repaint,mattergen,random,voids,symmetric,mix,potential"

# Stands in for Slurm: keeps the header of a job and runs it at once.
SBATCH = """#!/usr/bin/env bash
job=${!#}
grep '^#SBATCH' "$job" > "$(dirname "$job")/header.txt"
bash "$job" > /dev/null 2>&1 < /dev/null
echo 'Submitted batch job 1'
"""
NOTHING = "#!/usr/bin/env bash\nexit 0\n"
# Stands in for Apptainer: runs what comes after the image as if there were none.
APPTAINER = """#!/usr/bin/env bash
while [[ $1 != *.sif ]]; do shift; done
exec "${@:2}"
"""
STAND_INS = {"sbatch": SBATCH, "squeue": NOTHING, "module": NOTHING, "apptainer": APPTAINER}
# A site's own settings, read last; without the pauses that are kind to a real scheduler.
SITE = """
params.slurm_account = 'physics'
params.slurm_gpu_queue = 'gpus'
process.resourceLimits = [time: '6.h']
executor { pollInterval = '200 ms'; submitRateLimit = '100/1sec' }
"""


@dataclass
class Stub:
    """A stub run on a stand-in for Slurm."""

    project: Project
    command: list[str | Path]

    @property
    def outdir(self) -> Path:
        """Return the folder of the results."""
        return self.project.launch / "results"

    def resume(self) -> dict[str, str]:
        """Run again with -resume and return the trace."""
        result = self.project.run(*self.command, "-resume")
        assert result.returncode == 0, said(result)
        return read_trace(self.outdir)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a copy of the project with stand-ins for Slurm and Apptainer."""
    project = Project.make(tmp_path_factory.mktemp("graph"))
    slurm = project.launch / "slurm"
    slurm.mkdir()
    for name, text in STAND_INS.items():
        (slurm / name).write_text(text, encoding="utf-8")
        (slurm / name).chmod(0o755)
    project.path.append(slurm)
    (project.launch / "site.config").write_text(SITE, encoding="utf-8")
    (project.launch / "weights.pt").touch()
    (project.launch / "images").mkdir()
    for engine in ("tools", "inpaint", "relax", "dft"):
        make_image(project.launch / "images" / f"xtalfill-{engine}-0.1.0.sif")
    return project


@pytest.fixture(scope="module")
def stub(project: Project) -> Stub:
    """Run the stubs once, over the results of an earlier run."""
    (project.launch / "results").mkdir()
    (project.launch / "results" / "results.csv").write_text("earlier", encoding="utf-8")
    command: list[str | Path] = ["-profile", "slurm,gpu,test,stub", "-c", "site.config"]
    command += ["--model", "weights.pt", "--outdir", "results", "--relax_cpus", "7"]
    command += ["--mlip", "nequip-small", "--mlip_rank", "nequip.net:group/model:0.1"]
    command += ["--mlip_compile", "true", "--baseline_relax", "mlip"]
    command += ["--validate", "true", "--dft_cpus", "5", "--method", METHODS, "--slurm_array", "1"]
    command += ["--slurm_modules", "espresso/7.3 openmpi"]
    command += ["--container_dir", project.launch / "images"]
    result = project.run(*command)
    assert result.returncode == 0, said(result)
    return Stub(project, command)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Return nextflow_schema.json."""
    return json.loads((REPOSITORY / "nextflow_schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def config(project: Project) -> dict[str, Any]:
    """Return the configuration as Nextflow resolves it."""
    result = project.nextflow("config", project.root, "-o", "json")
    assert result.returncode == 0, said(result)
    return json.loads(result.stdout)


def test_schema_is_valid_and_agrees_with_the_defaults(
    schema: dict[str, Any], config: dict[str, Any], project: Project
) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    groups = [group["properties"] for group in schema["$defs"].values()]
    properties = {name: spec for group in groups for name, spec in group.items()}
    assert sum(map(len, groups)) == len(properties) == len(config["params"])
    for name, value in config["params"].items():
        default = properties[name].get("default")
        if isinstance(default, str):
            default = default.replace("${projectDir}", str(project.root))
        assert (name, value) == (name, default)
        assert properties[name]["description"].endswith((".", ")"))
    assert {group["$ref"].split("/")[-1] for group in schema["allOf"]} == set(schema["$defs"])


def test_schema_judges_as_the_pipeline_does(schema: dict[str, Any], config: dict[str, Any]) -> None:
    good = {name: value for name, value in config["params"].items() if value is not None}
    good["input"] = "hosts.csv"
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(good)
    bad = [{"samples": 0}, {"samples": "3"}, {"sample": 3}, {"fmax": 0}]
    bad += [{"element": "hydrogen"}, {"input": None}]
    bad += [{"baseline_relax": "none"}, {"baseline_degenerate": 1.1}, {"baseline_choices": 0}]
    bad += [{"protocol": "exact"}, {"dft_launcher": "mpirun -np 4"}, {"max_validate": 0}]
    bad += [{"dft_launcher": "mpirun -np {ranks}; rm"}, {"dft_scratch": "scratch"}]
    bad += [{"drop_above": 0}, {"merge": "yes"}]
    for change in bad:
        assert not validator.is_valid(good | change), change


def test_profiles_commute(project: Project) -> None:
    resolved = []
    for profile in ("slurm,gpu", "gpu,apptainer,slurm"):
        result = project.nextflow("config", project.root, "-profile", profile, "-flat", "-sort")
        assert result.returncode == 0, said(result)
        resolved.append(result.stdout)
    assert resolved[0] == resolved[1]
    lines = dict(line.split(" = ", 1) for line in resolved[0].splitlines() if " = " in line)
    label = "process.'withLabel:process_gpu'."
    assert {f"{label}{key}" for key in ("memory", "time", "clusterOptions")} <= set(lines)
    assert "process.'withName:RELAX|COMPILE_POTENTIAL'.cpus" in lines
    assert lines["process.executor"] == "'slurm'"
    assert lines["params.device"] == "'cuda'"
    assert lines["apptainer.enabled"] == "true"
    assert "CUDA_VISIBLE_DEVICES" in lines["apptainer.envWhitelist"]


def test_slurm_without_images(project: Project) -> None:
    (project.launch / "bare.config").write_text("apptainer.enabled = false\n", encoding="utf-8")
    command = ["-c", "bare.config", "config", project.root, "-profile", "slurm", "-flat"]
    result = project.nextflow(*command)
    assert result.returncode == 0, said(result)
    assert "apptainer.enabled = false" in result.stdout.splitlines()


def test_stub_run_walks_the_whole_graph(stub: Stub) -> None:
    trace = read_trace(stub.outdir)
    names = [name.split(" ")[0] for name in trace]
    assert {name: names.count(name) for name in names} == TASKS
    assert set(trace.values()) == {"COMPLETED"}


def test_a_stub_run_keeps_earlier_results(stub: Stub) -> None:
    names = {path.name for path in stub.outdir.iterdir() if not path.name.startswith(".")}
    assert names == {"results.csv", "pipeline_info"}
    assert (stub.outdir / "results.csv").read_text(encoding="utf-8") == "earlier"


def test_slurm_is_asked_for_a_gpu_where_one_is_used(stub: Stub) -> None:
    headers = headers_of(stub)
    processes = {name.split(" ")[0] for name in headers}
    assert processes == set(TASKS) - {FETCH}  # a download runs where Nextflow does
    asked = {"--account=physics --gpus=1", "-p gpus"}
    for name, lines in headers.items():
        if name.split(" ")[0] in ("RELAX", "INPAINT", COMPILE):
            assert asked <= lines
        else:
            assert not any("--gpus" in line for line in lines)
            assert "--account=physics" in lines
    for name in (f"{COMPILE} (mlip)", "RELAX (batch_0000)"):
        assert "-c 7" in headers[name]
    assert "-c 5" in headers["BASELINE:PLACE_POTENTIAL (batch_0000.0)"]


def test_memory_and_time_follow_from_the_size(stub: Stub) -> None:
    headers = headers_of(stub)
    # batch_0000: 10,000 atoms, 53 edges each, of which 4000 atoms at once on a GPU
    assert {"--mem 8236M", "-t 01:47:36"} <= headers["RELAX (batch_0000)"]
    assert {"--mem 6096M", "-t 03:46:40"} <= headers["INPAINT (batch_0000)"]
    # batch_0001: of no known size
    assert {"--mem 4096M", "-t 01:00:00"} <= headers["RELAX (batch_0001)"]
    # Ten times the plan's core-hours on five cores; 64 MB for a million coefficients.
    assert {"--mem 4224M", "-t 03:00:00"} <= headers[f"{PW} (batch_0000.1)"]
    assert {"--mem 3648M", "-t 01:00:36"} <= headers[f"{PW} (batch_0000.0)"]
    # 1 GB more for the potential that relaxes between placements
    place = "BASELINE:PLACE_POTENTIAL"
    assert {"--mem 5248M", "-t 03:00:00"} <= headers[f"{place} (batch_0000.0)"]
    # 21 h, and the site has six.
    assert {"--mem 11008M", "-t 06:00:00"} <= headers[f"{place} (batch_0000.1)"]


def test_every_job_runs_in_an_image_and_those_on_a_gpu_see_it(stub: Stub) -> None:
    for row in trace_of(stub):
        wrapper = Path(row["workdir"], ".command.run").read_text(encoding="utf-8")
        (line,) = [one for one in wrapper.splitlines() if "apptainer exec" in one]
        assert "images/" in line
        on_gpu = row["name"].split(" ")[0] in ("RELAX", "INPAINT", COMPILE)
        assert ("--nv" in line.split()) == on_gpu, row["name"]
        assert "CUDA_VISIBLE_DEVICES" in line


def test_modules_of_the_site_are_loaded(stub: Stub) -> None:
    folder = next(row["workdir"] for row in trace_of(stub) if row["name"].startswith("RELAX"))
    wrapper = Path(folder, ".command.run").read_text(encoding="utf-8")
    assert "module load espresso/7.3 openmpi" in wrapper


def trace_of(stub: Stub) -> list[dict[str, str]]:
    """Return the trace of the stub run, a row for each task."""
    return read_csv(stub.outdir / "pipeline_info" / "trace.txt", delimiter="\t")


def headers_of(stub: Stub) -> dict[str, set[str]]:
    """Return what each job asked Slurm for, by the name of its task."""
    headers = {}
    for row in trace_of(stub):
        header = Path(row["workdir"], "header.txt")
        if header.is_file():
            text = header.read_text(encoding="utf-8").replace("#SBATCH ", "")
            headers[row["name"]] = set(text.splitlines())
    return headers


def test_an_edit_of_texts_makes_only_tables_and_report_run_again(stub: Stub) -> None:
    registry = stub.project.root / "bin" / "xtalfill" / "registry" / "methods.json"
    text = registry.read_text(encoding="utf-8")
    registry.write_text(text.replace("placed at random", "drawn at random"), encoding="utf-8")
    template = stub.project.root / "bin" / "xtalfill" / "results" / "report" / "report.html"
    template.write_text(template.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert not_cached(stub.resume()) == {"COLLECT", "REPORT"}


def test_a_changed_structure_file_is_seen(stub: Stub) -> None:
    host = stub.project.root / "assets" / "demo" / "hosts" / "mp-23684.cif"
    host.write_text(host.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "INPUT:CHECK" in not_cached(stub.resume())


def imported(path: Path, bin_folder: Path) -> Iterator[Path]:
    """Yield the files of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: StageCode does not follow relative imports"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for depth in range(1, len(parts) + 1 if parts[0] == "xtalfill" else 0):
                stem = bin_folder.joinpath(*parts[:depth])
                yield from (
                    item
                    for item in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
                    if item.is_file()
                )


def closure(command: str, bin_folder: Path) -> set[str]:
    """Return the Python files behind a command, found with Python's own parser."""
    found, todo = set(), [bin_folder / command]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += imported(path, bin_folder)
    return {str(path.relative_to(bin_folder)) for path in found}


def test_code_digest_covers_what_a_command_imports(project: Project) -> None:
    script = project.root / "code.nf"
    script.write_text(
        "workflow {\n"
        '    def bin = file("${projectDir}/bin")\n'
        "    def code = new StageCode(bin)\n"
        f"    {json.dumps(list(COMMANDS.values()))}.each {{ name ->\n"
        "        def files = code.files(name).collect { file -> bin.relativize(file) }\n"
        "        println(([name] + files).join(' '))\n"
        "    }\n"
        "}\n",
        encoding="utf-8",
    )
    result = project.nextflow("-q", "run", script)
    assert result.returncode == 0, said(result)
    listed = {line.split()[0]: set(line.split()[1:]) for line in result.stdout.splitlines()}
    for command in COMMANDS.values():
        python = {name for name in listed[command] if name.endswith(".py")}
        assert python == closure(command, project.root / "bin")
    assert "xtalfill/results/report/report.html" in listed["report.py"]
    assert not any("report/" in name for name in listed["relax.py"])
    registry = {
        command: {Path(name).stem for name in names if "registry/" in name and "json" in name}
        for command, names in listed.items()
    }
    assert registry["inpaint.py"] == {"methods", "mix"}
    assert "mix" in registry["check_structures.py"]
    assert registry["relax.py"] == {"potentials"}
    assert registry["report.py"] == {"methods", "potentials"}
    assert registry["plan_dft.py"] == set()


def test_a_pipe_is_one_line_before_any_task(project: Project) -> None:
    os.mkfifo(project.launch / "pipe.csv")
    (project.launch / "folder").mkdir()
    command = ["--input", "pipe.csv", "--references", "pipe.csv", "--model", "weights.pt"]
    # names that are not in the registry
    command += ["--method", "host,host", "--mlip", "x.pt", "--mlip_rank", "nequip.net:group/model"]
    result = project.run(*command, "-w", "never")
    assert result.returncode != 0
    for name in ("--input", "--references"):
        assert len(lines_with(said(result), [f"{name}: 'pipe.csv' is a pipe or a device"])) == 1
    assert "no file" not in said(result)
    words = ["--method: 'host,host' is not possible; give one or more of host, td, pos, repaint"]
    assert len(lines_with(said(result), words)) == 1
    for name, value in (("mlip", "x.pt"), ("mlip_rank", "nequip.net:group/model")):
        words = [f"--{name}: '{value}' is not possible; give 7net-0, 7net-l3i5, 7net-mf-0:PBE, "]
        assert len(lines_with(said(result), words)) == 1, said(result)
    assert "5 problem(s)" in said(result)
    assert not list((project.launch / "never").glob("*/*"))


def test_modules_call_commands_that_can_be_run() -> None:
    modules = {path.parent.name: path for path in (REPOSITORY / "modules").glob("*/main.nf")}
    text = "".join(path.read_text(encoding="utf-8") for path in modules.values())
    assert len(modules) == len(COMMANDS)
    for process, command in COMMANDS.items():
        assert f"process {process} {{" in text
        assert command in text
        assert os.access(BIN / command, os.X_OK)
