import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest

/**
 * The structure files that an input names: those of a sheet's rows, those in a folder.
 *
 * SHEET_FILES reads the sheets; CHECK alone decides whether a file can be used.
 */
class InputFiles {

    /** The sample sheets among the inputs: [folder that their names are relative to, sheet]. */
    static List<List> sheets(List inputs) {
        inputs.findAll { input -> input instanceof Path && isSheet(input) }
            .collect { Path sheet -> [sheet.toRealPath().parent.toString(), sheet] }
    }

    /** The existing files that a sheet names, from the output of SHEET_FILES: a name on each line. */
    static List<Path> named(String folder, Path names) {
        names.readLines('UTF-8')
            .collect { name -> Path.of(folder).resolve(name).normalize() }
            .findAll { Path file -> Files.isRegularFile(file) }
    }

    /** The files of a list of DIVIDE_INPUT: a whole path on each line. */
    static List<Path> listed(Path names) {
        names.readLines('UTF-8').collect { name -> Path.of(name) }
    }

    /**
     * The files behind links in the folders among the inputs: a container needs them beside the folder itself. Links
     * to folders are not followed.
     */
    static List<Path> inFolders(List inputs) {
        folders(inputs).collectMany { Path folder -> files(folder).findAll { Path file -> Files.isSymbolicLink(file) } }
    }

    /** A digest of names, sizes and times of the files in the folders among the inputs; empty without a folder. */
    static String states(List inputs) {
        folders(inputs).collect { Path folder ->
            def sha = MessageDigest.getInstance('SHA-256')
            def top = folder.toRealPath()
            files(folder).each { Path file ->
                def state = "${top.relativize(file)}\0${Files.size(file)}\0${Files.getLastModifiedTime(file).toMillis()}\0"
                sha.update(state.toString().bytes)
            }
            sha.digest().encodeHex().toString().take(16)
        }.join('')
    }

    private static List<Path> folders(List inputs) {
        inputs.findAll { input -> input instanceof Path && Files.isDirectory(input) }
    }

    /** The files of a tree without hidden ones, sorted. */
    private static List<Path> files(Path folder) {
        def top = folder.toRealPath()
        Files.walk(top).withCloseable { entries -> entries.toList() }
            .findAll { Path file -> !top.relativize(file).any { Path part -> part.toString().startsWith('.') } }
            .findAll { Path file -> Files.isRegularFile(file) }
            .sort()
    }

    private static boolean isSheet(Path input) {
        Files.isRegularFile(input) && input.fileName.toString().toLowerCase() ==~ /.*\.[ct]sv/
    }
}
