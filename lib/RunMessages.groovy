import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path

/** Messages on the terminal: plan, summary, and report of a failure. */
class RunMessages {

    private static final int MOST_LINES = 10
    /** Exit code of a command after a full disk. If Nextflow itself fails to write, there is none. */
    private static final int FULL = 74

    private static final Map<Integer, String> MEANING = [
        65: 'the input data cannot be used',
        (FULL): 'a file could not be written: the disk or the quota is full',
        75: 'the task stopped and did not complete in the allowed number of attempts',
        78: 'a parameter, a weights file or the installation is invalid',
        126: 'the command is not executable',
        127: 'a command was not found in the environment or the container',
        130: 'interrupted',
        137: 'killed, probably out of memory',
        140: 'killed by the scheduler at the time limit',
        143: 'terminated by SIGTERM',
        255: 'the container or the job could not be started',
        (Integer.MAX_VALUE): 'no exit code: the scheduler killed the job for its memory, or the node failed',
    ]

    /** What a step that refuses every structure leaves in its folder, and where it is published; the reasons last. */
    private static final Map<String, List<List<String>>> REASONS = [
        CHECK          : [['pipeline_info', 'check.json'], ['', 'results.csv'], ['', 'failures.csv']],
        LIST_INCOMPLETE: [['', 'hosts.csv'], ['', 'scan.csv']],
    ]

    private static final Map<Integer, String> NEXT = [
        65: 'correct the input, then repeat the command with -resume',
        (FULL): 'free disk space, then repeat the command with -resume; completed tasks are kept',
        78: 'correct what the message names, then repeat the command with -resume',
        127: "run 'make setup', or use a container profile; then -resume",
        137: 'lower --max_atoms_per_batch or --batch_size, or give the step more memory; then -resume',
        255: 'see the log; every node needs the container engine and access to the images (--container_dir); then -resume',
        (Integer.MAX_VALUE): 'give the step more memory (conf/sites/template.config) or lower --batch_size; then -resume',
        140: 'lower --batch_size or give the step more time (conf/sites/template.config); then -resume',
    ]

    /** After CHECK: numbers of usable structures and candidates, estimated cost, refused structures with reasons. */
    static String plan(Path check, Map plan, Map settings, Object work) {
        def found = new JsonSlurper().parse(check) as Map
        def refused = found.failures ?: []
        def stored = found.stored ?: []
        def methods = settings.method.tokenize(',').size()
        def all = plan.structures + refused.size() + stored.size() + (found.duplicates ?: []).size()
        def lines = ["${plan.structures} of ${all} structures ${stored ? 'are to fill' : 'can be used'}: " +
            "${plan.candidates} candidates (${methods} method(s) x ${settings.samples} samples" +
            "${settings.oversample > 1 ? ", each the best of ${settings.oversample} proposals" : ''})"]
        if (found.duplicates) {
            lines << "${found.duplicates.size()} more are duplicates of these and are not filled (--duplicates keep: they are)"
        }
        if (settings.mlip_rank) {
            lines << "relaxed by ${settings.mlip}, ranked by ${settings.mlip_rank} (--mlip_rank none: by ${settings.mlip})"
        }
        if (found.database) {
            def why = found.reasons.values().countBy { reason -> reason }.sort().collect { reason, count -> "${count} ${reason}" }
            lines << "${stored.size()} stored in ${found.database} with equal input and settings, not filled again (stored.csv)" +
                (why ? "; to fill: ${why.join(', ')}" : '')
        }
        lines += shortened(refused.collect { Map entry -> "  skipped: ${entry.id} (${entry.source}): ${entry.message}" })
        lines += plan.batches ? estimate(plan, settings, work) : []
        lines.join('\n')
    }

    /** The cost of a run, and how to follow it. */
    private static List<String> estimate(Map plan, Map settings, Object work) {
        def whole = plan.core_seconds.values().sum(0.0d) as double
        def dft = settings.validate ? ' and those of the DFT' : ''
        def about = settings.stop_below || settings.merge || settings.drop_above ? 'at most' : 'about'
        def lines = ["plan: ${plan.batches.size()} batch(es), ${plan.tasks} tasks${dft}, ${about} ${hours(whole)} " +
            "(${parts(plan.core_seconds as Map)}; two of three within a factor of ${plan.spread}), ${readableBytes(plan.bytes as long)} in ${work}"]
        if (plan.missing) {
            lines << "  not in the estimate, because never measured: ${plan.missing.join(', ')}"
        }
        if (settings.device == 'cuda') {
            lines << '  the estimate is that of a CPU; no GPU was measured'
        }
        lines + ["follow the run: xtalfill status ${settings.outdir} --watch".toString()]
    }

    private static String hours(double seconds) {
        seconds < 3600 ? "${Math.max(1L, Math.round(seconds / 60))} core-minutes" : "${Math.round(seconds / 360) / 10.0d} core-hours"
    }

    /** The share of each stage that takes more than a twentieth. */
    private static String parts(Map seconds) {
        def whole = seconds.values().sum(0.0d) as double
        seconds.findAll { _stage, part -> part > whole / 20 }
            .collect { stage, part -> "${stage} ${Math.round(100 * part / whole)} %" }.join(', ')
    }

    private static String readableBytes(long bytes) {
        bytes < 1_000_000_000L ? "${Math.max(1L, Math.round(bytes / 1e6))} MB" : "${Math.round(bytes / 1e8) / 10.0d} GB"
    }

    /** After PLAN_DFT: number of DFT jobs, estimated cost, and refused structures with reasons. */
    static String validation(Path plan) {
        def found = new JsonSlurper().parse(plan) as Map
        def refused = found.systems.findAll { Map one -> one.refused }
            .collect { Map one -> "${one.id} (${one.method} ${one.sample}): ${one.refused}" }
        def first = found.first ? ", first ${found.first.size()} of structures on whose minimum the potentials differ" : ''
        dftPlan("DFT of ${found.systems*.id.unique().size()} structures: ${found.estimate.jobs} jobs of pw.x${first}", found, refused)
    }

    /** After PLAN_POTENTIAL: the same for the hosts of the method potential. */
    static String baseline(Path plan) {
        def found = new JsonSlurper().parse(plan) as Map
        def refused = found.hosts.findAll { Map one -> one.refused }.collect { Map one -> "${one.id}: ${one.refused}" }
        dftPlan("DFT of ${found.estimate.jobs} hosts for the method potential", found, refused)
    }

    private static String dftPlan(String what, Map plan, List<String> refused) {
        def cost = plan.estimate
        def lines = ["${what}, estimated ${cost.core_hours} core-hours (two of three jobs within a factor of ${cost.spread}; " +
            "longest job ${cost.core_hours_longest}), protocol ${plan.parameters.protocol.name}"]
        lines += shortened(refused.collect { String one -> "  refused: ${one}" })
        lines.join('\n')
    }

    /** The first lines, and the number of the others. */
    private static List shortened(List lines) {
        def more = lines.size() - MOST_LINES
        lines.take(MOST_LINES) + (more > 0 ? ["  ... and ${more} more, see failures.csv"] : [])
    }

    /** After COMPILE_POTENTIAL: whether RELAX will use the compiled model. */
    static String compiled(Path record) {
        def found = new JsonSlurper().parse(record) as Map
        def reason = found.parameters.not_compiled
        reason ? "WARNING: ${found.batch} could not be compiled and runs eagerly: ${reason}" : "${found.batch} compiled"
    }

    /** [counts: of evaluation.json, failures: rows of failures.csv]; what scan.json says; empty for a training. */
    static Map outcome(List<List> results) {
        def files = results.collectEntries { _place, Path file -> [file.fileName.toString(), file] }
        def evaluation = files['evaluation.json']
        def scan = files['scan.json']
        scan ? new JsonSlurper().parse(scan) as Map : evaluation ? [
            counts  : (new JsonSlurper().parse(evaluation) as Map).counts,
            failures: Files.readAllLines(files['failures.csv']).size() - 1,
        ] : [:]
    }

    /** At the end of a run: counts and output files. */
    static String summary(Map settings, Map outcome, Object duration) {
        settings.mode == 'train'
            ? "xtalfill trained in ${duration}\n  ${settings.outdir}/weights/${settings.train_method}.pt    weights for --model"
            : settings.mode == 'scan' ? scanned(settings, outcome, duration)
            : filled(settings, outcome.counts as Map, outcome.failures as int, duration)
    }

    private static String scanned(Map settings, Map outcome, Object duration) {
        def counts = outcome.counts.collect { status, number -> "${number} ${status}" }.sort().join(', ')
        def open = outcome.n_uncounted ? ", ${outcome.n_uncounted} of them without n_missing (docs/scan.md)" : ''
        """\
        |xtalfill scanned ${outcome.counts.values().sum()} structures in ${duration}: ${counts}
        |  ${settings.outdir}/scan.csv     every structure
        |  ${settings.outdir}/hosts.csv    those to fill${open}
        """.stripMargin().stripTrailing()
    }

    private static String filled(Map settings, Map counts, int failures, Object duration) {
        def outdir = settings.outdir as String
        def matched = counts.structures_with_reference
            ? " -> ${counts.structures_matched} of ${counts.structures_with_reference} match their reference" : ''
        def stored = counts.structures_stored ? " (${counts.structures_stored} more are in ${settings.database})" : ''
        def rows = [
            ['report.html', 'open this in a browser'],
            ['results.csv', 'a row for each structure (candidates.csv: for each candidate)'],
            ['structures/', 'restored crystals as CIF (selected.extxyz: in one file)'],
            ['failures.csv', failures ? "${failures} line(s): what failed or did not converge, and why" : 'empty: nothing failed'],
        ]
        """\
        |xtalfill done in ${duration}
        |  ${counts.structures_in} structures in -> ${counts.structures_checked} valid -> ${counts.structures_restored} converged${matched}${stored}
        |${rows.collect { name, what -> "  ${outdir}/${name}".padRight(outdir.size() + 18) + what }.join('\n')}
        """.stripMargin().stripTrailing()
    }

    /** Files for `Outdir.publish` if no structure can be used or judged, the reasons last; empty after other failures. */
    static List<List> refusals(String errorReport) {
        def step = steps(errorReport).findResult { step -> REASONS.keySet().find { name -> step ==~ /(.+:)?${name}( .*)?/ } }
        def folder = step ? folders(errorReport) : []
        def files = folder ? REASONS[step].collect { place, name -> [place, Path.of(folder.first()).resolve(name)] } : []
        files.every { _place, file -> Files.exists(file) } ? files : []
    }

    private static List<String> steps(String errorReport) {
        ((errorReport ?: '') =~ /Error executing process > '(.+)'/).collect { match -> match[1] }
    }

    private static List<String> folders(String errorReport) {
        ((errorReport ?: '') =~ /Work dir:\s+(\S.*)/).collect { match -> match[1].trim() }
    }

    /** Why a run failed, in one line: step and message; what Nextflow says where no step failed. */
    static String reason(String errorReport, String errorMessage) {
        def report = errorReport ?: ''
        def said = (report =~ /(?m)^\s*ERROR: (.+)$/).collect { match -> match[1] }
        def step = steps(report)
        def what = said ? said.last() : (errorMessage ?: 'ended before its last step').readLines().first().trim()
        step ? "${step.first()}: ${what}" : what ==~ /SIG[A-Z]+/ ? "ended by ${what}" : what
    }

    /** After a failed step: step, exit code, message, log, and what to do next. */
    static String failure(String errorReport, Integer exitStatus, String outdir) {
        def report = errorReport ?: ''
        def step = steps(report)
        if (!step) {
            return ''
        }
        def folder = folders(report)
        def said = (report =~ /(?m)^\s*ERROR: (.+)$/).collect { match -> match[1] }
        def cause = (report =~ /Caused by:\s+(\S.*)/).collect { match -> match[1] }
        def meant = report.contains('No space left on device') ? FULL : exitStatus
        def rows = [
            ['step', step.first()],
            ['exit', exitStatus == null ? 'did not start' : "${exitStatus}: ${MEANING[exitStatus] ?: 'unknown, see the log'}"],
            ['said', said ? said.last() : exitStatus == null && cause ? cause.first() : null],
            ['all', refusals(report) ? "${outdir}/${refusals(report).last()[1].fileName}" : null],
            ['log', folder ? "${folder.first()}/.command.log" : null],
            ['next', NEXT[meant] ?: 'see the log; then repeat the command with -resume; completed tasks are kept'],
        ]
        def bar = '-' * 78
        "${bar}\n" + rows.findAll { name, what -> what }.collect { name, what -> "  ${name.padRight(6)}${what}" }.join('\n') + "\n${bar}"
    }
}
