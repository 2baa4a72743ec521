// VALIDATE: relaxes the best candidates and the references with pw.x, all at the same level, and adds the results to
// the batches. Without --validate the batches pass unchanged.

include { allBatches; jobsOf; withResults } from '../pw_jobs/main'
include { PLAN_DFT   } from '../../modules/plan_dft/main'
include { PW_RELAX   } from '../../modules/pw_relax/main'
include { GATHER_DFT } from '../../modules/gather_dft/main'

workflow VALIDATE {
    take:
    ch_batch // [meta, batch] after SELECT
    run      // Run: parameters, files, digests of the code

    main:
    def dft = run.dft()
    ch_asked = ch_batch.branch { _meta, _batch ->
        yes: run.settings.validate
        no: true
    }

    PLAN_DFT(
        allBatches(ch_asked.yes),
        dft.protocol,
        dft.table,
        dft.cost,
        dft.pseudo_dir,
        run.forStage('plan_dft'),
        run.code('plan_dft.py'),
    )
    PW_RELAX(
        jobsOf(PLAN_DFT.out.jobs, PLAN_DFT.out.plan),
        dft.pseudo_dir,
        run.forStage('pw_relax'),
        run.code('pw_relax.py'),
    )
    GATHER_DFT(withResults(ch_asked.yes, PW_RELAX.out.result), PLAN_DFT.out.plan, run.code('gather_dft.py'))

    emit:
    batch  = ch_asked.no.mix(GATHER_DFT.out.batch)
    plan   = PLAN_DFT.out.plan
    files  = PLAN_DFT.out.plan.mix(PW_RELAX.out.files)
    record = PLAN_DFT.out.record.mix(PW_RELAX.out.record, GATHER_DFT.out.record)
}
