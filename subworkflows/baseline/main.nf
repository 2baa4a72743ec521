// BASELINE: the candidates of the method potential, from the DFT electrostatic potential of each host. Without that
// method the batches pass unchanged.

include { allBatches; jobsOf; withResults } from '../pw_jobs/main'
include { PLAN_POTENTIAL   } from '../../modules/plan_potential/main'
include { PLACE_POTENTIAL  } from '../../modules/place_potential/main'
include { GATHER_POTENTIAL } from '../../modules/gather_potential/main'

workflow BASELINE {
    take:
    ch_checked // [meta, batch] after CHECK: pw.x does not wait for INPAINT
    ch_batch   // [meta, batch] after INPAINT
    ch_mlip    // file of the potential, [] where it is a name
    run        // Run: parameters, files, digests of the code

    main:
    def dft = run.dft()
    ch_asked = ch_batch.branch { _meta, _batch ->
        yes: run.hasBaseline()
        no: true
    }

    PLAN_POTENTIAL(
        allBatches(ch_checked.filter { run.hasBaseline() }),
        dft.protocol,
        dft.table,
        dft.cost,
        dft.pseudo_dir,
        run.forStage('plan_potential'),
        run.code('plan_potential.py'),
    )
    PLACE_POTENTIAL(
        jobsOf(PLAN_POTENTIAL.out.jobs, PLAN_POTENTIAL.out.plan),
        dft.protocol,
        dft.table,
        dft.pseudo_dir,
        run.settings.baseline_relax == 'mlip' ? ch_mlip : [],
        run.forStage('place_potential'),
        run.code('place_potential.py'),
    )
    GATHER_POTENTIAL(
        withResults(ch_asked.yes, PLACE_POTENTIAL.out.result),
        PLAN_POTENTIAL.out.plan,
        run.code('gather_potential.py'),
    )

    emit:
    batch  = ch_asked.no.mix(GATHER_POTENTIAL.out.batch)
    plan   = PLAN_POTENTIAL.out.plan
    files  = PLAN_POTENTIAL.out.plan.mix(PLACE_POTENTIAL.out.files)
    record = PLAN_POTENTIAL.out.record.mix(PLACE_POTENTIAL.out.record, GATHER_POTENTIAL.out.record)
}
