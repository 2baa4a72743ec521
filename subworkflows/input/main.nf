// INPUT: reads hosts and references (CHECK) and gives each batch its size.

include { SHEET_FILES } from '../../modules/sheet_files/main'
include { FETCH_INPUT } from '../../modules/fetch_input/main'
include { CHECK       } from '../../modules/check_structures/main'

workflow INPUT {
    take:
    run // Run: parameters, files, digests of the code

    main:
    def server = run.server('input')
    def input = server ? [] : run.given('input')
    def references = run.given('references')

    SHEET_FILES(channel.fromList(InputFiles.sheets([input, references])), run.code('sheet_files.py'))

    // CHECK gets the files that a sheet or a folder names as inputs: -resume sees a change, and a container can read them.
    ch_named = SHEET_FILES.out.names
        .flatMap { folder, names -> InputFiles.named(folder, names) }
        .mix(channel.fromList(InputFiles.inFolders([input, references])))
        .unique()
        .toSortedList { one, other -> one.toString() <=> other.toString() }

    // e.g. /work/a1/…/optimade.example.org.jsonl
    FETCH_INPUT(channel.fromList(server ? [server] : []), run.code('fetch_input.py'))
    ch_input = server ? FETCH_INPUT.out.structures.first() : channel.value(input)

    CHECK(
        ch_input, references, ch_named, run.request(),
        run.forStage('check') + run.potentials.located(),
        run.code('check_structures.py') + InputFiles.states([input, references]),
    )

    // e.g. [[id: 'batch_0007', n_atoms: 8000, largest: 64, n_edges: 52], /work/3f/…/batches/batch_0007.h5]
    ch_batches = CHECK.out.batches
        .flatten()
        .combine(CHECK.out.check.map { check -> Sizes.ofBatches(check, run.potentials.cutoff()) })
        .map { batch, sizes -> tuple([id: batch.baseName] + (sizes[batch.baseName] ?: [:]), batch) }

    emit:
    batch = ch_batches
    part  = CHECK.out.parts.flatten().map { part -> tuple(part.baseName, part) }
    check = CHECK.out.check
    fetched = FETCH_INPUT.out.structures
    record = FETCH_INPUT.out.record
}
