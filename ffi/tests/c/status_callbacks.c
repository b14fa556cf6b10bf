/* The state of connections and registrations, read and subscribed to; and the counters. */
#include "harness.h"

static discover_client *client;

/* Records states as an observer records events. */
struct state_observer {
    struct observer observer;
    const char *(*name)(int32_t);
};

static void on_state(int32_t state, const discover_error *reason, void *user_data) {
    struct state_observer *self = user_data;
    struct observer *observer = &self->observer;
    size_t length;

    pthread_mutex_lock(&observer->lock);
    CHECK(observer->destroyed == 0);
    length = strlen(observer->received);
    snprintf(observer->received + length, sizeof observer->received - length, "%s %s\n", self->name(state),
             discover_status_name(discover_error_status(reason)));
    observer->event_count++;
    observer->callback_thread = pthread_self();
    pthread_cond_broadcast(&observer->changed);
    pthread_mutex_unlock(&observer->lock);
}

static void destroy(void *user_data) {
    struct state_observer *self = user_data;
    observer_on_destroy(&self->observer);
}

static discover_subscription *subscribe_connection(struct state_observer *states) {
    discover_subscription *subscription;
    OK(discover_client_on_connection(client, on_state, states, destroy, &subscription, NULL));
    return subscription;
}

static void the_current_state_is_delivered_first_and_none_after_a_cancel(void) {
    struct state_observer states = {.observer = NEW_OBSERVER, .name = discover_connection_name};
    discover_error *reason = (void *)&states;
    discover_subscription *subscription;

    CHECK(discover_client_connection(client, &reason) == DISCOVER_CONNECTION_CONNECTED);
    CHECK(reason == NULL);
    subscription = subscribe_connection(&states);
    await_events(&states.observer, "connected ok\n");
    CHECK(!pthread_equal(states.observer.callback_thread, pthread_self()));
    discover_subscription_cancel(subscription);
    await_destroyed(&states.observer);
    CHECK(states.observer.event_count == 1);
    CHECK(pthread_equal(states.observer.destroy_thread, states.observer.callback_thread));
}

static void an_unresponsive_registry_is_reported_with_the_reason(void) {
    struct state_observer states = {.observer = NEW_OBSERVER, .name = discover_connection_name};
    discover_client *previous = client;
    discover_subscription *subscription;
    discover_set *set;
    discover_error *reason;

    client = open_client("etcd://127.0.0.1:1?lazy=true&ttl=1s");
    subscription = subscribe_connection(&states);
    set = open_set(client, "web");
    await_events(&states.observer, "suspended unavailable\n");
    await_events(&states.observer, "lost unavailable\n");
    CHECK(discover_client_connection(client, &reason) == DISCOVER_CONNECTION_LOST);
    CHECK(discover_error_status(reason) == DISCOVER_ERR_UNAVAILABLE);
    discover_error_free(reason);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    CHECK(states.observer.destroyed == 1);
    discover_subscription_cancel(subscription);
    CHECK(states.observer.destroyed == 1);
    discover_set_release(set);
    client = previous;
}

static void a_standing_subscription_ends_with_the_release(void) {
    struct state_observer states = {.observer = NEW_OBSERVER, .name = discover_standing_name};
    discover_subscription *subscription;
    discover_lease *lease = register_instance(client, new_registration("web", 7001));

    OK(discover_lease_on_standing(lease, on_state, &states, destroy, &subscription, NULL));
    await_events(&states.observer, "live ok\n");
    discover_lease_release(lease);
    await_events(&states.observer, "released ok\n");
    /* No standing can follow, so the library destroys the callback by itself. */
    await_destroyed(&states.observer);
    discover_subscription_cancel(subscription);
    CHECK(states.observer.destroyed == 1 && states.observer.event_count == 2);
}

/* A slow callback, as under valgrind, may miss the live standing in between. */
static void a_lapsed_registration_is_reported_with_the_reason(void) {
    struct state_observer states = {.observer = NEW_OBSERVER, .name = discover_standing_name};
    discover_registration *registration = new_registration("web", 7002);
    discover_subscription *subscription;
    discover_lease *lease;

    OK(discover_registration_set_ttl_ms(registration, 1000, NULL));
    OK(discover_registration_set_heartbeat_manual(registration, NULL));
    lease = register_instance(client, registration);
    OK(discover_lease_on_standing(lease, on_state, &states, destroy, &subscription, NULL));
    await_events(&states.observer, "lapsed lease_lost\n");
    OK(discover_lease_heartbeat(lease, TIMEOUT_MS, NULL));
    discover_lease_release(lease);
    await_events(&states.observer, "released ok\n");
    await_destroyed(&states.observer);
    discover_subscription_cancel(subscription);
}

static void destroy_is_called_whatever_the_result(void) {
    struct state_observer states[] = {
        {.observer = NEW_OBSERVER}, {.observer = NEW_OBSERVER}, {.observer = NEW_OBSERVER}};
    discover_subscription *out;

    CHECK(discover_client_on_connection(NULL, on_state, &states[0], destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_client_on_connection(client, NULL, &states[1], destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_lease_on_standing(NULL, on_state, &states[2], destroy, &out, NULL) != DISCOVER_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(states[i].observer.destroyed == 1 && states[i].observer.event_count == 0);
        CHECK(pthread_equal(states[i].observer.destroy_thread, pthread_self()));
    }
}

static void counters_have_names_and_values(void) {
    static const char *const known[] = {"reconnects", "relists", "resyncs",  "duplicates",
                                        "mismatches", "invalid", "restored", "lag_ms"};
    uint64_t value, restored = 0;

    CHECK(discover_metric_count() == sizeof known / sizeof *known);
    for (size_t i = 0; i < discover_metric_count(); i++) {
        SAME_TEXT(discover_metric_name(i), known[i]);
        value = UINT64_MAX;
        OK(discover_client_metric(client, discover_metric_name(i), &value, NULL));
        CHECK(value < UINT64_MAX);
    }
    /* The registration that had lapsed was restored. */
    OK(discover_client_metric(client, "restored", &restored, NULL));
    CHECK(restored >= 1);
}

/* With layout=scalingo the latest registration sets the credentials of all; otherwise a lease has the registered
   attributes. */
static void a_lease_has_the_published_attributes(void) {
    struct state_observer states = {.observer = NEW_OBSERVER, .name = discover_standing_name};
    discover_client *scalingo_client = open_client("memory://fleet?layout=scalingo,native");
    discover_subscription *subscription;
    discover_registration *first = new_registration("api", 7021), *second = new_registration("api", 7022);
    discover_lease *lease, *last;
    discover_instance *seen;

    OK(discover_registration_set_attribute(first, "public", "true", NULL));
    OK(discover_registration_set_attribute(second, "public", "true", NULL));
    OK(discover_registration_set_attribute(first, "user", "old", NULL));
    OK(discover_registration_set_attribute(second, "user", "new", NULL));
    lease = register_instance(scalingo_client, first);
    seen = discover_lease_instance(lease);
    SAME_TEXT(discover_instance_address(seen), discover_lease_address(lease));
    SAME_TEXT(discover_instance_attribute(seen, "user"), "old");
    discover_instance_free(seen);
    OK(discover_lease_on_standing(lease, on_state, &states, destroy, &subscription, NULL));
    await_events(&states.observer, "live ok\n");
    last = register_instance(scalingo_client, second);
    await_events(&states.observer, "live ok\n");
    seen = discover_lease_instance(lease);
    SAME_TEXT(discover_instance_attribute(seen, "user"), "new");
    CHECK(discover_instance_layout_count(seen) == 0);
    discover_instance_free(seen);

    discover_set *set;
    discover_snapshot *now;
    OK(discover_client_services(scalingo_client, "api", &set, NULL));
    OK(discover_set_wait(set, 2, TIMEOUT_MS, &now, NULL));
    const discover_instance *one = discover_snapshot_online(now, 0);
    CHECK(discover_instance_layout_count(one) == 2);
    SAME_TEXT(discover_instance_layout(one, 0), "scalingo");
    SAME_TEXT(discover_instance_layout(one, 1), "native");
    CHECK(discover_instance_layout(one, 2) == NULL);
    discover_snapshot_free(now);
    discover_set_release(set);
    discover_subscription_cancel(subscription);
    await_destroyed(&states.observer);
    discover_lease_release(lease);
    discover_lease_release(last);
    OK(discover_client_close(scalingo_client, TIMEOUT_MS, NULL));
}

int main(int argc, char **argv) {
    client = open_client(test_url(argc, argv));
    the_current_state_is_delivered_first_and_none_after_a_cancel();
    an_unresponsive_registry_is_reported_with_the_reason();
    a_standing_subscription_ends_with_the_release();
    a_lapsed_registration_is_reported_with_the_reason();
    destroy_is_called_whatever_the_result();
    counters_have_names_and_values();
    a_lease_has_the_published_attributes();
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
