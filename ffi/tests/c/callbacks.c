/* From inside a callback everything is allowed but closing the client, which is refused and leaves it as
 * it was. */
#include "check.h"

struct test {
    struct ear ear;
    discover_client *client;
    discover_set *set;
    discover_lease *lease;
    struct ear other, kept;
    discover_subscription *inner;
    sem_t done;
};

static void do_everything(struct test *test) {
    discover_snapshot *snapshot;
    discover_instance *picked;
    discover_subscription *other;

    FAILS(DISCOVER_ERR_BUSY, "callback", discover_client_close(test->client, 0, &error));
    test->lease = enter(test->client, describe("web", 7001));
    OK(discover_lease_heartbeat(test->lease, PATIENCE_MS, NULL));
    OK(discover_set_wait(test->set, 1, PATIENCE_MS, &snapshot, NULL));
    CHECK(discover_snapshot_online_count(snapshot) == 1);
    discover_snapshot_free(snapshot);
    OK(discover_set_pick(test->set, "random", NULL, &picked, NULL));
    CHECK(discover_instance_port(picked) == 7001);
    discover_instance_free(picked);
    other = subscribe(test->set, &test->other);
    discover_subscription_cancel(other);
    test->inner = subscribe(test->set, &test->kept);
    FAILS(DISCOVER_ERR_BUSY, "callback", discover_client_close(test->client, 0, &error));
}

static void on_event(const discover_event *event, void *user_data) {
    struct test *test = user_data;

    ear_hear(event, &test->ear);
    if (discover_event_kind(event) == DISCOVER_EVENT_CURRENT) {
        do_everything(test);
        sem_post(&test->done);
    }
}

int main(int argc, char **argv) {
    struct test test = {.ear = NEW_EAR, .other = NEW_EAR, .kept = NEW_EAR};
    discover_subscription *subscription;
    discover_lease *second;

    sem_init(&test.done, 0, 0);
    test.client = open_client(url_of(argc, argv));
    test.set = services(test.client, "web");
    OK(discover_set_subscribe(test.set, on_event, &test, NULL, &subscription, NULL));
    await_sem(&test.done);
    await_heard(&test.ear, "up 127.0.0.1:7001\n");
    await_destroyed(&test.other);
    CHECK(test.other.events == 0);
    /* What was subscribed inside is told the whole state, and then what the other is told. */
    await_heard(&test.kept, "up 127.0.0.1:7001\nleader 127.0.0.1:7001\ncurrent\n");

    /* Still open, and closed from here as ever. */
    second = enter(test.client, describe("web", 7002));
    await_heard(&test.ear, "up 127.0.0.1:7002\n");
    await_heard(&test.kept, "up 127.0.0.1:7002\n");
    OK(discover_client_close(test.client, PATIENCE_MS, NULL));
    CHECK(test.kept.destroyed == 1 && test.other.destroyed == 1);

    discover_subscription_cancel(test.inner);
    discover_subscription_cancel(subscription);
    discover_lease_release(second);
    discover_lease_release(test.lease);
    discover_set_release(test.set);
    return 0;
}
