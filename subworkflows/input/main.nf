// INPUT: reads hosts and references (CHECK) and gives each batch its size.

include { SOURCES } from '../sources/main'
include { CHECK   } from '../../modules/check_structures/main'

workflow INPUT {
    take:
    run // Run: parameters, files, digests of the code

    main:
    def references = run.given('references')

    SOURCES(run, references)

    CHECK(
        SOURCES.out.structures, references, SOURCES.out.named, run.given('competing_phases'), run.request(),
        run.forStage('check') + run.potentials.located(),
        run.code('check_structures.py') + run.states(['input', 'references']),
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
    fetched = SOURCES.out.fetched
    record = SOURCES.out.record
}
