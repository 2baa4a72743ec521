import nextflow.Nextflow

/**
 * The potentials that --mlip and --mlip_rank name: a name that xtalfill knows, a model file of the
 * nequip package, or a model published at nequip.net.
 */
class Potentials {

    private static final List<String> PARAMETERS = ['mlip', 'mlip_rank']
    private static final String PUBLISHED = 'nequip.net:'

    /** What has to be downloaded: [[id: parameter], name]. */
    static List<List> published(Map settings) {
        PARAMETERS.findAll { name -> isPublished(settings[name]) }.collect { name -> [[id: name], settings[name]] }
    }

    /** What is there: [[id: parameter], file]; the file is [] where the parameter is a name or not given. */
    static List<List> files(Map settings) {
        PARAMETERS.findAll { name -> !isPublished(settings[name]) }.collect { name -> [[id: name], file(settings[name])] }
    }

    /** The name of the file of a published model. */
    static String fileName(String published) {
        "${published.minus(PUBLISHED).replaceAll(/[^A-Za-z0-9.-]+/, '_')}.nequip.zip".toString()
    }

    /** One line where --mlip_compile has nothing to compile. */
    static List<String> problems(Map settings) {
        def packaged = PARAMETERS.any { name -> isPublished(settings[name]) || settings[name]?.endsWith('.nequip.zip') }
        settings.mlip_compile && !packaged
            ? ['--mlip_compile: only models of the nequip package can be compiled (.nequip.zip, nequip.net:); --mlip names none'] : []
    }

    private static boolean isPublished(String mlip) {
        mlip?.startsWith(PUBLISHED)
    }

    private static Object file(String mlip) {
        mlip?.contains('.nequip.') ? Nextflow.file(mlip, glob: false) : []
    }
}
