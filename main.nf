#!/usr/bin/env nextflow
/*
 * xtalfill fills the missing sites of crystal structures.
 *
 *   CHECK     reads the hosts, refuses with a reason what cannot be used, writes batches
 *   INPAINT   proposes candidates: places the missing sites in the exact host
 *   BASELINE  with the method potential: proposes those at maxima of the DFT electrostatic potential (pw.x, pp.x)
 *   RELAX     keeps the best proposals, relaxes the filled sites in the fixed host, then all positions, with a potential;
 *             maybe goes on with a better one that ranks (POTENTIALS downloads and compiles them)
 *   SELECT    ranks the candidates of each structure by energy, tells distinct minima apart
 *   VALIDATE  with --validate: relaxes the best of them and the true structures with pw.x (Quantum ESPRESSO)
 *   EVALUATE  compares with the true structures, where they are given
 *   COLLECT   writes tables and structure files
 *   REPORT    writes report.html and provenance.json
 *
 * With --mode train it does none of this and trains a score model (TRAIN).
 *
 * A batch is one HDF5 file; every stage copies it and adds what it found. A structure that fails
 * carries its reason through all stages and never ends the run.
 */

include { CHECK      } from './modules/check_structures/main'
include { INPAINT    } from './modules/inpaint/main'
include { BASELINE   } from './subworkflows/baseline/main'
include { POTENTIALS } from './subworkflows/potentials/main'
include { RELAX      } from './modules/relax/main'
include { SELECT     } from './modules/select/main'
include { VALIDATE   } from './subworkflows/validate/main'
include { EVALUATE   } from './modules/evaluate/main'
include { COLLECT    } from './modules/collect/main'
include { REPORT     } from './modules/report/main'
include { TRAIN      } from './modules/train/main'

workflow {
    def parameters = new Parameters(file("${projectDir}/nextflow_schema.json"), params)
    if (params.help.toString() == 'true') {
        println(parameters.help())
        exit(0)
    }
    def outdir = new Outdir(params.outdir.toString(), file("${launchDir}/.nextflow/pipeline_info/${ProcessHandle.current().pid()}"))
    def weights = files("${projectDir}/assets/weights/*.pt")
    def potentials = file("${projectDir}/assets/potential")
    def problems = parameters.problems()
        ?: ScoreModels.problems(parameters.values(), weights) + Potentials.problems(parameters.values(), potentials) +
            Images.problems(parameters.values(), workflow.containerEngine, workflow.manifest.version)
    if (problems) {
        error("${problems.size()} problem(s) with the parameters, nothing was run:\n  ${problems.join('\n  ')}")
    }
    def settings = parameters.values()
    outdir.take()

    // A digest of the code behind each command, so that -resume redoes what an edit changes, and only that.
    def code = new StageCode(file("${projectDir}/bin"))

    if (settings.mode == 'train') {
        TRAIN(
            ScoreModels.paths(settings.train_data).collect { name -> file(name, glob: false) },
            settings.train_start ? file(settings.train_start, glob: false) : [],
            file("${projectDir}/assets/gemnet-dT.json"),
            ScoreModels.trainingFolder(settings),
            parameters.forStage('train'),
            code.digest('train.py'),
        )

        ch_last = TRAIN.out.weights
        ch_results = TRAIN.out.weights.mix(TRAIN.out.log, TRAIN.out.picture).map { file -> ['weights', file] }
    }
    else {
        def input = file(settings.input, glob: false)
        def references = settings.references ? file(settings.references, glob: false) : []
        def model_files = ScoreModels.paths(settings.model).collect { name -> file(name, glob: false) }

        CHECK(
            input,
            references,
            InputFiles.named(input) + (references ? InputFiles.named(references) : []),
            parameters.forStage('check') + Potentials.located(settings),
            code.digest('check_structures.py'),
        )

        // e.g. [[id: 'batch_0007', n_atoms: 8000, largest: 64, n_edges: 52], /work/3f/…/batches/batch_0007.h5]
        ch_batches = CHECK.out.batches
            .flatten()
            .combine(CHECK.out.check.map { check -> Sizes.ofBatches(check) })
            .map { batch, sizes -> tuple([id: batch.baseName] + (sizes[batch.baseName] ?: [:]), batch) }

        INPAINT(
            ch_batches,
            weights,
            model_files,
            parameters.forStage('inpaint'),
            code.digest('inpaint.py'),
        )

        POTENTIALS(parameters, potentials, [fetch: code.digest('fetch_potential.py'), compile: code.digest('compile_potential.py')])

        BASELINE(
            ch_batches,
            INPAINT.out.batch,
            POTENTIALS.out.mlip,
            parameters,
            Validation.files(settings, file("${projectDir}/assets")),
            [plan: code.digest('plan_potential.py'), place: code.digest('place_potential.py'), gather: code.digest('gather_potential.py')],
        )

        RELAX(
            BASELINE.out.batch,
            POTENTIALS.out.mlip,
            POTENTIALS.out.mlip_rank,
            parameters.forStage('relax'),
            code.digest('relax.py'),
        )

        SELECT(RELAX.out.batch, code.digest('select_candidates.py'))

        VALIDATE(
            SELECT.out.batch,
            parameters,
            Validation.files(settings, file("${projectDir}/assets")),
            [plan: code.digest('plan_dft.py'), run: code.digest('pw_relax.py'), gather: code.digest('gather_dft.py')],
        )

        EVALUATE(VALIDATE.out.batch, code.digest('evaluate.py'))

        // Sorted: the order in which tasks end must not change what -resume compares.
        ch_evaluated = EVALUATE.out.batch
            .map { _meta, batch -> batch }
            .toSortedList { one, other -> one.name <=> other.name }
        ch_records = INPAINT.out.record
            .mix(BASELINE.out.record, POTENTIALS.out.record, RELAX.out.record, SELECT.out.record, VALIDATE.out.record, EVALUATE.out.record)
            .toSortedList { one, other -> one.name <=> other.name }

        COLLECT(CHECK.out.check, ch_evaluated, code.digest('collect.py'))

        REPORT(
            CHECK.out.check,
            ch_evaluated,
            COLLECT.out.evaluation,
            ch_records,
            Provenance.json(settings, workflow),
            code.digest('report.py'),
        )

        // What a user gets, and where.
        ch_last = REPORT.out.report
        ch_results = CHECK.out.check.map { file -> ['pipeline_info', file] }.mix(
            EVALUATE.out.batch.map { _meta, batch -> ['batches', batch] },
            BASELINE.out.files.map { file -> ['potential', file] },
            VALIDATE.out.files.map { file -> ['dft', file] },
            COLLECT.out.tables.mix(COLLECT.out.frames, COLLECT.out.structures, COLLECT.out.evaluation, REPORT.out.report, REPORT.out.provenance)
                .flatten()
                .map { file -> ['', file] },
        )

        if (!workflow.stubRun) {
            CHECK.out.check.subscribe { check -> log.info(RunMessages.plan(check, settings)) }
            BASELINE.out.plan.subscribe { plan -> log.info(RunMessages.baseline(plan)) }
            VALIDATE.out.plan.subscribe { plan -> log.info(RunMessages.validation(plan)) }
            POTENTIALS.out.compiled.subscribe { record -> log.info(RunMessages.compiled(record)) }
        }
    }

    // A run that does not come to its last step leaves the folder as it was, and so does a stub run. What is told at the
    // end is read from this run's own files, before publish_dir_mode `move` takes them away.
    def outcome = [:]
    ch_last
        .combine(ch_results.toList().map { found -> [found] })
        .filter { !workflow.stubRun }
        .subscribe { _last, found ->
            outcome.putAll(RunMessages.outcome(found))
            outdir.publish(found, settings)
        }

    workflow.onComplete = {
        if (workflow.success && !workflow.stubRun) {
            log.info(RunMessages.summary(settings, outcome, workflow.duration))
        }
    }
    workflow.onError = {
        def refusals = RunMessages.refusals(workflow.errorReport)
        if (refusals) {
            outdir.publish(refusals, settings)
        }
        System.err.println(RunMessages.failure(workflow.errorReport, workflow.exitStatus, settings.outdir))
    }
}
