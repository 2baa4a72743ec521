// SCAN: divides a database into parts, judges each, writes the tables of `xtalfill scan`.

include { SOURCES         } from '../sources/main'
include { DIVIDE_INPUT    } from '../../modules/divide_input/main'
include { JUDGE           } from '../../modules/judge/main'
include { LIST_INCOMPLETE } from '../../modules/list_incomplete/main'

workflow SCAN {
    take:
    run // Run: parameters, files, digests of the code

    main:
    SOURCES(run, [])

    DIVIDE_INPUT(
        SOURCES.out.structures, SOURCES.out.named, run.server('input') as boolean, run.forStage('divide_input'),
        run.code('divide_input.py') + run.states(['input']),
    )

    // e.g. ['part_a41f09c2d7b3', /work/3f/…/parts/part_a41f09c2d7b3.jsonl, [/data/cifs/a.cif, /data/cifs/b.cif]]
    ch_parts = DIVIDE_INPUT.out.parts.flatten().map { part -> tuple(part.baseName, part) }
        .join(DIVIDE_INPUT.out.files.flatten().map { names -> tuple(names.baseName, InputFiles.listed(names)) })
    JUDGE(ch_parts, run.code('judge.py'))

    LIST_INCOMPLETE(
        DIVIDE_INPUT.out.order, JUDGE.out.judged.toSortedList { one, other -> one.name <=> other.name },
        run.settings.input, run.code('list_incomplete.py'),
    )

    emit:
    tables = LIST_INCOMPLETE.out.tables
    hosts = LIST_INCOMPLETE.out.hosts
    findings = LIST_INCOMPLETE.out.findings
    fetched = SOURCES.out.fetched
}
