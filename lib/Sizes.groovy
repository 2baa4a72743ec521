import groovy.json.JsonSlurper
import java.nio.file.Path

/** How large the pieces of work are: what conf/ asks memory and time by. All follow from the pieces themselves. */
class Sizes {

    /** Å, cutoff of SevenNet-0: what counts as an edge here. */
    private static final double CUTOFF = 5.0
    private static final double SPHERE = 4.0 / 3.0 * Math.PI * CUTOFF**3

    /**
     * The batches in check.json: name -> [n_atoms: of all candidates, largest: atoms of the largest crystal,
     * n_edges: of an atom, in the densest crystal].
     */
    static Map<String, Map> ofBatches(Path check) {
        def found = new JsonSlurper().parse(check) as Map
        def candidates = found.parameters ? found.parameters.methods.size() * found.parameters.samples : 0
        found.structures.groupBy { Map one -> one.batch - '.h5' }.collectEntries { name, structures ->
            [name, [
                n_atoms: structures.sum { Map one -> one.n_atoms * (candidates + (one.reference ? 1 : 0)) },
                largest: structures*.n_atoms.max(),
                n_edges: structures.collect { Map one -> Math.ceil(SPHERE * one.n_atoms / one.volume) as int }.max(),
            ]]
        }
    }

    /** The jobs in plan.json: key -> k-points x bands x plane waves, in millions. */
    static Map<String, BigDecimal> ofJobs(Path plan) {
        def found = new JsonSlurper().parse(plan) as Map
        found.systems.findAll { Map one -> one.size }.collectEntries { Map one ->
            ["${one.batch}.${one.calculation}".toString(), one.size]
        }
    }
}
