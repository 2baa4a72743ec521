import groovy.json.JsonException
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.FileAlreadyExistsException
import java.nio.file.FileSystemException
import java.nio.file.Files
import java.nio.file.NoSuchFileException
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.nio.file.StandardOpenOption
import java.time.Instant
import java.time.temporal.ChronoUnit

/**
 * Lock of a folder: a file that names host and process of the run.
 *
 * A lock of a dead process on this host is replaced. Processes on other hosts cannot be checked;
 * the user must remove such a lock.
 */
class RunLock {

    private static final Path HOSTNAME = Path.of('/proc/sys/kernel/hostname')
    /** Tolerance of a process start time, s; after a larger difference the id was reused. */
    private static final long SAME_START = 10
    private static final int ATTEMPTS = 3

    private final Path file
    private final String mine = JsonOutput.toJson([
        host : host(),
        pid  : ProcessHandle.current().pid(),
        start: start(ProcessHandle.current()),
        since: Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(),
    ])

    RunLock(Path file) {
        this.file = file
    }

    /** Acquires the lock. Returns null, or one line that names the owner. */
    String acquire() {
        Files.createDirectories(file.parent)
        for (int attempt = 1; attempt <= ATTEMPTS; attempt++) {
            try {
                create()
                return null
            }
            catch (FileAlreadyExistsException taken) {
                def text = read()
                if (text != null && !isGone(owner(text))) {
                    return refusal(owner(text))
                }
                setAside(text)
            }
        }
        refusal([:])
    }

    /** Creates the lock with its content atomically, so that a killed run leaves no empty lock. */
    private void create() {
        def whole = aside()
        Files.writeString(whole, mine)
        try {
            Files.createLink(file, whole)
        }
        catch (FileAlreadyExistsException taken) {
            throw taken
        }
        catch (UnsupportedOperationException | FileSystemException without_links) {
            Files.writeString(file, mine, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)
        }
        finally {
            Files.deleteIfExists(whole)
        }
    }

    private Path aside() {
        file.resolveSibling("${file.fileName}.${UUID.randomUUID()}")
    }

    /** Removes the lock if this run owns it. */
    void release() {
        if (read() == mine) {
            Files.deleteIfExists(file)
        }
    }

    private String refusal(Map owner) {
        def who = owner.pid ? "process ${owner.pid} on ${owner.host}, since ${owner.since}" : 'owner unknown'
        "--outdir: ${file.parent.parent} is in use by another run (${who}); wait until it ends or give another --outdir. " +
            "If that run no longer exists, remove its lock: rm '${file}'"
    }

    private String read() {
        try {
            return Files.readString(file)
        }
        catch (NoSuchFileException gone) {
            return null
        }
    }

    private static Map owner(String text) {
        try {
            return new JsonSlurper().parseText(text) as Map
        }
        catch (JsonException | IllegalArgumentException half_written) {
            return [:]
        }
    }

    private static boolean isGone(Map owner) {
        if (owner.host != host()) {
            return false
        }
        def process = ProcessHandle.of(owner.pid as long)
        !process.present || !process.get().alive || Math.abs(start(process.get()) - (owner.start as long)) > SAME_START
    }

    /** Removes the lock with content `text`; restores it if another run has replaced it. */
    private void setAside(String text) {
        def stale = aside()
        try {
            Files.move(file, stale, StandardCopyOption.ATOMIC_MOVE)
        }
        catch (NoSuchFileException gone) {
            return
        }
        if (Files.readString(stale) == text) {
            Files.delete(stale)
        }
        else {
            Files.move(stale, file)
        }
    }

    static String host() {
        Files.isReadable(HOSTNAME) ? Files.readString(HOSTNAME).trim() : InetAddress.localHost.hostName
    }

    /** Start time of a process in epoch seconds; 0 if unknown. */
    private static long start(ProcessHandle process) {
        process.info().startInstant().map { Instant begin -> begin.epochSecond }.orElse(0L)
    }
}
