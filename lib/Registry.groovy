import groovy.json.JsonSlurper
import java.nio.file.Path

/** The proposal methods and the potentials, from the files that Python reads, too (bin/xtalfill/registry). */
class Registry {

    /** Å, for a model file or a published model: its cutoff is not known before it is loaded. */
    private static final double UNLISTED_CUTOFF = 5.0

    private final Map<String, Map<String, Map>> entries

    /** @param folder holds methods.json and potentials.json */
    Registry(Path folder) {
        entries = ['methods', 'potentials'].collectEntries { kind ->
            def found = new JsonSlurper().parse(folder.resolve("${kind}.json")) as List<Map>
            [kind, found.collectEntries { Map entry -> [entry.name, entry] }]
        }
    }

    /** @param kind `methods` or `potentials` */
    List<String> names(String kind) {
        entries[kind].keySet() as List
    }

    /** Name and one sentence of each entry, for --help. */
    Map<String, String> summaries(String kind) {
        entries[kind].collectEntries { name, entry -> [name, entry.documentation.summary] }
    }

    /** The entries of the methods that --method names. */
    List<Map> methods(Map settings) {
        settings.method.tokenize(',').collect { name -> entries.methods[name] }
    }

    /** The entry of a potential; null for a model file and a published model. */
    Map potential(String mlip) {
        entries.potentials[mlip]
    }

    /** The name of the potential that ranks where --potential_dir has its file. */
    String ranking() {
        entries.potentials.find { _name, entry -> entry.ranks }.key
    }

    /** Å, the cutoff of a potential. */
    double cutoff(String mlip) {
        (potential(mlip)?.cutoff ?: UNLISTED_CUTOFF) as double
    }
}
