import groovy.json.JsonSlurper
import java.nio.file.Path

/** The proposal methods and the potentials, from the files that Python reads, too (bin/xtalfill/registry). */
class Registry {

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

    /** Å, the longest cutoff of all potentials: stands for that of a model whose cutoff is not known here. */
    double longestCutoff() {
        entries.potentials.values()*.cutoff.max()
    }
}
