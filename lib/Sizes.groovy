import groovy.json.JsonSlurper
import java.nio.file.Path
import nextflow.Nextflow
import nextflow.extension.GroupKey

/** How large the pieces of work are: what conf/ asks memory and time by. All follow from the pieces themselves. */
class Sizes {

    /**
     * The batches in check.json: name -> [n_atoms: of all candidates, largest: atoms of the largest crystal,
     * n_edges: of an atom, in the densest crystal, as `unhashed`: no proposal is repeated for another potential].
     *
     * @param cutoff Å, of the potential
     */
    static Map<String, Map> ofBatches(Path check, double cutoff) {
        def sphere = 4.0 / 3.0 * Math.PI * cutoff**3
        def found = new JsonSlurper().parse(check) as Map
        def candidates = found.parameters ? found.parameters.methods.size() * found.parameters.samples : 0
        found.structures.groupBy { Map one -> one.batch - '.h5' }.collectEntries { name, structures ->
            [name, [
                n_atoms: structures.sum { Map one -> one.n_atoms * (candidates + (one.reference ? 1 : 0)) },
                largest: structures*.n_atoms.max(),
                n_edges: unhashed(
                    structures.collect { Map one -> Math.ceil(sphere * one.n_atoms / one.volume) as int }.max()
                ),
            ]]
        }
    }

    /**
     * How many times the core-hours that plan.json expects a job of pw.x is given before it stops itself and goes on in
     * its next attempt: the slowest of 25 relaxations took 2.8 times as long, and repairs, other protocols and what
     * cores lose to each other are to fit in, too.
     */
    private static final int MARGIN = 10

    /**
     * Jobs of pw.x with their meta, the largest first: [id:, batch:, size: k-points x bands x plane waves in millions,
     * core_seconds: that it is given], the last as `unhashed`.
     */
    static List<List> ofJobs(List<Path> jobs, Path plan) {
        def known = (new JsonSlurper().parse(plan) as Map).jobs
        def missing = jobs*.baseName - known.keySet()
        if (missing) {
            Nextflow.error("${plan}: no estimate for ${missing.join(', ')}; it was written for other jobs")
        }
        jobs.collect { job ->
            def given = unhashed(Math.ceil(MARGIN * 3600 * known[job.baseName].core_hours) as int)
            [[id: job.baseName, batch: job.baseName.tokenize('.').first(), size: known[job.baseName].size, core_seconds: given], job]
        }.sort { one, other -> other[0].size <=> one[0].size ?: one[0].id <=> other[0].id }
    }

    /**
     * A number for meta that is no part of a task's hash, `groupSize` of what is returned: Nextflow hashes nothing of a
     * group key but what it stands for. So no calculation is repeated for another assets/dft_cost.json. (An object of
     * our own would not do: -resume cannot read back classes of lib/.)
     */
    static GroupKey unhashed(int number) {
        Nextflow.groupKey('', number)
    }
}
