import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest

/**
 * What decides the result of a structure beside its host: settings and weights, for the results database.
 *
 * A parameter counts if a stage of this run reads it, unless the schema says `recipe: false`: its value changes no
 * result, or CHECK puts it into the host. `recipe: true` adds a parameter of `workflow` that names data of a stage.
 */
class Recipe {

    private static final List<String> VALIDATION = ['plan_dft', 'pw_relax']
    private static final List<String> BASELINE = ['plan_potential', 'place_potential']
    /** Stages that make no result of a structure. */
    private static final List<String> APART = ['workflow', 'train', 'compile_potential']

    /**
     * @param properties parameter -> its part of the schema
     * @param settings all parameters
     * @param baseline whether the method potential is one of the methods
     * @param models files and folders of the score models
     * @param potentials of the run
     * @return [settings:, weights:, defaults:] for xtalfill.database.recipe
     */
    static Map of(Map<String, Map> properties, Map settings, boolean baseline, List<Path> models, Potentials potentials) {
        def idle = APART + (settings.validate ? [] : VALIDATION) + (baseline ? [] : BASELINE)
        def dft = settings.validate || baseline
        def names = properties.findAll { name, spec ->
            spec.recipe == null ? spec.stages.any { stage -> !(stage in idle) }
                : spec.recipe && (name == 'validate' ? settings.validate : dft)
        }.keySet()
        [
            settings: new TreeMap(settings.subMap(names) + potentials.named()),
            weights : new TreeMap([model: models.collect { path -> digest(path) }.sort()] + potentials.digests()),
            defaults: new TreeMap(names.collectEntries { name -> [name, properties[name].default] }),
        ]
    }

    /** The sha256 of a file, or of the names and contents of all files in a folder. */
    static String digest(Path path) {
        def sha = MessageDigest.getInstance('SHA-256')
        def files = Files.walk(path).withCloseable { found -> found.toList() }.findAll { Path file -> Files.isRegularFile(file) }
        files.sort().each { Path file ->
            sha.update(path.relativize(file).toString().bytes) // nothing for a single file
            Files.newInputStream(file).withCloseable { stream ->
                stream.eachByte(1 << 20) { bytes, length -> sha.update(bytes, 0, length) }
            }
        }
        sha.digest().encodeHex().toString()
    }
}
