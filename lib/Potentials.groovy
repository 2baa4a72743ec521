import java.nio.file.Files
import java.nio.file.Path

import nextflow.Nextflow

/**
 * The potentials that --mlip and --mlip_rank name: one of SevenNet's, the bundled one, a model file of
 * the nequip package, or a model published at nequip.net.
 */
class Potentials {

    private static final List<String> PARAMETERS = ['mlip', 'mlip_rank']
    private static final String PUBLISHED = 'nequip.net:'
    private static final String BUNDLED = 'nequip-small'

    /** What has to be downloaded: [[id: parameter], name]. */
    static List<List> published(Map settings) {
        PARAMETERS.findAll { name -> isPublished(settings[name]) }.collect { name -> [[id: name], settings[name]] }
    }

    /**
     * What is there: [[id: parameter], file]; the file is [] where the parameter is a name or not given.
     * Bundled models lie in `folder`.
     */
    static List<List> files(Map settings, Path folder) {
        PARAMETERS.findAll { name -> !isPublished(settings[name]) }
            .collect { name -> [[id: name], file(settings[name], folder)] }
    }

    /** The two parameters, a model file by its whole path. */
    static Map<String, String> located(Map settings) {
        PARAMETERS.collectEntries { name -> [name, isFile(settings[name]) ? wholePath(settings[name]) : settings[name]] }
    }

    /** The name of the file of a published model. */
    static String fileName(String published) {
        "${published.minus(PUBLISHED).replaceAll(/[^A-Za-z0-9.-]+/, '_')}.nequip.zip".toString()
    }

    /** A line where --mlip_compile has nothing to compile, another where a bundled model is not what was bundled. */
    static List<String> problems(Map settings, Path folder) {
        def packaged = PARAMETERS.any { name ->
            isPublished(settings[name]) || settings[name] == BUNDLED || settings[name]?.endsWith('.nequip.zip')
        }
        def damaged = PARAMETERS.findAll { name -> settings[name] == BUNDLED && !isSound(bundled(folder)) }
        def problems = damaged.collect { name ->
            "--${name} ${BUNDLED}: ${bundled(folder)} is missing or not what SHA256SUMS beside it says; check out the project again".toString()
        }
        if (settings.mlip_compile && !packaged) {
            problems << "--mlip_compile: only models of the nequip package can be compiled ($BUNDLED, .nequip.zip, nequip.net:); --mlip names none".toString()
        }
        return problems
    }

    private static boolean isPublished(String mlip) {
        mlip?.startsWith(PUBLISHED)
    }

    private static Object file(String mlip, Path folder) {
        mlip == BUNDLED ? bundled(folder) : isFile(mlip) ? Nextflow.file(mlip, glob: false) : []
    }

    private static boolean isFile(String mlip) {
        mlip?.contains('.nequip.') && !isPublished(mlip)
    }

    private static String wholePath(String mlip) {
        (Nextflow.file(mlip, glob: false) as Path).toAbsolutePath().toString()
    }

    private static Path bundled(Path folder) {
        folder.resolve("${BUNDLED}.nequip.zip")
    }

    private static boolean isSound(Path model) {
        def sums = model.resolveSibling('SHA256SUMS')
        Files.exists(model) && Files.exists(sums)
            && sums.readLines().contains("${model.bytes.digest('SHA-256')}  ${model.fileName}".toString())
    }
}
