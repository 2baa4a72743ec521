#!/usr/bin/env nextflow
/*
 * xtalfill fills the missing sites of crystal structures.
 *
 *   INPUT     reads the hosts (FETCH_INPUT: from a server), refuses what cannot be used and says why,
 *             writes batches (CHECK)
 *   INPAINT   proposes candidates: places the missing sites in the exact host
 *   BASELINE  method potential: places them at maxima of the DFT electrostatic potential (pw.x, pp.x)
 *   RELAX     keeps the best proposals; relaxes the filled sites, then all positions, with a potential;
 *             continues with a second potential if one is given (POTENTIALS prepares their files)
 *   SELECT    ranks the candidates of each structure by energy, numbers the distinct minima
 *   VALIDATE  with --validate: relaxes the best candidates and the true structures with pw.x
 *   EVALUATE  checks the minima; compares with the true structures, if they are given
 *   STORE     with --database: writes each batch into the results database (REGISTER: notes the run there)
 *   COLLECT   writes tables and structure files
 *   REPORT    writes report.html and provenance.json
 *
 * With --mode scan the pipeline finds the structures of a database that are incomplete instead (SCAN),
 * with --mode train it trains a score model (TRAIN).
 * A batch is one HDF5 file; each stage copies it and adds its results. A structure that fails
 * carries the reason through all stages and never ends the run.
 */

include { INPUT      } from './subworkflows/input/main'
include { INPAINT    } from './modules/inpaint/main'
include { BASELINE   } from './subworkflows/baseline/main'
include { POTENTIALS } from './subworkflows/potentials/main'
include { RELAX      } from './modules/relax/main'
include { SELECT     } from './modules/select/main'
include { VALIDATE   } from './subworkflows/validate/main'
include { EVALUATE   } from './modules/evaluate/main'
include { REGISTER   } from './modules/register/main'
include { STORE      } from './modules/store/main'
include { COLLECT    } from './modules/collect/main'
include { REPORT     } from './modules/report/main'
include { SCAN       } from './subworkflows/scan/main'
include { TRAIN      } from './modules/train/main'

workflow {
    def run = new Run(projectDir, launchDir, params, workflow)
    if (params.help.toString() == 'true') {
        println(run.parameters.help())
        exit(0)
    }
    run.begin()

    if (run.settings.mode == 'train') {
        TRAIN(
            run.allGiven('train_data'), run.given('train_start'), run.asset('gemnet-dT.json'),
            ScoreModels.trainingFolder(run.settings), run.forStage('train'), run.code('train.py'),
        )

        ch_last = TRAIN.out.weights
        ch_results = TRAIN.out.weights.mix(TRAIN.out.log, TRAIN.out.picture).map { file -> ['weights', file] }
    }
    else if (run.settings.mode == 'scan') {
        SCAN(run)

        ch_last = SCAN.out.findings
        ch_results = SCAN.out.findings.mix(SCAN.out.fetched).map { file -> ['pipeline_info', file] }
            .mix(SCAN.out.tables.flatten().mix(SCAN.out.hosts).map { file -> ['', file] })
    }
    else {
        INPUT(run)
        INPAINT(INPUT.out.batch, run.weights, run.allGiven('model'), run.forStage('inpaint'), run.code('inpaint.py'))
        POTENTIALS(run)
        BASELINE(INPUT.out.batch, INPAINT.out.batch, POTENTIALS.out.mlip, run)
        RELAX(
            BASELINE.out.batch, POTENTIALS.out.mlip, POTENTIALS.out.mlip_rank,
            run.forStage('relax'), run.code('relax.py'),
        )
        SELECT(RELAX.out.batch, run.code('select_candidates.py'))
        VALIDATE(SELECT.out.batch, run)
        EVALUATE(VALIDATE.out.batch, run.given('competing_phases'), run.code('evaluate.py'))

        // The refused structures have a part, but no batch.
        ch_parts = EVALUATE.out.batch.map { meta, batch -> tuple(meta.id, batch) }
            .mix(INPUT.out.part.filter { name, _part -> name == 'refused' }.map { name, _part -> tuple(name, []) })
            .join(INPUT.out.part)
            .map { name, batch, part -> tuple([id: name], part, batch) }
        REGISTER(channel.fromList(run.registration()))
        STORE(ch_parts, run.stored(), REGISTER.out.since.first(), run.code('store.py'))

        // Sorted: the order in which tasks end must not change what -resume compares.
        ch_evaluated = EVALUATE.out.batch.map { _meta, batch -> batch }
            .toSortedList { one, other -> one.name <=> other.name }
        ch_records = INPAINT.out.record
            .mix(INPUT.out.record, BASELINE.out.record, POTENTIALS.out.record, RELAX.out.record, SELECT.out.record)
            .mix(VALIDATE.out.record, EVALUATE.out.record)
            .toSortedList { one, other -> one.name <=> other.name }

        COLLECT(INPUT.out.check, ch_evaluated, run.code('collect.py'))
        REPORT(
            INPUT.out.check, ch_evaluated, COLLECT.out.evaluation, ch_records,
            run.provenance(), run.code('report.py'),
        )

        // Each result with its folder in --outdir.
        ch_last = REPORT.out.report
        ch_tables = COLLECT.out.tables.mix(COLLECT.out.frames, COLLECT.out.structures, COLLECT.out.evaluation)
        ch_results = INPUT.out.check.mix(INPUT.out.fetched).map { file -> ['pipeline_info', file] }.mix(
            EVALUATE.out.batch.map { _meta, batch -> ['batches', batch] },
            BASELINE.out.files.map { file -> ['potential', file] },
            VALIDATE.out.files.map { file -> ['dft', file] },
            ch_tables.mix(REPORT.out.report, REPORT.out.provenance).flatten().map { file -> ['', file] },
        )

        if (!workflow.stubRun) {
            ch_plan = INPUT.out.check.map { check -> run.plan(check) }
            ch_plan.subscribe { plan -> log.info(plan) }
            INPAINT.out.batch.map { meta, batch -> ['INPAINT', meta, batch] }
                .mix(RELAX.out.batch.map { meta, batch -> ['RELAX', meta, batch] })
                .mix(EVALUATE.out.batch.map { meta, batch -> ['EVALUATE', meta, batch] })
                .combine(ch_plan)
                .map { stage, meta, batch, _plan -> run.advance(stage, meta, batch) }
                .filter { line -> line }
                .subscribe { line -> log.info(line) }
            BASELINE.out.plan.subscribe { plan -> log.info(RunMessages.baseline(plan)) }
            VALIDATE.out.plan.subscribe { plan -> log.info(RunMessages.validation(plan)) }
            POTENTIALS.out.compiled.subscribe { record -> log.info(RunMessages.compiled(record)) }
        }
    }

    // Only a run that reaches its last step changes --outdir; a stub run never does.
    ch_last
        .combine(ch_results.toList().map { results -> [results] })
        .filter { !workflow.stubRun }
        .subscribe { _last, results -> run.publish(results) }

    workflow.onComplete = {
        run.end()
        if (workflow.success && !workflow.stubRun) {
            log.info(run.summary())
        }
    }
    workflow.onError = { System.err.println(run.failure()) }
}
