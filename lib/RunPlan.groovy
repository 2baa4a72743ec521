import groovy.json.JsonSlurper
import java.nio.file.Path

/**
 * What a run will cost: estimated after CHECK from the sizes of the structures (assets/run_cost.json, which
 * tools/fit_run_cost.py fits to finished runs).
 *
 * A task takes `task` + `atom` x (sum over its candidates of n_atoms^`exponent`) core-seconds. INPAINT scales with the
 * evaluations of the network; the second potential of RELAX has an entry of its own.
 */
class RunPlan {

    private static final List<String> STAGES = ['INPAINT', 'RELAX', 'SELECT', 'EVALUATE']

    private final Map model
    private final Map settings
    private final List<String> methods
    /** The methods that evaluate a network; the others take no time beside that of DFT, which has its own plan. */
    private final List<String> networks
    /** Why the estimate is incomplete. */
    private final Set<String> missing = []

    /**
     * @param model assets/run_cost.json
     * @param methods the methods of the run, of the registry
     */
    RunPlan(Path model, Map settings, List<Map> methods) {
        this.model = new JsonSlurper().parse(model) as Map
        this.settings = settings
        this.methods = methods*.name
        networks = methods.findAll { Map method -> method.weights }*.name
    }

    /**
     * The plan of a run.
     *
     * @return [structures, refused, candidates, tasks, core_seconds: of each stage, spread, bytes, missing, batches:
     * name -> [structures, candidates, core_seconds: of each stage]]
     */
    Map of(Path check) {
        def found = new JsonSlurper().parse(check) as Map
        def batches = (found.structures ?: []).groupBy { Map one -> one.batch - '.h5' }
            .collectEntries { name, structures -> [name, batch(structures as List<Map>)] }
        def database = !settings.database ? 0 : found.failures ? 2 : 1 // REGISTER, and STORE for the refused
        def tasks = batches.size() * perBatch().size() + database + 3 // CHECK, COLLECT and REPORT
        def atoms = (found.structures ?: []).sum(0) { Map one -> one.n_atoms } * candidates()
        [
            structures  : found.structures?.size() ?: 0,
            refused     : found.failures?.size() ?: 0,
            candidates  : batches.values().sum(0) { Map one -> one.candidates },
            tasks       : tasks,
            core_seconds: STAGES.collectEntries { stage -> [stage, batches.values().sum(0.0d) { Map one -> one.core_seconds[stage] }] },
            spread      : model.spread,
            bytes       : Math.round(model.disk.run + model.disk.task * tasks + model.disk.atom * atoms),
            missing     : missing.sort(false),
            batches     : batches,
        ]
    }

    /** The stages with a task for each batch. */
    List<String> perBatch() {
        def baseline = methods.contains('potential') ? ['GATHER_POTENTIAL'] : []
        def dft = settings.validate ? ['GATHER_DFT'] : []
        def store = settings.database ? ['STORE'] : []
        ['INPAINT'] + baseline + ['RELAX', 'SELECT'] + dft + ['EVALUATE'] + store
    }

    private int candidates() {
        methods.size() * (settings.samples as int)
    }

    private Map batch(List<Map> structures) {
        def atoms = structures*.n_atoms
        def samples = settings.samples as int
        def levels = (settings.steps as int) / 100 * (1 + (settings.corrector_steps as int)) * (settings.oversample as int)
        def inpaint = cost('INPAINT', networks, atoms, samples * levels, '--method')
        def relax = cost('RELAX', [settings.mlip.toString()], atoms, candidates(), '--mlip')
        def rank = settings.mlip_rank ? cost('RELAX_RANK', [settings.mlip_rank.toString()], atoms, candidates(), '--mlip_rank') : 0
        [
            structures  : structures.size(),
            candidates  : structures.size() * candidates(),
            core_seconds: [INPAINT: inpaint, RELAX: relax + rank] +
                ['SELECT', 'EVALUATE'].collectEntries { stage -> [stage, cost(stage, [''], atoms, candidates(), stage)] },
        ]
    }

    /** Core-seconds of one task: each candidate of a structure counts `times`. */
    private double cost(String stage, List<String> names, List<Integer> atoms, Number times, String what) {
        names.collect { String name ->
            def entry = model.stages.find { Map one -> one.stage == stage && one.name == name }
            if (!entry) {
                missing << "${what} ${name}".toString()
            }
            entry ? (entry.task as double) + (entry.atom as double) * times * atoms.sum { n -> Math.pow(n, entry.exponent as double) } : 0.0d
        }.sum(0.0d) as double
    }
}
