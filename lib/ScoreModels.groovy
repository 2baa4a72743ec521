import java.nio.file.Files
import java.nio.file.Path
import nextflow.Nextflow

/**
 * The weights of the score models: those that come with xtalfill and those of --model.
 *
 * A bundled file is named after its kind. What kind a user's weights are is only known when
 * INPAINT reads them.
 */
class ScoreModels {

    private static final Map<String, String> KIND_OF_METHOD = [
        host: 'host', td: 'td', pos: 'pos', repaint: 'pos', mattergen: 'mattergen',
    ]

    /** The files and folders that a parameter names, separated by commas. */
    static List<String> paths(String value) {
        (value ?: '').tokenize(',')*.trim().findAll()
    }

    /** Where a training keeps its state: outside of the work folder, so that it outlives its task. */
    static Path trainingFolder(Map settings) {
        def folder = Nextflow.file("${settings.outdir}/training/${settings.train_method}") as Path
        Files.createDirectories(folder)
    }

    /** One line for each method that no weights can be there for. */
    static List<String> problems(Map settings, List<Path> bundled) {
        if (settings.mode == 'train' || paths(settings.model)) {
            return []
        }
        def kinds = bundled*.baseName
        settings.method.tokenize(',')
            .findAll { method -> KIND_OF_METHOD[method] && !(KIND_OF_METHOD[method] in kinds) }
            .collect { method ->
                "--method ${method}: no weights of kind ${KIND_OF_METHOD[method]} in assets/weights; name some with --model".toString()
            }
    }
}
