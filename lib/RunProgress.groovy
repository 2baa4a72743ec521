import java.nio.file.Files
import java.nio.file.Path
import java.time.Duration
import java.time.Instant

/**
 * Lines on the terminal while a run computes: for each stage what is done, candidates a minute, and the time left.
 *
 * The rate is that of the batches after the first of the stage; batches from the cache have none. The time left comes
 * from the plan, scaled to that rate.
 */
class RunProgress {

    /** s between two lines of a stage. */
    private static final long LEAST = 30

    private final Map<String, Map> batches
    private final Instant started
    private final Map<String, Map> stages = [:]

    /**
     * @param plan of RunPlan
     * @param started start of the run
     */
    RunProgress(Map plan, Instant started) {
        batches = plan.batches as Map<String, Map>
        this.started = started
    }

    /**
     * Counts a finished batch of a stage.
     *
     * @return the line to print, or null where none is due
     */
    synchronized String advance(String stage, String batch, Path file) {
        def now = Instant.now()
        def size = batches[batch]
        if (!size) {
            return null
        }
        def seen = stages.computeIfAbsent(stage) {
            [first: null, line: null, batches: 0, structures: 0, candidates: 0, timed: 0, timed_cost: 0.0d, cost: 0.0d]
        }
        if (seen.first) {
            seen.timed += size.candidates
            seen.timed_cost += cost(stage, size)
        }
        else if (Files.getLastModifiedTime(file).toInstant() >= started) {
            seen.first = now
        }
        seen.batches += 1
        seen.structures += size.structures
        seen.candidates += size.candidates
        seen.cost += cost(stage, size)
        def due = seen.batches == batches.size() || !seen.line || Duration.between(seen.line as Instant, now).seconds >= LEAST
        if (due) {
            seen.line = now
        }
        due ? line(stage, seen, now) : null
    }

    private static double cost(String stage, Map size) {
        (size.core_seconds[stage] ?: size.candidates) as double
    }

    private String line(String stage, Map seen, Instant now) {
        def total = batches.values()
        def words = ["${seen.structures} of ${total.sum { Map one -> one.structures }} structures",
                     "${seen.candidates} of ${total.sum { Map one -> one.candidates }} candidates"]
        if (seen.timed) {
            def elapsed = Math.max(0.1d, Duration.between(seen.first as Instant, now).toMillis() / 1000.0d)
            def left = elapsed * (total.sum { Map one -> cost(stage, one) } - seen.cost) / seen.timed_cost
            words << "${Math.max(1L, Math.round(60 * seen.timed / elapsed))} candidates/min"
            words << (seen.batches == batches.size() ? 'done' : "about ${readable(left)} left")
        }
        "${stage.padRight(9)}${words.join(', ')}"
    }

    /** A time for people: 40 s, 12 min, 3.5 h. */
    static String readable(double seconds) {
        seconds < 90 ? "${Math.round(seconds)} s" : seconds < 5400 ? "${Math.round(seconds / 60)} min"
            : "${Math.round(seconds / 360) / 10.0d} h"
    }
}
