// BASELINE: the candidates of the method potential, from the DFT electrostatic potential of each host. Without that
// method the batches go through as they are.

include { PLAN_POTENTIAL   } from '../../modules/plan_potential/main'
include { PLACE_POTENTIAL  } from '../../modules/place_potential/main'
include { GATHER_POTENTIAL } from '../../modules/gather_potential/main'

workflow BASELINE {
    take:
    ch_checked // [meta, batch] after CHECK: pw.x need not wait for INPAINT
    ch_batch   // [meta, batch] after INPAINT
    ch_mlip    // the potential's file, [] where it is a name
    parameters // of the run
    files      // [protocol:, table:, cost:, pseudo_dir:]
    code       // [plan:, place:, gather:], digests of the code

    main:
    def settings = parameters.values()
    def asked = 'potential' in settings.method.tokenize(',')
    ch_asked = ch_batch.branch { _meta, _batch ->
        yes: asked
        no: true
    }

    // One plan for the run, so that its cost is told before the first job.
    PLAN_POTENTIAL(
        ch_checked
            .filter { asked }
            .map { _meta, batch -> batch }
            .toSortedList { one, other -> one.name <=> other.name }
            .filter { batches -> batches },
        files.protocol,
        files.table,
        files.cost,
        files.pseudo_dir,
        parameters.forStage('plan_potential'),
        code.plan,
    )

    // The largest first. e.g. [[id: 'batch_0007.12', batch: 'batch_0007', size: 1.02, core_seconds: …], /work/…/jobs/batch_0007.12.json]
    ch_jobs = PLAN_POTENTIAL.out.jobs
        .combine(PLAN_POTENTIAL.out.plan)
        .flatMap { found -> Sizes.ofJobs(found.init(), found.last()) }

    PLACE_POTENTIAL(
        ch_jobs,
        files.protocol,
        files.table,
        files.pseudo_dir,
        settings.baseline_relax == 'mlip' ? ch_mlip : [],
        parameters.forStage('place_potential'),
        code.place,
    )

    // Sorted, and a batch without a job is not lost.
    ch_results = PLACE_POTENTIAL.out.result
        .map { meta, result -> tuple(meta.batch, result) }
        .groupTuple(sort: { one, other -> one.name <=> other.name })
    ch_with_results = ch_asked.yes
        .map { meta, batch -> tuple(meta.id, meta, batch) }
        .join(ch_results, remainder: true)
        .map { _id, meta, batch, results -> tuple(meta, batch, results ?: []) }

    GATHER_POTENTIAL(ch_with_results, PLAN_POTENTIAL.out.plan, code.gather)

    emit:
    batch  = ch_asked.no.mix(GATHER_POTENTIAL.out.batch)
    plan   = PLAN_POTENTIAL.out.plan
    files  = PLAN_POTENTIAL.out.plan.mix(PLACE_POTENTIAL.out.files)
    record = PLAN_POTENTIAL.out.record.mix(PLACE_POTENTIAL.out.record, GATHER_POTENTIAL.out.record)
}
