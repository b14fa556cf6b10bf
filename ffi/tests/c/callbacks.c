/* Inside a callback every call is allowed except closing the client, which fails and leaves it open. */
#include "harness.h"

struct test {
    struct observer observer;
    discover_client *client;
    discover_set *set;
    discover_lease *lease;
    struct observer cancelled, inner_observer;
    discover_subscription *inner;
    sem_t done;
};

static void do_everything(struct test *test) {
    discover_snapshot *snapshot;
    discover_instance *picked;
    discover_subscription *subscription;

    FAILS(DISCOVER_ERR_BUSY, "callback", discover_client_close(test->client, 0, &error));
    test->lease = register_instance(test->client, new_registration("web", 7001));
    OK(discover_lease_heartbeat(test->lease, TIMEOUT_MS, NULL));
    OK(discover_set_wait(test->set, 1, TIMEOUT_MS, &snapshot, NULL));
    CHECK(discover_snapshot_online_count(snapshot) == 1);
    discover_snapshot_free(snapshot);
    OK(discover_set_pick(test->set, "random", NULL, &picked, NULL));
    CHECK(discover_instance_port(picked) == 7001);
    discover_instance_free(picked);
    subscription = subscribe(test->set, &test->cancelled);
    discover_subscription_cancel(subscription);
    test->inner = subscribe(test->set, &test->inner_observer);
    FAILS(DISCOVER_ERR_BUSY, "callback", discover_client_close(test->client, 0, &error));
}

static void on_event(const discover_event *event, void *user_data) {
    struct test *test = user_data;

    observer_on_event(event, &test->observer);
    if (discover_event_kind(event) == DISCOVER_EVENT_CURRENT) {
        do_everything(test);
        sem_post(&test->done);
    }
}

int main(int argc, char **argv) {
    struct test test = {.observer = NEW_OBSERVER, .cancelled = NEW_OBSERVER, .inner_observer = NEW_OBSERVER};
    discover_subscription *subscription;
    discover_lease *second;

    sem_init(&test.done, 0, 0);
    test.client = open_client(test_url(argc, argv));
    test.set = open_set(test.client, "web");
    OK(discover_set_subscribe(test.set, on_event, &test, NULL, &subscription, NULL));
    await_sem(&test.done);
    await_events(&test.observer, "up 127.0.0.1:7001\n");
    await_destroyed(&test.cancelled);
    CHECK(test.cancelled.event_count == 0);
    /* A subscription made inside the callback receives the full state, then the same changes as the outer one. */
    await_events(&test.inner_observer, "up 127.0.0.1:7001\nleader 127.0.0.1:7001\ncurrent\n");

    /* The client is still open and can be closed from this thread. */
    second = register_instance(test.client, new_registration("web", 7002));
    await_events(&test.observer, "up 127.0.0.1:7002\n");
    await_events(&test.inner_observer, "up 127.0.0.1:7002\n");
    OK(discover_client_close(test.client, TIMEOUT_MS, NULL));
    CHECK(test.inner_observer.destroyed == 1 && test.cancelled.destroyed == 1);

    discover_subscription_cancel(test.inner);
    discover_subscription_cancel(subscription);
    discover_lease_release(second);
    discover_lease_release(test.lease);
    discover_set_release(test.set);
    return 0;
}
