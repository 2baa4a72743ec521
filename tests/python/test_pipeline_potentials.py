"""What --mlip, --mlip_rank and --potential_dir name: files, downloads, errors; order of jobs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nextflow_project import Project, lines_with, not_cached, read_trace, said

REGISTERED, PUBLISHED = "nequix-oam-1", "nequip.net:some-group/some-model:0.1"
FILES = {REGISTERED: "nequix-oam-1.nqx", PUBLISHED: "some-group_some-model_0.1.nequip.zip"}
CONTENT = b"weights"
FETCH = "POTENTIALS:FETCH_POTENTIAL"
# Prints what lib/Potentials.groovy makes of each set of parameters, a line each.
SCRIPT = """
workflow {
    def registry = new Registry(file("${projectDir}/bin/xtalfill/registry"))
    params.cases.each { settings ->
        def found = new Potentials(settings, registry, file("${projectDir}/assets/potential"))
        println(groovy.json.JsonOutput.toJson([
            published: found.published(),
            files: found.files().collect { meta, file -> [meta, file as String] },
            located: found.located(),
            problems: found.problems(),
        ]))
    }
}
"""

# Prints the potential that ranks, a line for each set of parameters; then what words stand for.
RANKING = """
workflow {
    def registry = new Registry(file("${projectDir}/bin/xtalfill/registry"))
    params.cases.each { given -> println(Potentials.withRanking(given, registry).mlip_rank) }
    params.words.each { given ->
        def schema = file("${projectDir}/nextflow_schema.json")
        def found = new Parameters(schema, registry, given).values()
        println("${found.samples}/${found.stop_below}")
    }
}
"""
WORDS = [
    ({"samples": "auto"}, "30/0.1"),
    ({"samples": "auto", "stop_below": 0.02}, "30/0.02"),
    ({"samples": 7, "stop_below": None}, "7/null"),
    ({"samples": "other"}, "other/null"),
]

JOBS = """
workflow {
    def jobs = (0..3).collect { number -> file("${launchDir}/jobs/b.${number}.json") }
    ['plan', 'first'].each { name ->
        def found = Sizes.ofJobs(jobs, file("${launchDir}/${name}.json"))
        println(found.collect { meta, _job -> meta.id }.join(','))
    }
}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a copy of the project whose registry records the checksum of `CONTENT`."""
    project = Project.make(tmp_path_factory.mktemp("potentials"))
    registry = project.root / "bin/xtalfill/registry/potentials.json"
    entries = json.loads(registry.read_text(encoding="utf-8"))
    for entry in entries:
        if entry["name"] == REGISTERED:
            entry["sha256"] = hashlib.sha256(CONTENT).hexdigest()
    registry.write_text(json.dumps(entries), encoding="utf-8")
    return project


def folder(project: Project, name: str, **contents: bytes) -> Path:
    """Return a new folder with the files of some published models."""
    path = project.launch / name
    path.mkdir()
    for key, content in contents.items():
        (path / FILES[{"registered": REGISTERED, "published": PUBLISHED}[key]]).write_bytes(content)
    return path


def judge(project: Project, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what Potentials makes of each set of parameters."""
    script = project.root / "potentials.nf"
    script.write_text(SCRIPT, encoding="utf-8")
    given = project.launch / "cases.json"
    given.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    result = project.nextflow("-q", "run", script, "-params-file", given)
    assert result.returncode == 0, said(result)
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_a_model_in_the_folder_is_not_downloaded(project: Project) -> None:
    full = folder(project, "full", registered=CONTENT, published=b"code")
    empty, other = folder(project, "empty"), folder(project, "other", registered=b"changed")
    names = {"mlip": REGISTERED, "mlip_rank": PUBLISHED, "mlip_compile": False}
    file, zipped = str(full / FILES[REGISTERED]), str(full / FILES[PUBLISHED])
    without, found, absent, wrong, relative, functional = judge(
        project,
        [
            names,
            names | {"potential_dir": str(full)},
            names | {"potential_dir": str(empty)},
            names | {"potential_dir": str(other)},
            names | {"potential_dir": "full"},
            {"mlip": "7net-0", "mlip_rank": "7net-mf-0:R2SCAN", "potential_dir": str(full)},
        ],
    )
    downloads = [[{"id": "mlip"}, REGISTERED], [{"id": "mlip_rank"}, PUBLISHED]]
    for one in (without, absent):
        assert (one["published"], one["files"], one["problems"]) == (downloads, [], [])
        assert one["located"] == {"mlip": REGISTERED, "mlip_rank": PUBLISHED}
    for one in (found, relative):
        assert (one["published"], one["problems"]) == ([], [])
        assert one["files"] == [[{"id": "mlip"}, file], [{"id": "mlip_rank"}, zipped]]
        # CHECK reads from the file which elements the model knows; the registry has the others.
        assert one["located"] == {"mlip": REGISTERED, "mlip_rank": zipped}
    assert len(wrong["problems"]) == 1
    assert f"--mlip {REGISTERED}: {other / FILES[REGISTERED]} is not" in wrong["problems"][0]
    assert "\n" not in wrong["problems"][0]
    assert functional["files"] == [[{"id": "mlip"}, "[]"], [{"id": "mlip_rank"}, "[]"]]
    assert functional["located"] == {"mlip": "7net-0", "mlip_rank": "7net-mf-0:R2SCAN"}


def test_stub_run_with_and_without_the_file(project: Project) -> None:
    """Also with a colon in the name of a potential."""
    given = folder(project, "given", registered=CONTENT)
    names = ["--mlip", REGISTERED, "--mlip_rank", "7net-mf-0:R2SCAN"]
    command = ["-profile", "test,stub", *names, "--outdir", "results"]
    result = project.run(*command, "--potential_dir", given)
    assert result.returncode == 0, said(result)
    trace = read_trace(project.launch / "results")
    assert "RELAX (batch_0000)" in trace
    assert not any(name.startswith(FETCH) for name in trace)
    result = project.run(*command, "-resume")
    assert result.returncode == 0, said(result)
    ran = not_cached(read_trace(project.launch / "results"))
    assert FETCH in ran
    assert "INPAINT" not in ran


def test_ranking_by_the_file_that_is_there(project: Project) -> None:
    full, empty = folder(project, "ranking", registered=CONTENT), folder(project, "nothing")
    there, bare = {"potential_dir": str(full)}, {"mlip": "7net-0", "mlip_rank": None}
    cases = {
        REGISTERED: [bare | there, {"mlip": "nequip-small"} | there],
        "null": [
            bare, bare | {"potential_dir": str(empty)}, bare | there | {"mlip_rank": "none"},
            {"mlip": REGISTERED} | there, {"mlip": "own.nqx"} | there,
            {"mlip": "7net-0", "mlip_rank": "none"},
        ],
        "7net-l3i5": [bare | there | {"mlip_rank": "7net-l3i5"}],
    }  # fmt: skip
    script = project.root / "ranking.nf"
    script.write_text(RANKING, encoding="utf-8")
    given = project.launch / "ranking.json"
    content = {"cases": [one for some in cases.values() for one in some]}
    content["words"] = [one for one, _ in WORDS]
    given.write_text(json.dumps(content), encoding="utf-8")
    result = project.nextflow("-q", "run", script, "-params-file", given)
    assert result.returncode == 0, said(result)
    expected = [name for name, some in cases.items() for _ in some]
    expected += [shown for _, shown in WORDS]
    assert result.stdout.split() == expected


def test_another_file_ends_the_run_with_one_line(project: Project) -> None:
    bad = folder(project, "bad", registered=b"other weights")
    command = ["-profile", "test", "--potential_dir", bad]
    result = project.run(*command, "--outdir", "never", "-w", "nowhere")
    assert result.returncode != 0
    words = [f"--mlip_rank {REGISTERED}: ", "sha256 differs from the recorded one"]
    assert len(lines_with(said(result), words)) == 1, said(result)
    assert not list((project.launch / "nowhere").glob("*/*"))


def test_jobs_that_the_plan_names_first_start_first(project: Project) -> None:
    """Within each part, the largest first."""
    sizes = {"b.0": 3.0, "b.1": 1.0, "b.2": 2.0, "b.3": 9.0}
    plan = {"jobs": {key: {"size": size, "core_hours": 1.0} for key, size in sizes.items()}}
    (project.launch / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (project.launch / "first.json").write_text(json.dumps(plan | {"first": ["b.1", "b.2"]}))
    (project.root / "jobs.nf").write_text(JOBS, encoding="utf-8")
    result = project.nextflow("-q", "run", project.root / "jobs.nf")
    assert result.returncode == 0, said(result)
    assert result.stdout.split() == ["b.3,b.0,b.2,b.1", "b.2,b.1,b.3,b.0"]
