import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest
import nextflow.Nextflow

/** The images of a run with a container engine: which it needs, and whether they are there and whole. */
class Images {

    private static final String SUMS = 'SHA256SUMS'
    private static final int BUFFER = 1 << 20

    /** One line for each image that the run needs and that is not there, or not what SHA256SUMS beside it says. */
    static List<String> problems(Map settings, String engine, String version) {
        if (!engine) {
            return []
        }
        def folder = Nextflow.file(settings.container_dir, glob: false) as Path
        needed(settings)
            .collect { engineOfStages -> problem(folder, "xtalfill-${engineOfStages}-${version}.sif") }
            .findAll()
    }

    /** As conf/modules.config gives them to the stages. */
    private static List<String> needed(Map settings) {
        def dft = settings.validate || 'potential' in settings.method.tokenize(',') ? ['dft'] : []
        settings.mode == 'train' ? ['inpaint'] : ['tools', 'inpaint', 'relax'] + dft
    }

    private static String problem(Path folder, String name) {
        def image = folder.resolve(name)
        if (!Files.isRegularFile(image)) {
            return "--container_dir: there is no ${name} in ${folder}; build it with 'make images', or copy it there (containers/README.md)".toString()
        }
        def sums = folder.resolve(SUMS)
        def known = Files.exists(sums) ? sums.readLines().findResult { line -> line.endsWith("  $name") ? line.tokenize(' ').first() : null } : null
        known && known != sha256(image)
            ? "--container_dir: ${image} is not what ${SUMS} beside it says; copy or build it again (containers/README.md)".toString() : null
    }

    private static String sha256(Path file) {
        def digest = MessageDigest.getInstance('SHA-256')
        def buffer = new byte[BUFFER]
        Files.newInputStream(file).withCloseable { stream ->
            for (int read = stream.read(buffer); read >= 0; read = stream.read(buffer)) {
                digest.update(buffer, 0, read)
            }
        }
        digest.digest().encodeHex().toString()
    }
}
