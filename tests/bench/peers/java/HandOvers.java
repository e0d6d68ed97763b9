import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/**
 * Tasks, each with a session of its own, contend for one lock by the recipe of
 * ZooKeeper's documentation: a sequential znode each, a watch on the one before. A
 * holder keeps it for a while, so that another one waits when it releases.
 */
final class HandOvers {
    private final Order order;
    private final AtomicInteger holders = new AtomicInteger();
    private final List<Exception> failures = Collections.synchronizedList(new ArrayList<>());
    private long releasedNs;
    private int releasedBy = -1;

    HandOvers(Order order) {
        this.order = order;
    }

    Answers.Done run() throws Exception {
        List<ZooKeeper> sessions = new ArrayList<>();
        try {
            for (int task = 0; task < order.tasks(); task++) {
                sessions.add(ZooKeeperLoad.connect(order.endpoints()));
            }
            ZooKeeper first = sessions.get(0);
            first.create(
                    order.prefix(), new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            ClosedLoop loop = new ClosedLoop(order);
            List<Thread> threads = new ArrayList<>();
            for (int task = 0; task < order.tasks(); task++) {
                threads.add(contend(loop, sessions.get(task), task));
            }
            for (Thread thread : threads) {
                thread.join();
            }
            loop.awaitEnd();
            if (!failures.isEmpty()) {
                throw failures.get(0);
            }
            if (!first.getChildren(order.prefix(), false).isEmpty()) {
                throw new IllegalStateException("the lock is still held");
            }
            return loop.answer(loop.total());
        } finally {
            for (ZooKeeper session : sessions) {
                session.close();
            }
        }
    }

    private Thread contend(ClosedLoop loop, ZooKeeper session, int task) {
        Thread thread =
                new Thread(
                        () -> {
                            try {
                                while (loop.goesOn()) {
                                    cycle(loop, session, task);
                                }
                            } catch (Exception failed) {
                                failures.add(failed);
                            }
                        });
        thread.start();
        return thread;
    }

    private void cycle(ClosedLoop loop, ZooKeeper session, int task) throws Exception {
        String mine =
                session.create(
                        order.prefix() + "/lock-",
                        new byte[0],
                        Ids.OPEN_ACL_UNSAFE,
                        CreateMode.EPHEMERAL_SEQUENTIAL);
        awaitTurn(session, mine.substring(order.prefix().length() + 1));
        acquired(loop, task);
        if (holders.incrementAndGet() != 1) {
            throw new IllegalStateException("two hold the lock");
        }
        Thread.sleep((long) (order.holdS() * 1e3));
        holders.decrementAndGet();
        loop.count(task);
        releasing(task);
        session.delete(mine, -1);
    }

    private void awaitTurn(ZooKeeper session, String mine) throws Exception {
        while (true) {
            List<String> all = session.getChildren(order.prefix(), false);
            Collections.sort(all);
            int place = all.indexOf(mine);
            if (place == 0) {
                return;
            }
            CountDownLatch gone = new CountDownLatch(1);
            String before = order.prefix() + "/" + all.get(place - 1);
            if (session.exists(before, (WatchedEvent event) -> gone.countDown()) != null) {
                gone.await();
            }
        }
    }

    private synchronized void acquired(ClosedLoop loop, int task) {
        long nowNs = System.nanoTime();
        if (releasedBy >= 0 && releasedBy != task) {
            loop.record(task, nowNs - releasedNs, nowNs);
        }
    }

    private synchronized void releasing(int task) {
        releasedBy = task;
        releasedNs = System.nanoTime();
    }
}
