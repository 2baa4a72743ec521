import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/**
 * The potentials that --mlip and --mlip_rank name: one of the registry, a model file of the nequip package or of Nequix,
 * or a model published at nequip.net. --potential_dir holds files of published models: these are not downloaded.
 */
class Potentials {

    private static final List<String> PARAMETERS = ['mlip', 'mlip_rank']

    /** As --mlip_rank: only --mlip. */
    private static final String NONE = 'none'
    private static final String PUBLISHED = 'nequip.net:'

    private final Map<String, String> given
    private final boolean compiled
    private final Registry registry
    private final Path folder
    /** Published models that the user has; null where --potential_dir is not given. */
    private final Path store

    /**
     * @param settings all parameters
     * @param folder of the bundled models
     */
    Potentials(Map settings, Registry registry, Path folder) {
        given = settings.subMap(PARAMETERS)
        compiled = settings.mlip_compile
        this.registry = registry
        this.folder = folder
        store = settings.potential_dir ? Nextflow.file(settings.potential_dir, glob: false) as Path : null
    }

    /**
     * The parameters with the potential that ranks: the given one, none, or the default one where its file is there. The
     * default one only follows potentials that need no file: who names a better one ranks by it.
     */
    static Map withRanking(Map given, Registry registry) {
        if (given.mlip_rank == NONE) {
            return [*: given, mlip_rank: null]
        }
        def entry = registry.potential(given.mlip?.toString())
        def store = given.potential_dir ? Nextflow.file(given.potential_dir.toString(), glob: false) as Path : null
        def ranking = registry.ranking()
        def ranks = !given.mlip_rank && entry && !entry.url && store && Files.isRegularFile(store.resolve(fileName(ranking)))
        ranks ? [*: given, mlip_rank: ranking] : given
    }

    /** The models to download: [[id: parameter], name]. */
    List<List> published() {
        given.findAll { _name, mlip -> isDownloaded(mlip) }.collect { name, mlip -> [[id: name], mlip] }
    }

    /** The models on disk: [[id: parameter], file]; no file ([]) where the parameter is a name or not given. */
    List<List> files() {
        given.findAll { _name, mlip -> !isDownloaded(mlip) }.collect { name, mlip -> [[id: name], fileOf(mlip) ?: []] }
    }

    /** The two parameters, with the absolute path of a model file whose elements the registry does not have. */
    Map<String, String> located() {
        given.collectEntries { name, mlip ->
            def file = registry.potential(mlip) ? null : fileOf(mlip)
            [name, file ? file.toAbsolutePath().toString() : mlip]
        }
    }

    /** The two parameters; `file` where the name of a file does not tell which potential it is. */
    Map<String, String> named() {
        given.collectEntries { name, mlip -> [name, isFile(mlip) ? 'file' : mlip] }
    }

    /** The sha256 of the models that are files; none where the name alone decides. */
    Map<String, String> digests() {
        given.collectEntries { name, mlip ->
            def path = isBundled(mlip) || isFile(mlip) ? fileOf(mlip) : null
            [name, registry.potential(mlip)?.sha256 ?: (path && Files.exists(path) ? Recipe.digest(path) : null)]
        }.findAll { _name, sum -> sum }
    }

    /** Å, the longest cutoff of the two. */
    double cutoff() {
        given.values().findAll().collect { mlip -> registry.cutoff(mlip) }.max()
    }

    /** The file name of a published model: one of nequip.net, or else one that the registry has an address of. */
    static String fileName(String published) {
        def name = published.minus(PUBLISHED).replaceAll(/[^A-Za-z0-9.-]+/, '_')
        published.startsWith(PUBLISHED) ? "${name}.nequip.zip".toString() : "${name}.nqx".toString()
    }

    /** One line where --mlip_compile has nothing to compile, one for each model file of another content than recorded. */
    List<String> problems() {
        def damaged = given.findAll { _name, mlip -> isBundled(mlip) && !isSound(bundled(mlip)) }
        def problems = damaged.collect { name, mlip ->
            "--${name} ${mlip}: ${bundled(mlip)} is missing or does not agree with SHA256SUMS beside it; " +
                'check out the project again'
        }
        problems += given.findAll { _name, mlip -> isOther(mlip) }.collect { name, mlip ->
            "--${name} ${mlip}: ${stored(mlip)} is not the published file, its sha256 differs from the recorded one; " +
                "remove it, or use it under its own name with --${name} '${stored(mlip)}'"
        }
        def packaged = given.values().any { mlip ->
            isAtNequipNet(mlip) || (mlip && fileOf(mlip)?.fileName?.toString()?.endsWith('.nequip.zip'))
        }
        if (compiled && !packaged) {
            problems << "--mlip_compile: only models of the nequip package can be compiled " +
                '(.nequip.zip, nequip.net:); --mlip and --mlip_rank name none'
        }
        return problems
    }

    private boolean isBundled(String mlip) {
        registry.potential(mlip)?.bundled
    }

    private boolean isPublished(String mlip) {
        isAtNequipNet(mlip) || registry.potential(mlip)?.url
    }

    private static boolean isAtNequipNet(String mlip) {
        mlip?.startsWith(PUBLISHED)
    }

    private static boolean isFile(String mlip) {
        (mlip?.contains('.nequip.') || mlip?.endsWith('.nqx')) && !isAtNequipNet(mlip)
    }

    private boolean isDownloaded(String mlip) {
        isPublished(mlip) && !stored(mlip)
    }

    /** Whether --potential_dir has another file under the name of a model of the registry. */
    private boolean isOther(String mlip) {
        def recorded = registry.potential(mlip)?.sha256
        def file = recorded ? stored(mlip) : null
        file && file.bytes.digest('SHA-256') != recorded
    }

    /** The file of a published model in --potential_dir, or null. */
    private Path stored(String mlip) {
        def file = store && isPublished(mlip) ? store.resolve(fileName(mlip)) : null
        file && Files.isRegularFile(file) ? file : null
    }

    /** The model file on disk, or null. */
    private Path fileOf(String mlip) {
        isBundled(mlip) ? bundled(mlip) : isFile(mlip) ? Nextflow.file(mlip, glob: false) as Path : stored(mlip)
    }

    private Path bundled(String name) {
        folder.resolve(registry.potential(name).bundled.toString())
    }

    private static boolean isSound(Path model) {
        def sums = model.resolveSibling('SHA256SUMS')
        Files.exists(model) && Files.exists(sums)
            && sums.readLines().contains("${model.bytes.digest('SHA-256')}  ${model.fileName}".toString())
    }
}
