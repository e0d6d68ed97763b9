import com.fasterxml.jackson.databind.JsonNode;
import java.util.StringJoiner;

/** One run that the harness asks for. */
record Order(
        String measure,
        String endpoints,
        String prefix,
        int tasks,
        double warmUpS,
        double measuredS,
        double holdS) {

    static Order of(JsonNode told) {
        StringJoiner endpoints = new StringJoiner(",");
        told.get("endpoints").forEach(each -> endpoints.add(each.asText()));
        return new Order(
                told.get("measure").asText(),
                endpoints.toString(),
                "/" + told.get("prefix").asText(),
                told.get("tasks").asInt(),
                told.get("warm_up_s").asDouble(),
                told.get("measured_s").asDouble(),
                told.get("hold_s").asDouble());
    }
}
