import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * Asynchronous setData of 256 bytes; each task writes a few znodes of its own in turn.
 * They are there before the warm-up. A znode's version counts its writes, so each was
 * applied exactly once if the versions are the counts.
 */
final class Puts {
    private static final int NODES_PER_TASK = 16;
    private static final int PIPELINE = 500;
    private static final byte[] VALUE = new byte[256];

    static {
        Arrays.fill(VALUE, (byte) 'v');
    }

    private final Order order;
    private final String[][] paths;
    private final AtomicReference<String> wrong = new AtomicReference<>();

    Puts(Order order) {
        this.order = order;
        paths = new String[order.tasks()][NODES_PER_TASK];
        for (int task = 0; task < order.tasks(); task++) {
            for (int number = 0; number < NODES_PER_TASK; number++) {
                paths[task][number] = order.prefix() + "/" + task + "-" + number;
            }
        }
    }

    Answers.Done run() throws Exception {
        ZooKeeper session = ZooKeeperLoad.connect(order.endpoints());
        try {
            prepare(session);
            ClosedLoop loop = new ClosedLoop(order);
            CountDownLatch running = new CountDownLatch(order.tasks());
            for (int task = 0; task < order.tasks(); task++) {
                new Task(session, loop, running, task).next();
            }
            running.await();
            loop.awaitEnd();
            failIfWrong();
            return loop.answer(found(session, loop));
        } finally {
            session.close();
        }
    }

    /** One task: the callback of an operation starts the next one. */
    private final class Task {
        private final ZooKeeper session;
        private final ClosedLoop loop;
        private final CountDownLatch running;
        private final int task;
        private long beganNs;

        Task(ZooKeeper session, ClosedLoop loop, CountDownLatch running, int task) {
            this.session = session;
            this.loop = loop;
            this.running = running;
            this.task = task;
        }

        void next() {
            beganNs = System.nanoTime();
            String path = paths[task][loop.done(task) % NODES_PER_TASK];
            session.setData(path, VALUE, -1, this::ended, null);
        }

        private void ended(int code, String path, Object context, Stat stat) {
            if (code != Code.OK.intValue()) {
                wrong.set(path + ": " + Code.get(code));
                running.countDown();
                return;
            }
            loop.count(task);
            long nowNs = System.nanoTime();
            loop.record(task, nowNs - beganNs, nowNs);
            if (loop.goesOn()) {
                next();
            } else {
                running.countDown();
            }
        }
    }

    private void prepare(ZooKeeper session) throws Exception {
        session.create(order.prefix(), new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Semaphore free = new Semaphore(PIPELINE);
        for (String[] of : paths) {
            for (String path : of) {
                free.acquire();
                session.create(
                        path,
                        VALUE,
                        Ids.OPEN_ACL_UNSAFE,
                        CreateMode.PERSISTENT,
                        (code, asked, context, name) -> {
                            if (code != Code.OK.intValue()) {
                                wrong.set(asked + ": " + Code.get(code));
                            }
                            free.release();
                        },
                        null);
            }
        }
        free.acquire(PIPELINE);
        failIfWrong();
    }

    /** Compare every znode with what was acknowledged; returns the writes they show. */
    private int found(ZooKeeper session, ClosedLoop loop) throws Exception {
        // A session's requests are answered in order: what is read is not older.
        session.sync(order.prefix(), (code, path, context) -> {}, null);
        AtomicInteger found = new AtomicInteger();
        Semaphore free = new Semaphore(PIPELINE);
        for (int task = 0; task < paths.length; task++) {
            for (int number = 0; number < NODES_PER_TASK; number++) {
                int whole = loop.done(task) / NODES_PER_TASK;
                int expected = whole + (number < loop.done(task) % NODES_PER_TASK ? 1 : 0);
                free.acquire();
                session.getData(
                        paths[task][number],
                        false,
                        (code, path, context, data, stat) -> {
                            if (code != Code.OK.intValue()
                                    || stat.getVersion() != expected
                                    || !Arrays.equals(data, VALUE)) {
                                wrong.set(path + " was not written " + expected + " times");
                            } else {
                                found.addAndGet(stat.getVersion());
                            }
                            free.release();
                        },
                        null);
            }
        }
        free.acquire(PIPELINE);
        failIfWrong();
        return found.get();
    }

    private void failIfWrong() {
        if (wrong.get() != null) {
            throw new IllegalStateException(wrong.get());
        }
    }
}
