import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** What is told to the harness: a line of JSON each. */
final class Answers {
    static final ObjectMapper JSON = new ObjectMapper();

    /** The figures of a run. */
    record Done(int operations, double p50Us, double p99Us, int acknowledged, int found) {}

    private Answers() {}

    static void tell(String event) {
        print(JSON.createObjectNode().put("event", event));
    }

    static void tellFailed(String sentence) {
        print(JSON.createObjectNode().put("event", "failed").put("sentence", sentence));
    }

    static void tell(Done done) {
        print(
                JSON.createObjectNode()
                        .put("event", "done")
                        .put("operations", done.operations())
                        .put("p50_us", done.p50Us())
                        .put("p99_us", done.p99Us())
                        .put("acknowledged", done.acknowledged())
                        .put("found", done.found()));
    }

    private static synchronized void print(ObjectNode answer) {
        System.out.println(answer);
        System.out.flush();
    }
}
