/* How a connection and a registration fare, asked for and told; and the counters. */
#include "check.h"

static discover_client *client;

/* Hears states as an ear hears events. */
struct states {
    struct ear ear;
    const char *(*name)(int32_t);
};

static void hear(int32_t state, const discover_error *reason, void *user_data) {
    struct states *own = user_data;
    struct ear *ear = &own->ear;
    size_t length;

    pthread_mutex_lock(&ear->lock);
    CHECK(ear->destroyed == 0);
    length = strlen(ear->heard);
    snprintf(ear->heard + length, sizeof ear->heard - length, "%s %s\n", own->name(state),
             discover_status_name(discover_error_status(reason)));
    ear->events++;
    ear->listener = pthread_self();
    pthread_cond_broadcast(&ear->changed);
    pthread_mutex_unlock(&ear->lock);
}

static void destroy(void *user_data) {
    struct states *own = user_data;
    ear_destroy(&own->ear);
}

static discover_subscription *follow(struct states *states) {
    discover_subscription *subscription;
    OK(discover_client_on_connection(client, hear, states, destroy, &subscription, NULL));
    return subscription;
}

static void the_present_state_comes_first_and_a_cancel_is_the_end(void) {
    struct states states = {.ear = NEW_EAR, .name = discover_connection_name};
    discover_error *reason = (void *)&states;
    discover_subscription *subscription;

    CHECK(discover_client_connection(client, &reason) == DISCOVER_CONNECTION_CONNECTED);
    CHECK(reason == NULL);
    subscription = follow(&states);
    await_heard(&states.ear, "connected ok\n");
    CHECK(!pthread_equal(states.ear.listener, pthread_self()));
    discover_subscription_cancel(subscription);
    await_destroyed(&states.ear);
    CHECK(states.ear.events == 1 && pthread_equal(states.ear.destroyer, states.ear.listener));
}

static void a_registry_that_does_not_answer_is_told_with_the_reason(void) {
    struct states states = {.ear = NEW_EAR, .name = discover_connection_name};
    discover_client *usual = client;
    discover_subscription *subscription;
    discover_set *set;
    discover_error *reason;

    client = open_client("etcd://127.0.0.1:1?lazy=true&ttl=1s");
    subscription = follow(&states);
    set = services(client, "web");
    await_heard(&states.ear, "suspended unavailable\n");
    await_heard(&states.ear, "lost unavailable\n");
    CHECK(discover_client_connection(client, &reason) == DISCOVER_CONNECTION_LOST);
    CHECK(discover_error_status(reason) == DISCOVER_ERR_UNAVAILABLE);
    discover_error_free(reason);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    CHECK(states.ear.destroyed == 1);
    discover_subscription_cancel(subscription);
    CHECK(states.ear.destroyed == 1);
    discover_set_release(set);
    client = usual;
}

static void a_registration_is_followed_to_its_end(void) {
    struct states states = {.ear = NEW_EAR, .name = discover_standing_name};
    discover_subscription *subscription;
    discover_lease *lease = enter(client, describe("web", 7001));

    OK(discover_lease_on_standing(lease, hear, &states, destroy, &subscription, NULL));
    await_heard(&states.ear, "live ok\n");
    discover_lease_release(lease);
    await_heard(&states.ear, "released ok\n");
    /* Nothing can follow, so the listener is let go of by itself. */
    await_destroyed(&states.ear);
    discover_subscription_cancel(subscription);
    CHECK(states.ear.destroyed == 1 && states.ear.events == 2);
}

/* Whoever is slow, as under valgrind, does not hear that it was live in between. */
static void a_registration_that_lapses_is_told_with_the_reason(void) {
    struct states states = {.ear = NEW_EAR, .name = discover_standing_name};
    discover_registration *registration = describe("web", 7002);
    discover_subscription *subscription;
    discover_lease *lease;

    OK(discover_registration_set_ttl_ms(registration, 1000, NULL));
    OK(discover_registration_set_heartbeat_manual(registration, NULL));
    lease = enter(client, registration);
    OK(discover_lease_on_standing(lease, hear, &states, destroy, &subscription, NULL));
    await_heard(&states.ear, "lapsed lease_lost\n");
    OK(discover_lease_heartbeat(lease, PATIENCE_MS, NULL));
    discover_lease_release(lease);
    await_heard(&states.ear, "released ok\n");
    await_destroyed(&states.ear);
    discover_subscription_cancel(subscription);
}

static void destroy_is_called_whatever_happens(void) {
    struct states states[] = {{.ear = NEW_EAR}, {.ear = NEW_EAR}, {.ear = NEW_EAR}};
    discover_subscription *out;

    CHECK(discover_client_on_connection(NULL, hear, &states[0], destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_client_on_connection(client, NULL, &states[1], destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_lease_on_standing(NULL, hear, &states[2], destroy, &out, NULL) != DISCOVER_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(states[i].ear.destroyed == 1 && states[i].ear.events == 0);
        CHECK(pthread_equal(states[i].ear.destroyer, pthread_self()));
    }
}

static void counters_have_names_and_values(void) {
    static const char *const known[] = {"reconnects", "relists", "resyncs",  "duplicates",
                                        "mismatches", "invalid", "restored", "lag_ms"};
    uint64_t value, restored = 0;

    CHECK(discover_metric_count() == sizeof known / sizeof *known);
    for (size_t i = 0; i < discover_metric_count(); i++) {
        SAME(discover_metric_name(i), known[i]);
        value = UINT64_MAX;
        OK(discover_client_metric(client, discover_metric_name(i), &value, NULL));
        CHECK(value < UINT64_MAX);
    }
    /* The registration that had lapsed. */
    OK(discover_client_metric(client, "restored", &restored, NULL));
    CHECK(restored >= 1);
}

/* With layout=scalingo the last to register says the credentials of all; with others a lease says what was
   registered. */
static void what_others_see_can_be_read_of_the_lease(void) {
    struct states states = {.ear = NEW_EAR, .name = discover_standing_name};
    discover_client *fleet = open_client("memory://fleet?layout=scalingo,native");
    discover_subscription *subscription;
    discover_registration *first = describe("api", 7021), *second = describe("api", 7022);
    discover_lease *lease, *last;
    discover_instance *seen;

    OK(discover_registration_set_attribute(first, "public", "true", NULL));
    OK(discover_registration_set_attribute(second, "public", "true", NULL));
    OK(discover_registration_set_attribute(first, "user", "old", NULL));
    OK(discover_registration_set_attribute(second, "user", "new", NULL));
    lease = enter(fleet, first);
    seen = discover_lease_instance(lease);
    SAME(discover_instance_address(seen), discover_lease_address(lease));
    SAME(discover_instance_attribute(seen, "user"), "old");
    discover_instance_free(seen);
    OK(discover_lease_on_standing(lease, hear, &states, destroy, &subscription, NULL));
    await_heard(&states.ear, "live ok\n");
    last = enter(fleet, second);
    await_heard(&states.ear, "live ok\n");
    seen = discover_lease_instance(lease);
    SAME(discover_instance_attribute(seen, "user"), "new");
    CHECK(discover_instance_layout_count(seen) == 0);
    discover_instance_free(seen);

    discover_set *set;
    discover_snapshot *now;
    OK(discover_client_services(fleet, "api", &set, NULL));
    OK(discover_set_wait(set, 2, PATIENCE_MS, &now, NULL));
    const discover_instance *one = discover_snapshot_online(now, 0);
    CHECK(discover_instance_layout_count(one) == 2);
    SAME(discover_instance_layout(one, 0), "scalingo");
    SAME(discover_instance_layout(one, 1), "native");
    CHECK(discover_instance_layout(one, 2) == NULL);
    discover_snapshot_free(now);
    discover_set_release(set);
    discover_subscription_cancel(subscription);
    await_destroyed(&states.ear);
    discover_lease_release(lease);
    discover_lease_release(last);
    OK(discover_client_close(fleet, PATIENCE_MS, NULL));
}

int main(int argc, char **argv) {
    client = open_client(url_of(argc, argv));
    the_present_state_comes_first_and_a_cancel_is_the_end();
    a_registry_that_does_not_answer_is_told_with_the_reason();
    a_registration_is_followed_to_its_end();
    a_registration_that_lapses_is_told_with_the_reason();
    destroy_is_called_whatever_happens();
    counters_have_names_and_values();
    what_others_see_can_be_read_of_the_lease();
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    return 0;
}
