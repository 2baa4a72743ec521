import groovy.json.JsonOutput
import java.nio.file.Path
import java.util.concurrent.TimeUnit

/**
 * What REPORT is told of the run.
 *
 * It is an input of a task and so part of its hash: only what is the same when the same command
 * is run again with -resume may enter. Run name, session, times and command line would make
 * every resumed run redo the report; they are in pipeline_info/.
 */
class Provenance {

    static String json(Map settings, Object workflow) {
        JsonOutput.toJson([
            params  : new TreeMap(settings.findAll { name, value -> name != 'help' }),
            workflow: [
                name     : workflow.manifest.name,
                version  : workflow.manifest.version,
                revision : workflow.commitId ?: revision(workflow.projectDir),
                nextflow : workflow.nextflow.version.toString(),
                profile  : workflow.profile,
                container: workflow.containerEngine,
            ],
        ])
    }

    /** The git revision of a local copy, with "-dirty" if it was changed; null without git. */
    private static String revision(Path folder) {
        try {
            def git = new ProcessBuilder('git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
                .directory(folder.toFile()).redirectErrorStream(true).start()
            def text = git.inputStream.text.trim()
            return git.waitFor(10, TimeUnit.SECONDS) && git.exitValue() == 0 ? text : null
        }
        catch (IOException error) {
            return null
        }
    }
}
