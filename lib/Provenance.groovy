import groovy.json.JsonOutput
import java.nio.file.Path
import java.util.concurrent.TimeUnit

/**
 * Metadata of the run for REPORT.
 *
 * It is a task input and part of the task hash, so it may contain only data that does not change
 * under -resume. Run name, session, times and command line would rerun REPORT every time; they are
 * in pipeline_info/.
 */
class Provenance {

    /** @param recipe what decides the results (lib/Recipe.groovy) */
    static String json(Map settings, Object workflow, Map recipe) {
        JsonOutput.toJson(of(settings, workflow) + [recipe: recipe])
    }

    /** Parameters and versions. */
    static Map of(Map settings, Object workflow) {
        [
            params  : new TreeMap(settings.findAll { name, value -> name != 'help' }),
            workflow: [
                name        : workflow.manifest.name,
                version     : workflow.manifest.version,
                license     : workflow.manifest.license,
                contributors: workflow.manifest.contributors*.name,
                revision    : workflow.commitId ?: revision(workflow.projectDir),
                nextflow    : workflow.nextflow.version.toString(),
                profile     : workflow.profile,
                container   : workflow.containerEngine,
            ],
        ]
    }

    /** Git revision of a local copy, with "-dirty" if modified; null without git. */
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
