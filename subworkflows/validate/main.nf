// VALIDATE: relaxes the best candidates and the references with pw.x, all at the same level, and puts what it found
// into the batches. Without --validate the batches go through as they are.

include { PLAN_DFT   } from '../../modules/plan_dft/main'
include { PW_RELAX   } from '../../modules/pw_relax/main'
include { GATHER_DFT } from '../../modules/gather_dft/main'

workflow VALIDATE {
    take:
    ch_batch   // [meta, batch] after SELECT
    parameters // of the run
    files      // [protocol:, table:, cost:, pseudo_dir:]
    code       // [plan:, run:, gather:], digests of the code

    main:
    ch_asked = ch_batch.branch { _meta, _batch ->
        yes: parameters.values().validate
        no: true
    }

    // One plan for the run: --max_validate counts structures of all batches.
    PLAN_DFT(
        ch_asked.yes
            .map { _meta, batch -> batch }
            .toSortedList { one, other -> one.name <=> other.name }
            .filter { batches -> batches },
        files.protocol,
        files.table,
        files.cost,
        files.pseudo_dir,
        parameters.forStage('plan_dft'),
        code.plan,
    )

    // The largest first. e.g. [[id: 'batch_0007.12', batch: 'batch_0007', size: 1.02, core_seconds: …], /work/…/jobs/batch_0007.12.json]
    ch_jobs = PLAN_DFT.out.jobs
        .combine(PLAN_DFT.out.plan)
        .flatMap { found -> Sizes.ofJobs(found.init(), found.last()) }

    PW_RELAX(ch_jobs, files.pseudo_dir, parameters.forStage('pw_relax'), code.run)

    // Sorted, and a batch without a job is not lost.
    ch_results = PW_RELAX.out.result
        .map { meta, result -> tuple(meta.batch, result) }
        .groupTuple(sort: { one, other -> one.name <=> other.name })
    ch_with_results = ch_asked.yes
        .map { meta, batch -> tuple(meta.id, meta, batch) }
        .join(ch_results, remainder: true)
        .map { _id, meta, batch, results -> tuple(meta, batch, results ?: []) }

    GATHER_DFT(ch_with_results, PLAN_DFT.out.plan, code.gather)

    emit:
    batch  = ch_asked.no.mix(GATHER_DFT.out.batch)
    plan   = PLAN_DFT.out.plan
    files  = PLAN_DFT.out.plan.mix(PW_RELAX.out.files)
    record = PLAN_DFT.out.record.mix(PW_RELAX.out.record, GATHER_DFT.out.record)
}
