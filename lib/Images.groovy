import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest
import nextflow.Nextflow

/** Container images of a run: which are needed, and whether they exist and are intact. */
class Images {

    private static final String SUMS = 'SHA256SUMS'
    /** Larger images are not hashed at every start; the header check finds truncated files. */
    private static final long MOST_READ = 1L << 30
    private static final int BUFFER = 1 << 20
    // SIF header: offsets of the magic string, and of start and length of the data.
    private static final String MARK = 'SIF_MAGIC'
    private static final int HEADER = 128, MARK_AT = 32, DATA_AT = 112, LENGTH_AT = 120

    /** One line for each needed image that is missing, truncated or differs from SHA256SUMS. */
    static List<String> problems(Map settings, Registry registry, String engine, String version) {
        if (engine in ['docker', 'podman']) {
            return needed(settings, registry)
                .collect { name -> notLoaded(engine, "xtalfill-${name}:${version}".toString()) }
                .findAll()
        }
        def folder = Nextflow.file(settings.container_dir, glob: false) as Path
        def names = engine ? needed(settings, registry) : []
        names.collect { name -> problem(folder.resolve("xtalfill-${name}-${version}.sif".toString())) }.findAll()
    }

    /** Names of the images used by the stages of this run (conf/modules.config). */
    private static List<String> needed(Map settings, Registry registry) {
        def dft = settings.validate || registry.methods(settings)*.needs_pw.any() ? ['dft'] : []
        settings.mode == 'train' ? ['inpaint'] : settings.mode == 'scan' ? ['tools'] : ['tools', 'inpaint', 'relax'] + dft
    }

    private static String notLoaded(String engine, String name) {
        try {
            def inspect = new ProcessBuilder(engine, 'image', 'inspect', name).redirectErrorStream(true).start()
            inspect.inputStream.text
            return inspect.waitFor() == 0 ? null
                : "-profile ${engine}: ${engine} has no image ${name}; import it with 'containers/load.sh ${engine}' (containers/README.md)".toString()
        }
        catch (IOException error) {
            return "-profile ${engine}: ${engine} cannot be started (${error.message})".toString()
        }
    }

    private static String problem(Path image) {
        if (!Files.isRegularFile(image)) {
            return "--container_dir: ${image.fileName} is missing in ${image.parent}; build it with 'make images', or copy it there (containers/README.md)".toString()
        }
        if (!isWhole(image)) {
            return "--container_dir: ${image} is truncated or not a SIF image; copy or build it again (containers/README.md)".toString()
        }
        def known = checksum(image)
        known && Files.size(image) <= MOST_READ && known != sha256(image)
            ? "--container_dir: ${image} differs from its checksum in ${SUMS}; copy or build it again (containers/README.md)".toString() : null
    }

    private static boolean isWhole(Path image) {
        def header = ByteBuffer.allocate(HEADER).order(ByteOrder.LITTLE_ENDIAN)
        FileChannel.open(image).withCloseable { channel -> channel.read(header) }
        def mark = new String(header.array(), MARK_AT, MARK.size(), 'ISO-8859-1')
        mark == MARK && header.getLong(DATA_AT) + header.getLong(LENGTH_AT) <= Files.size(image)
    }

    private static String checksum(Path image) {
        def sums = image.resolveSibling(SUMS)
        def line = Files.exists(sums) ? sums.readLines().find { entry -> entry.endsWith("  ${image.fileName}") } : null
        line?.tokenize(' ')?.first()
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
