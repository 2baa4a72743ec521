import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest

/**
 * A digest of the code that a command of bin/ runs.
 *
 * Nextflow hashes the command itself but not the package that it imports: without this, -resume
 * would serve results of older code. Each stage gets the digest of what it imports alone, so
 * that an edit of the report does not redo the relaxations.
 *
 * Data count as code: a file `x.json` with the module `x.py` beside it, any other with the package. Of the registry a
 * command sees `documentation` only if it imports the module of that name: COLLECT and REPORT do.
 */
class StageCode {

    private static final String PACKAGE = 'xtalfill'
    /** What only people read of an entry of the registry, and the module that gives it. */
    private static final String TEXTS = 'documentation'

    private final Path bin
    // The commands share most of the package: each file is read once, each folder listed once.
    private final Map<Path, List<Path>> imported = [:]
    private final Map<String, List<Path>> located = [:]

    StageCode(Path bin) {
        this.bin = bin
    }

    /** Digest of `bin/<command>` and every module of the package that it imports, however deep. */
    String digest(String command) {
        def sha = MessageDigest.getInstance('SHA-256')
        def all = files(command)
        all.each { Path file ->
            sha.update(bin.relativize(file).toString().bytes)
            def whole = !isRegistry(file) || file.resolveSibling("${TEXTS}.py") in all
            sha.update(whole ? Files.readAllBytes(file) : withoutTexts(file))
        }
        sha.digest().encodeHex().toString().take(16)
    }

    /** The files behind the digest, sorted. */
    List<Path> files(String command) {
        Set<Path> found = []
        List<Path> open = [bin.resolve(command)]
        while (open) {
            def file = open.pop()
            if (found.add(file)) {
                open.addAll(imported.computeIfAbsent(file) { Path one -> one.toString().endsWith('.py') ? imports(one) : [] })
            }
        }
        found.sort()
    }

    private static boolean isRegistry(Path file) {
        file.parent.fileName.toString() == 'registry' && file.toString().endsWith('.json')
    }

    private static byte[] withoutTexts(Path file) {
        def entries = new JsonSlurper().parse(file)
        if (!(entries instanceof List)) { // mix.json: nobody reads it but the stages
            return Files.readAllBytes(file)
        }
        def rest = entries.collect { Map entry -> new TreeMap(entry.findAll { name, _value -> name != TEXTS }) }
        JsonOutput.toJson(rest).bytes
    }

    /** The files of the package that one file imports, at the top or inside a function. */
    private List<Path> imports(Path file) {
        // Lines in brackets are joined, so that "from x import (a,\n b)" is one statement.
        def code = file.text.replaceAll(/(?s)\bimport\s*\(([^)]*)\)/) { List<String> m -> "import ${m[1].replaceAll(/\s+/, ' ')}" }
        def lines = code.readLines().findAll { line -> line.contains(PACKAGE) && line.contains('import') }
        def names = lines.collectMany { line ->
            def from = line =~ /^\s*from\s+(${PACKAGE}[\w.]*)\s+import\s+([^#]+)/
            def plain = line =~ /^\s*import\s+(${PACKAGE}[\w.]*)/
            from ? [from[0][1]] + from[0][2].tokenize(', ').collect { name -> "${from[0][1]}.${name}".toString() }
                : plain ? [plain[0][1]] : []
        }
        names.toSet().collectMany { name -> filesOf(name) }
    }

    /** The files of one dotted name: its packages' __init__.py, its module, and data beside an __init__.py. */
    private List<Path> filesOf(String name) {
        def parts = name.tokenize('.')
        (1..parts.size()).collectMany { depth ->
            located.computeIfAbsent(parts.take(depth).join('/')) { place -> filesAt(bin.resolve(place)) }
        }
    }

    private static List<Path> filesAt(Path path) {
        def module = path.resolveSibling("${path.fileName}.py")
        Files.isDirectory(path) ? [path.resolve('__init__.py')] + data(path)
            : Files.isRegularFile(module) ? [module] + data(path.parent, path.fileName.toString()) : []
    }

    /** The data of a module in a folder; those that belong to no module where none is named. */
    private static List<Path> data(Path folder, String module = null) {
        def files = Files.list(folder).withCloseable { entries -> entries.toList() }
        def others = files.findAll { Path file -> !file.toString().endsWith('.py') && !file.toString().endsWith('.pyc') }
        others.findAll { Path file ->
            def stem = file.fileName.toString().replaceFirst(/\.[^.]*$/, '')
            Files.isRegularFile(file) && (module ? stem == module : !Files.exists(folder.resolve("${stem}.py")))
        }
    }
}
