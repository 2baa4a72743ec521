import groovy.json.JsonSlurper
import java.nio.file.Path
import nextflow.Nextflow
import nextflow.extension.GroupKey

/** Sizes of batches and jobs. conf/ computes memory and time from them. */
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
     * Time limit of a pw.x job in units of the core-hours that plan.json estimates. After it the job stops and resumes
     * in the next attempt. The slowest of 25 relaxations took 2.8 times the estimate; the rest is for repairs, other
     * protocols and parallel efficiency.
     */
    private static final int MARGIN = 10

    /**
     * Jobs of pw.x with their meta, those that the plan names `first` before the others, the largest first: [id:, batch:, size: k-points x bands x plane waves in millions,
     * core_seconds: its time limit], the last as `unhashed`.
     */
    static List<List> ofJobs(List<Path> jobs, Path plan) {
        def found = new JsonSlurper().parse(plan) as Map
        def known = found.jobs
        def first = (found.first ?: []) as Set
        def missing = jobs*.baseName - known.keySet()
        if (missing) {
            Nextflow.error("${plan}: no estimate for ${missing.join(', ')}; it was written for other jobs")
        }
        jobs.collect { job ->
            def given = unhashed(Math.ceil(MARGIN * 3600 * known[job.baseName].core_hours) as int)
            [[id: job.baseName, batch: job.baseName.tokenize('.').first(), size: known[job.baseName].size, core_seconds: given], job]
        }.sort { one, other ->
            (other[0].id in first) <=> (one[0].id in first) ?: other[0].size <=> one[0].size ?: one[0].id <=> other[0].id
        }
    }

    /**
     * A number in meta that does not enter the hash of a task: read `groupSize` of the returned key. Nextflow hashes
     * only the target of a group key, so a new assets/dft_cost.json repeats no calculation. (-resume cannot read back
     * an object of a class of lib/.)
     */
    static GroupKey unhashed(int number) {
        Nextflow.groupKey('', number)
    }
}
