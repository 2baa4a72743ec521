import groovy.json.JsonOutput
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.time.Instant

/** `<outdir>/.xtalfill/run.json`: what `xtalfill status` cannot see in the trace and the work folder. */
class RunRecord {

    private static final List<String> SETTINGS = [
        'mode', 'method', 'samples', 'mlip', 'mlip_rank', 'device', 'relax_cpus', 'dft_cpus', 'validate',
    ]

    private final Path file
    private final Map content

    /**
     * @param folder --outdir
     * @param trace the trace of this run, as Nextflow writes it now
     * @param launch folder where Nextflow was started
     */
    RunRecord(Path folder, Path trace, Path launch, Map settings, Object workflow) {
        file = folder.resolve('.xtalfill').resolve('run.json')
        content = [
            name    : workflow.runName,
            session : workflow.sessionId.toString(),
            started : Instant.now().toString(),
            host    : RunLock.host(),
            pid     : ProcessHandle.current().pid(),
            cores   : Runtime.runtime.availableProcessors(),
            launch  : launch.toString(),
            work    : (workflow.workDir as Path).toAbsolutePath().toString(),
            trace   : trace.toAbsolutePath().toString(),
            settings: settings.subMap(SETTINGS),
            plan    : null,
            ended   : null,
            success : null,
            message : null,
        ]
    }

    /** Adds entries and replaces the file at once; readers never see half of it. */
    synchronized void update(Map more = [:]) {
        content.putAll(more)
        def whole = file.resolveSibling('run.json.new')
        Files.writeString(whole, JsonOutput.toJson(content) + '\n')
        Files.move(whole, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
    }

    /** Notes how the run ended; on a full disk, which the run has reported, nothing. */
    void end(boolean success, String message) {
        try {
            update(ended: Instant.now().toString(), success: success, message: message)
        }
        catch (IOException unwritable) {
            return
        }
    }
}
