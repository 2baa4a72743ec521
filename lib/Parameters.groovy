import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow
import org.codehaus.groovy.runtime.MethodRankHelper

/**
 * The pipeline's parameters as nextflow_schema.json describes them: checked, typed, explained.
 *
 * Reads the part of JSON Schema (draft 2020-12) that the file uses: groups of properties with
 * type, enum, pattern, bounds, required and anyOf, one `if` on constants, nf-schema's `exists` for paths. Our own are
 * `separator` (stands between several values), `registry` (the names of `methods` or `potentials` are possible),
 * `words` (a word -> the parameters that it stands for), `stages` (which read the parameter; `workflow` for
 * main.nf, lib/ and conf/) and `recipe` (lib/Recipe.groovy).
 */
class Parameters {

    private static final List<String> NEXTFLOW_OPTIONS = ['resume', 'profile', 'name', 'stub', 'bg', 'latest']

    /** What MethodRankHelper counts for one wrong letter. */
    private static final int EDIT = 10

    private final Map schema
    private final Registry registry
    private final Map given

    /**
     * @param file the schema
     * @param registry what the schema's `registry` refers to
     * @param given the parameters of the run: defaults, profiles, files and command line together
     */
    Parameters(Path file, Registry registry, Map given) {
        schema = new JsonSlurper().parse(file) as Map
        this.registry = registry
        this.given = inFull(given)
    }

    /** The schema's `words` stand for values of several parameters; what is given beside them counts. */
    private Map inFull(Map given) {
        def meant = properties().findResults { String name, Map spec ->
            spec.words?.get(given[name]?.toString())?.findAll { key, _value -> key == name || given[key] == null }
        }
        meant.inject(given) { Map all, Map values -> all + values }
    }

    /** The groups in the order of the file: [title:, required:, properties:]. */
    private List<Map> groups() {
        schema.allOf.collect { Map reference -> schema['$defs'][reference['$ref'].tokenize('/').last()] as Map }
    }

    /** Each parameter with its part of the schema. */
    Map<String, Map> properties() {
        groups().collectEntries { Map group -> group.properties } as Map<String, Map>
    }

    /** One line for each thing that is wrong with the given parameters; empty when nothing is. */
    List<String> problems() {
        def known = properties()
        def unknown = given.keySet().findAll { name -> !known.containsKey(name) && !isAlias(name) }
        def required = groups().collectMany { Map group -> group.required ?: [] } + requiredHere()
        unknown.collect { name -> explainUnknown(name, known.keySet()) } +
            known.collectMany { name, spec ->
                def value = typed(given[name], spec)
                def problem = value == null
                    ? (name in required ? "required, but not given: ${spec.description}" : null)
                    : problemOf(value, spec)
                problem ? ["--${name}: ${problem}".toString()] : []
            }
    }

    /** What is required under the condition of the schema's `if`: a constant for each of its properties. */
    private List<String> requiredHere() {
        def holds = schema.if.properties.every { name, rule -> given[name] == rule.const }
        schema[holds ? 'then' : 'else'].required as List<String>
    }

    /** The parameters of the schema with their right types: the strict parser of Nextflow and YAML leave text. */
    Map values() {
        properties().collectEntries { name, spec -> [name, typed(given[name], spec)] }
    }

    /**
     * The parameters that a stage reads, sorted. They are an input of its tasks: the tasks run again when one of them
     * changes, and when no other does.
     */
    Map forStage(String stage) {
        def names = properties().findAll { _name, spec -> stage in spec.stages }.keySet()
        assert names : "nextflow_schema.json: no parameter has the stage ${stage}"
        new TreeMap(values().subMap(names))
    }

    /** One line of JSON. A quoted heredoc takes it into a task, so that the shell sees no value of a parameter. */
    static String json(Map settings) {
        JsonOutput.toJson(settings)
    }

    /** Options of a command that takes no JSON: `--name value`, without the prefix; `--name` for true. */
    static String flags(Map settings, String prefix) {
        settings.findAll { _name, value -> value != null && value != false }
            .collect { name, value -> "--${name - prefix}${value == true ? '' : " '${value}'"}" }
            .join(' ')
    }

    /** The text of --help. */
    String help() {
        def blocks = groups().collect { Map group ->
            def rows = group.properties.collect { name, spec ->
                def value = given[name] == null ? '' : " [${given[name]}]"
                def type = spec.enum ? spec.enum.join('|') : spec.type
                "  --${name.padRight(20)} ${spec.description}\n${' ' * 25}${type}${value}${named(spec)}"
            }
            "${group.title}: ${group.description}\n${rows.join('\n')}"
        }
        """\
        |xtalfill: ${schema.description}
        |
        |  nextflow run main.nf --input hosts.csv --outdir results [-profile slurm,gpu,apptainer] [-resume]
        |
        |${blocks.join('\n\n')}
        |
        |Profiles: standard, slurm, gpu, apptainer, docker, podman, test, demo, textbook, stub, debug; docs/usage.md tells more.
        """.stripMargin().stripTrailing()
    }

    /** For --help: what the registry has for a parameter, a line each. */
    private String named(Map spec) {
        def kind = kindOf(spec)
        def rows = kind ? registry.summaries(kind) : [:]
        rows.collect { name, text -> "\n${' ' * 25}${name.padRight(12)} ${text}" }.join()
    }

    private static String kindOf(Map spec) {
        ([spec] + (spec.anyOf ?: [])).findResult { Map rules -> rules.registry }
    }

    /** Nextflow adds max-steps to maxSteps: one mistake, one line. */
    private boolean isAlias(String name) {
        def camel = name.replaceAll(/-(.)/) { List<String> match -> match[1].toUpperCase() }
        camel != name && given.containsKey(camel)
    }

    private static String explainUnknown(String name, Set<String> known) {
        if (name in NEXTFLOW_OPTIONS) {
            return "--${name}: unknown parameter; the option of Nextflow is written with one dash: -${name}".toString()
        }
        def snake = name.replaceAll(/([a-z0-9])([A-Z])/, '$1_$2').replace('-', '_').toLowerCase()
        def nearest = known.min { candidate -> distance(candidate, snake) }
        def hint = distance(nearest, snake) <= Math.max(2, snake.size().intdiv(2)) * EDIT
            ? "did you mean --${nearest}?" : '--help lists them all'
        "--${name}: unknown parameter; ${hint}".toString()
    }

    private static int distance(String one, String other) {
        MethodRankHelper.damerauLevenshteinDistance(one as Character[], other as Character[])
    }

    /** Turns text and numbers into the schema's type where that loses nothing; leaves the rest to `problemOf`. */
    private static Object typed(Object value, Map spec) {
        def text = value?.toString()
        if (spec.type == 'boolean' && text in ['true', 'false']) {
            return text.toBoolean()
        }
        if (spec.type == 'integer' && text ==~ /[+-]?\d{1,18}/) {
            def number = text.toLong()
            return number == number.intValue() ? number.intValue() : number
        }
        if (spec.type == 'number' && value instanceof CharSequence && text.isBigDecimal()) {
            return text.toBigDecimal()
        }
        spec.type == 'string' && (value instanceof Number || value instanceof CharSequence) ? text : value
    }

    private String problemOf(Object value, Map spec) {
        def types = [string: String, integer: Number, number: Number, boolean: Boolean]
        def right = types[spec.type].isInstance(value)
            && (spec.type != 'integer' || value instanceof Integer || value instanceof Long)
        if (!right) {
            return value == true ? 'needs a value' : "'${value}' is not of type ${spec.type}"
        }
        def branches = spec.anyOf ? spec.anyOf.collect { Map branch -> violation(value, branch, spec) } : [null]
        null in branches ? violation(value, spec, spec) : branches.last()
    }

    /** The first rule of `rules` that the value breaks, or null. */
    private String violation(Object value, Map rules, Map spec) {
        def kind = kindOf(spec)
        def message = kind ? spec.errorMessage.replace('{names}', registry.names(kind).join(', ')) : spec.errorMessage
        if (rules.registry && !isNamed(value as String, rules)) {
            return "'${value}' is not possible; ${message}"
        }
        if (rules.enum && !(value in rules.enum)) {
            return "'${value}' is not possible; ${message ?: "give one of ${rules.enum.join(', ')}"}"
        }
        if (rules.pattern && !(value =~ rules.pattern)) {
            return "'${value}' is not possible; ${message ?: "it has to match ${rules.pattern}"}"
        }
        if (rules.minimum != null && value < rules.minimum) {
            return "${value} is too small; the least is ${rules.minimum}"
        }
        if (rules.exclusiveMinimum != null && value <= rules.exclusiveMinimum) {
            return "${value} is too small; it has to be above ${rules.exclusiveMinimum}"
        }
        if (rules.maximum != null && value > rules.maximum) {
            return "${value} is too large; the most is ${rules.maximum}"
        }
        rules.exists ? paths(value as String, spec).findResult { path -> missing(path, rules.format as String) } : null
    }

    /** Whether the registry has the value, or each of several, given once. */
    private boolean isNamed(String value, Map rules) {
        def parts = rules.separator ? value.split(rules.separator as String, -1) as List : [value]
        parts.every { part -> part in registry.names(rules.registry as String) } && parts.unique(false) == parts
    }

    /** The paths in a value. */
    private static List<String> paths(String value, Map spec) {
        spec.separator ? value.tokenize(spec.separator as String)*.trim() : [value]
    }

    private static String missing(String value, String format) {
        def path = Nextflow.file(value, glob: false) as Path
        if (!Files.exists(path)) {
            return "there is no ${format == 'file-path' ? 'file' : 'file or folder'} '${value}'"
        }
        if (!Files.isRegularFile(path) && !Files.isDirectory(path)) {
            return "'${value}' is a pipe or a device, which no task can read again; write it into a file first"
        }
        format == 'file-path' && Files.isDirectory(path) ? "'${value}' is a folder; give a file" : null
    }
}
