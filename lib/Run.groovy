import java.nio.file.Path
import java.time.Instant
import nextflow.Global
import nextflow.Nextflow

/** What main.nf needs beside the method: parameters, files of the project, messages, the folder of the results. */
class Run {

    final Parameters parameters
    final Map settings
    final Registry registry
    final Potentials potentials
    final List<Path> weights
    private final Path project
    private final Object workflow
    private final StageCode code
    private final Path launch
    private Outdir outdir
    private final Map outcome = [:]
    private final Instant started = Instant.now()
    /** null in a stub run, which does not change --outdir. */
    private RunRecord record
    private volatile RunProgress progress

    /**
     * @param project folder of the pipeline
     * @param launch folder where Nextflow was started
     * @param params the parameters as Nextflow has them
     * @param workflow metadata of the run
     */
    Run(Object project, Object launch, Map params, Object workflow) {
        this.project = project as Path
        this.workflow = workflow
        registry = new Registry(this.project.resolve('bin/xtalfill/registry'))
        def given = Potentials.withRanking(params, registry)
        parameters = new Parameters(this.project.resolve('nextflow_schema.json'), registry, given)
        settings = parameters.values()
        potentials = new Potentials(settings, registry, this.project.resolve('assets/potential'))
        weights = Nextflow.files("${project}/assets/weights/*.pt") as List<Path>
        code = new StageCode(this.project.resolve('bin'))
        this.launch = launch as Path
    }

    /** Ends the run with one message if a parameter, a model or an image is wrong; reserves the results' folder. */
    void begin() {
        def records = launch.resolve(".nextflow/pipeline_info/${ProcessHandle.current().pid()}")
        outdir = new Outdir(settings.outdir.toString(), records)
        def problems = parameters.problems() ?:
            ScoreModels.problems(settings, weights, registry) + potentials.problems() +
            Images.problems(settings, registry, workflow.containerEngine, workflow.manifest.version)
        if (problems) {
            def lines = problems.join('\n  ')
            Nextflow.error("${problems.size()} problem(s) with the parameters, nothing was run:\n  ${lines}")
        }
        outdir.take()
        if (!workflow.stubRun) {
            def trace = Global.session.config.navigate('trace.file') as String
            record = new RunRecord(outdir.folder, Path.of(trace), launch, settings, workflow)
            outdir.attempt { record.update() }
        }
    }

    /** After CHECK: plans the run, notes the plan for `xtalfill status`; returns the message. */
    String plan(Path check) {
        def plan = new RunPlan(asset('run_cost.json'), settings, registry.methods(settings)).of(check)
        progress = new RunProgress(plan, started)
        outdir.attempt { record?.update(plan: plan) }
        RunMessages.plan(check, plan, settings, workflow.workDir)
    }

    /** Counts a finished batch of a stage; returns the line for the terminal, or null where none is due. */
    String advance(String stage, Map meta, Path batch) {
        progress.advance(stage, meta.id as String, batch)
    }

    /** The parameters that a stage reads. */
    Map forStage(String stage) {
        parameters.forStage(stage)
    }

    /** Digest of the code of a command in bin/: an input of each task, so that -resume repeats what an edit changes. */
    String code(String command) {
        code.digest(command)
    }

    /** A file of assets/. */
    Path asset(String name) {
        project.resolve('assets').resolve(name)
    }

    /** The file or folder that a parameter names; [] where it is not given. */
    Object given(String name) {
        settings[name] ? Nextflow.file(settings[name], glob: false) : []
    }

    /** A digest of the states of the files in the folders that parameters name; empty where they name files or servers. */
    String states(List<String> names) {
        InputFiles.states(names.findAll { name -> !server(name) }.collect { name -> given(name) })
    }

    /** The URL of the server that a parameter names; null where it names a file, a folder or nothing. */
    String server(String name) {
        def value = settings[name] as String
        value ==~ /(?i)(https?|postgres(ql)?):\/\/.*/ ? value : null
    }

    /** The files and folders that a parameter names, separated by commas. */
    List allGiven(String name) {
        ScoreModels.paths(settings[name]).collect { path -> Nextflow.file(path, glob: false) }
    }

    /** The files of the DFT calculations: [protocol:, table:, cost:, pseudo_dir:]. */
    Map dft() {
        Validation.files(settings, asset(''))
    }

    /** Whether the method potential is one of the methods: the subworkflow BASELINE fills it. */
    boolean hasBaseline() {
        registry.methods(settings).any { Map method -> method.stage == 'baseline' }
    }

    /** The parameters and versions of the run as JSON, for REPORT. */
    String provenance() {
        Provenance.json(settings, workflow, recipe())
    }

    /** What CHECK asks of the results database, as JSON; [] without one. */
    Object request() {
        settings.database ? Parameters.json([database: database(), redo: settings.redo, recipe: recipe()]) : []
    }

    /** What REGISTER notes about the run, as JSON; none without a results database. */
    List<String> registration() {
        !settings.database ? [] : [Parameters.json([database: database(), uid: uid(), *: Provenance.of(settings, workflow)])]
    }

    /** Where STORE writes, and what decides the results, as JSON; empty without a results database. */
    String stored() {
        !settings.database ? '' : Parameters.json([database: database(), uid: uid(), recipe: recipe()])
    }

    /** The same after -resume. */
    private String uid() {
        workflow.sessionId.toString()
    }

    private Map recipe() {
        def kinds = registry.methods(settings)*.weights
        def models = allGiven('model') ?: weights.findAll { Path file -> file.baseName in kinds }
        Recipe.of(parameters.properties(), settings, hasBaseline(), models as List<Path>, potentials)
    }

    /** The URL of the results database, or the absolute path of its file. */
    private String database() {
        def given = settings.database as String
        given.contains('://') ? given : Nextflow.file(given, glob: false).toAbsolutePath().toString()
    }

    /**
     * Publishes the results: [folder inside --outdir, file].
     *
     * The last message needs some of the files, and publish_dir_mode `move` moves them: it is read first.
     */
    void publish(List<List> results) {
        outcome.putAll(RunMessages.outcome(results))
        outdir.publish(results, settings)
    }

    /** Notes how the run ended. */
    void end() {
        record?.end(workflow.success, workflow.success ? null : RunMessages.reason(workflow.errorReport, workflow.errorMessage))
    }

    /** The last message of a run. */
    String summary() {
        RunMessages.summary(settings, outcome, workflow.duration)
    }

    /** After a failure: publishes the refusals of CHECK, if it refused all structures; returns the last message. */
    String failure() {
        def refusals = RunMessages.refusals(workflow.errorReport)
        if (refusals) {
            outdir.publish(refusals, settings)
        }
        RunMessages.failure(workflow.errorReport, workflow.exitStatus, settings.outdir)
    }
}
