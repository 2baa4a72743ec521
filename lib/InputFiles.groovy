import java.nio.charset.MalformedInputException
import java.nio.file.Files
import java.nio.file.Path
import java.util.regex.Pattern

/**
 * The structure files that an input names: those of a sheet's rows, those in a folder.
 *
 * CHECK gets them as inputs beside the sheet or folder itself, so that -resume sees a change of
 * any of them and a container can read them. CHECK alone judges them: what cannot be read here
 * is passed over.
 */
class InputFiles {

    static List<Path> named(Path input) {
        def files = Files.isDirectory(input) ? inFolder(input) : isSheet(input) ? inSheet(input) : []
        files.findAll { Path file -> Files.isRegularFile(file) }.unique().sort()
    }

    private static boolean isSheet(Path input) {
        Files.isRegularFile(input) && input.fileName.toString().toLowerCase() ==~ /.*\.[ct]sv/
    }

    private static List<Path> inFolder(Path folder) {
        Files.list(folder).withCloseable { entries -> entries.toList() }
            .findAll { Path file -> !file.fileName.toString().startsWith('.') }
    }

    private static List<Path> inSheet(Path sheet) {
        def folder = sheet.toRealPath().parent
        def lines = textOf(sheet).readLines().findAll { line -> line.trim() && !line.trim().startsWith('#') }
        // A spreadsheet may write the separator into the first line: sep=;
        def told = lines ? lines.first() =~ /(?i)^\s*"?sep=(.)"?\s*$/ : null
        def rows = told ? lines.drop(1) : lines
        if (!rows) {
            return []
        }
        def separator = told ? told[0][1] : [',', ';', '\t'].max { mark -> rows.first().count(mark) }
        def column = cells(rows.first().toLowerCase(), separator).indexOf('structure')
        rows.drop(1)
            .collect { line -> column < 0 ? null : cells(line, separator)[column] }
            .findAll { cell -> cell && !cell.contains('\0') }
            .collect { cell -> folder.resolve(cell).normalize() }
    }

    private static String textOf(Path sheet) {
        try {
            return Files.readString(sheet).replace('\uFEFF', '')
        }
        catch (MalformedInputException error) {
            return ''
        }
    }

    /** The cells of a row; a separator inside double quotes does not count. */
    private static List<String> cells(String line, String separator) {
        line.split("${Pattern.quote(separator)}(?=(?:[^\"]*\"[^\"]*\")*[^\"]*\$)", -1)
            .collect { cell -> cell.trim().replaceAll(/^"|"$/, '').replace('""', '"').trim() }
    }
}
