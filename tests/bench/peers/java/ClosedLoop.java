import java.util.ArrayList;
import java.util.List;

/**
 * Tasks that start an operation when their last one has ended; what is measured ended
 * within the measured time, and the others are counted all the same.
 */
final class ClosedLoop {
    private final long beginNs;
    private final long endNs;
    private final int[] done;
    private final List<List<Long>> latenciesNs = new ArrayList<>();
    private final long[] lateNs;
    private final Thread telling;

    ClosedLoop(Order order) {
        beginNs = System.nanoTime() + (long) (order.warmUpS() * 1e9);
        endNs = beginNs + (long) (order.measuredS() * 1e9);
        done = new int[order.tasks()];
        lateNs = new long[order.tasks()];
        for (int task = 0; task < order.tasks(); task++) {
            latenciesNs.add(new ArrayList<>());
        }
        telling = new Thread(this::tellOfTime);
        telling.start();
    }

    private void tellOfTime() {
        try {
            sleepUntil(beginNs);
            Answers.tell("begin");
            sleepUntil(endNs);
            Answers.tell("end");
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
    }

    private static void sleepUntil(long atNs) throws InterruptedException {
        long leftNs = Math.max(atNs - System.nanoTime(), 0);
        Thread.sleep(leftNs / 1_000_000, (int) (leftNs % 1_000_000));
    }

    /** Tell whether a task is to start another operation. */
    boolean goesOn() {
        return System.nanoTime() < endNs;
    }

    /** Count an operation; only the task's own thread of the moment may. */
    void count(int task) {
        done[task]++;
    }

    int done(int task) {
        return done[task];
    }

    int total() {
        int total = 0;
        for (int each : done) {
            total += each;
        }
        return total;
    }

    /** Keep how long something took, if it ended within the measured time. */
    void record(int task, long tookNs, long nowNs) {
        if (nowNs >= endNs) {
            lateNs[task] = tookNs;
        } else if (nowNs >= beginNs) {
            latenciesNs.get(task).add(tookNs);
        }
    }

    /** Wait until the end of the measured time was told. */
    void awaitEnd() throws InterruptedException {
        telling.join();
    }

    /** Gather the figures; found is what the servers show to have been done. */
    Answers.Done answer(int found) {
        List<Long> all = new ArrayList<>();
        latenciesNs.forEach(all::addAll);
        for (long late : lateNs) {
            // However slow the machine: one operation that ended counts.
            if (all.isEmpty() && late > 0) {
                all.add(late);
            }
        }
        all.sort(null);
        return new Answers.Done(
                all.size(), quantileUs(all, 0.50), quantileUs(all, 0.99), total(), found);
    }

    private static double quantileUs(List<Long> ordered, double share) {
        if (ordered.isEmpty()) {
            return 0;
        }
        int at = Math.min((int) (ordered.size() * share), ordered.size() - 1);
        return ordered.get(at) / 1e3;
    }
}
