import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooKeeper;

/** Loads a ZooKeeper ensemble, as the harness orders, until the harness has gone. */
public final class ZooKeeperLoad {
    private static final int SESSION_MS = 30_000;

    private ZooKeeperLoad() {}

    /** Answer orders from standard input. */
    public static void main(String[] arguments) throws Exception {
        BufferedReader orders =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            Order order = Order.of(Answers.JSON.readTree(line));
            try {
                Answers.tell(
                        order.measure().equals("handover")
                                ? new HandOvers(order).run()
                                : new Puts(order).run());
            } catch (Exception failed) {
                Answers.tellFailed(order.measure() + ": " + failed);
            }
        }
    }

    /** Open a session, and wait until it is there. */
    static ZooKeeper connect(String endpoints) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper session =
                new ZooKeeper(
                        endpoints,
                        SESSION_MS,
                        event -> {
                            if (event.getState() == KeeperState.SyncConnected) {
                                connected.countDown();
                            }
                        });
        if (!connected.await(SESSION_MS, TimeUnit.MILLISECONDS)) {
            session.close();
            throw new IllegalStateException("no server of " + endpoints + " answers");
        }
        return session;
    }
}
