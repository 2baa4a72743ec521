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

    /** The files and folders that a parameter names, separated by commas. */
    static List<String> paths(String value) {
        (value ?: '').tokenize(',')*.trim().findAll()
    }

    /** Where a training keeps its state: outside of the work folder, so that it outlives its task. */
    static Path trainingFolder(Map settings) {
        def folder = Nextflow.file("${settings.outdir}/training/${settings.train_method}") as Path
        Files.createDirectories(folder)
    }

    /** One line for each method that has no weights. */
    static List<String> problems(Map settings, List<Path> bundled, Registry registry) {
        if (settings.mode == 'train' || paths(settings.model)) {
            return []
        }
        def kinds = bundled*.baseName
        registry.methods(settings)
            .findAll { Map method -> method.weights && !(method.weights in kinds) }
            .collect { Map method ->
                "--method ${method.name}: no weights of kind ${method.weights} in assets/weights; ".toString() +
                    'name some with --model'
            }
    }
}
