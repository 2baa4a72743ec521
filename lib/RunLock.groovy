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
 * Holds a folder for one run at a time, by a file that names the run's host and process.
 *
 * The lock of a process that is gone from this host is taken over. Of another host's processes nothing is known
 * here: that lock is a user's to remove.
 */
class RunLock {

    private static final Path HOSTNAME = Path.of('/proc/sys/kernel/hostname')
    /** Seconds between two readings of when a process began; more, and its number was given anew. */
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

    /** Takes the lock. Returns null, or one line that says who has it. */
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

    /** Makes the lock with all it says in one step: a run that is killed must not leave an empty one. */
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

    /** Gives the lock back, where this run has it. */
    void release() {
        if (read() == mine) {
            Files.deleteIfExists(file)
        }
    }

    private String refusal(Map owner) {
        def who = owner.pid ? "process ${owner.pid} on ${owner.host}, since ${owner.since}" : 'a run that does not say which'
        "--outdir: ${file.parent.parent} is in use by another run (${who}); wait for its end or give another --outdir. " +
            "If that run is gone, remove its lock: rm '${file}'"
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

    /** Removes the lock that says `text`; one that another run made in the meantime is put back. */
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

    private static String host() {
        Files.isReadable(HOSTNAME) ? Files.readString(HOSTNAME).trim() : InetAddress.localHost.hostName
    }

    /** When a process began, in seconds; 0 where the system does not tell. */
    private static long start(ProcessHandle process) {
        process.info().startInstant().map { Instant begin -> begin.epochSecond }.orElse(0L)
    }
}
