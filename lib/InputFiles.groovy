import java.nio.file.Files
import java.nio.file.Path

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

    /** The files in the folders among the inputs. */
    static List<Path> inFolders(List inputs) {
        inputs.findAll { input -> input instanceof Path && Files.isDirectory(input) }.collectMany { Path folder ->
            Files.list(folder).withCloseable { entries -> entries.toList() }
                .findAll { Path file -> Files.isRegularFile(file) && !file.fileName.toString().startsWith('.') }
        }
    }

    private static boolean isSheet(Path input) {
        Files.isRegularFile(input) && input.fileName.toString().toLowerCase() ==~ /.*\.[ct]sv/
    }
}
