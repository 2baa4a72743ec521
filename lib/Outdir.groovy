import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.FileSystemException
import java.nio.file.FileVisitOption
import java.nio.file.Files
import java.nio.file.LinkOption
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import nextflow.Nextflow

/**
 * The output folder (--outdir). It is locked during a run and then contains the results of this
 * run only.
 *
 * No results are written while tasks run. `publish` copies all files to a hidden subfolder, renames
 * them to their final names, and removes files of an earlier run that this run did not publish.
 * `.xtalfill/published.json` lists the published files for each kind of run; no other file is
 * removed.
 */
class Outdir {

    final Path folder
    private final Path records
    private final RunLock lock
    private volatile boolean held

    /**
     * @param folder --outdir as given by the user
     * @param records where Nextflow writes its trace and reports during the run (conf/aside.config)
     */
    Outdir(String folder, Path records) {
        this.folder = (Nextflow.file(folder, glob: false) as Path).toAbsolutePath().normalize()
        this.records = records
        lock = new RunLock(own('lock'))
        // Not workflow.onComplete: Nextflow writes its trace and reports after that.
        Runtime.runtime.addShutdownHook(new Thread({ leave() }))
    }

    /** Locks the folder until the process ends. Stops with one line if another run uses it. */
    void take() {
        String refusal = attempt { lock.acquire() }
        if (refusal) {
            Nextflow.error("${refusal}; nothing was run")
        }
        held = true
    }

    /** Shutdown hook: moves Nextflow's trace and reports to the folder and unlocks it. */
    private void leave() {
        try {
            if (held) {
                moveRecords()
            }
        }
        catch (IOException error) {
            System.err.println("pipeline_info/: cannot be written to ${folder}: ${reason(error)}")
        }
        finally {
            removeTree(records)
            if (held) {
                lock.release()
            }
        }
    }

    /**
     * Publishes files.
     *
     * @param given list of [target subfolder, '' for the top level; file or folder]
     * @param settings all parameters
     */
    void publish(List<List> given, Map settings) {
        // Results of inference and of trainings of several methods may share a folder.
        String kind = settings.mode == 'train' ? "train ${settings.train_method}" : settings.mode
        attempt {
            def sources = given.collectMany { place, source -> filesOf(place as String, source as Path) }.collectEntries()
            def stale = published().getOrDefault(kind, []) - sources.keySet()
            def incoming = own('incoming')
            removeTree(incoming)
            try {
                sources.each { name, source -> bring(source, incoming.resolve(name), folder.resolve(name), settings.publish_dir_mode) }
                // List old and new files while both may exist.
                note(kind, sources.keySet() + stale)
                sources.keySet().each { name -> replace(incoming.resolve(name), folder.resolve(name)) }
                stale.each { name -> remove(name) }
                note(kind, sources.keySet())
            }
            finally {
                removeTree(incoming)
            }
        }
    }

    private Path own(String name) {
        folder.resolve('.xtalfill').resolve(name)
    }

    /** Published files by kind of run: [kind: [relative path]]. */
    private Map<String, List<String>> published() {
        def list = own('published.json')
        Files.exists(list) ? new JsonSlurper().parse(list) as Map : [:]
    }

    private void note(String kind, Collection<String> names) {
        def text = JsonOutput.prettyPrint(JsonOutput.toJson(published() + [(kind): names.sort(false)]))
        def list = own('published.json')
        def whole = list.resolveSibling('published.json.new')
        Files.writeString(whole, text + '\n')
        Files.move(whole, list, StandardCopyOption.ATOMIC_MOVE)
    }

    private static List<Map> filesOf(String place, Path source) {
        Files.walk(source, FileVisitOption.FOLLOW_LINKS).withCloseable { found -> found.toList() }
            .findAll { Path file -> Files.isRegularFile(file) }
            .collect { Path file -> [(Path.of(place).resolve(source.parent.relativize(file)).toString()): file] }
    }

    private static void bring(Path source, Path incoming, Path target, String mode) {
        Files.createDirectories(incoming.parent)
        switch (mode) {
            case 'link': Files.createLink(incoming, source.toRealPath()); break
            case 'symlink': Files.createSymbolicLink(incoming, source.toRealPath()); break
            case 'rellink':
                Files.createDirectories(target.parent)
                Files.createSymbolicLink(incoming, target.parent.toRealPath().relativize(source.toRealPath()))
                break
            case 'move': Files.move(source.toRealPath(), incoming); break
            default: Files.copy(source, incoming, StandardCopyOption.COPY_ATTRIBUTES)
        }
    }

    private static void replace(Path incoming, Path target) {
        Files.createDirectories(target.parent)
        Files.move(incoming, target, StandardCopyOption.REPLACE_EXISTING)
    }

    /** Removes a published file and folders that become empty. */
    private void remove(String name) {
        def file = folder.resolve(name).normalize()
        if (!file.startsWith(folder) || Files.isDirectory(file, LinkOption.NOFOLLOW_LINKS)) {
            return
        }
        Files.deleteIfExists(file)
        for (def parent = file.parent; parent != folder && isEmpty(parent); parent = parent.parent) {
            Files.delete(parent)
        }
    }

    private static boolean isEmpty(Path place) {
        Files.isDirectory(place, LinkOption.NOFOLLOW_LINKS) &&
            !Files.list(place).withCloseable { entries -> entries.findAny().present }
    }

    private void moveRecords() {
        if (Files.isDirectory(records)) {
            def target = Files.createDirectories(folder.resolve('pipeline_info'))
            Files.list(records).withCloseable { files -> files.toList() }
                .each { Path file -> Files.move(file, target.resolve(file.fileName), StandardCopyOption.REPLACE_EXISTING) }
        }
    }

    private static void removeTree(Path tree) {
        if (Files.exists(tree)) {
            Files.walk(tree).withCloseable { found -> found.toList() }.reverse().each { Path path -> Files.deleteIfExists(path) }
        }
    }

    /** Runs a closure that writes to the folder; an I/O error stops the run with one line. */
    Object attempt(Closure work) {
        try {
            return work()
        }
        catch (IOException error) {
            Nextflow.error("--outdir: cannot write to ${folder}: ${reason(error)}; " +
                'fix this, then repeat the command with -resume; completed tasks are kept')
        }
    }

    private static String reason(IOException error) {
        error instanceof FileSystemException
            ? "${error.reason ?: error.class.simpleName}${error.file ? " (${error.file})" : ''}" : error.message
    }
}
