/* destroy is called exactly once, whatever happens, and on the thread that was promised. */
#include "check.h"

static discover_client *client;
static discover_set *set;

static void on_failure_before_the_call_returns_and_on_this_thread(void) {
    struct ear ears[] = {NEW_EAR, NEW_EAR, NEW_EAR};
    discover_subscription *out;

    CHECK(discover_set_subscribe(NULL, ear_hear, &ears[0], ear_destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_set_subscribe(set, NULL, &ears[1], ear_destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_set_subscribe(set, ear_hear, &ears[2], ear_destroy, NULL, NULL) != DISCOVER_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(ears[i].destroyed == 1 && ears[i].events == 0);
        CHECK(pthread_equal(ears[i].destroyer, pthread_self()));
    }
}

static void after_cancel_on_the_callback_thread(void) {
    struct ear ear = NEW_EAR;
    discover_subscription *subscription = subscribe(set, &ear);

    await_heard(&ear, "current\n");
    discover_subscription_cancel(subscription);
    await_destroyed(&ear);
    CHECK(pthread_equal(ear.destroyer, ear.listener) && !pthread_equal(ear.destroyer, pthread_self()));
}

/* Cancels its own subscription at the first event. */
struct suicidal {
    struct ear ear;
    pthread_mutex_t ready;
    discover_subscription *subscription;
};

static void cancel_at_once(const discover_event *event, void *user_data) {
    struct suicidal *own = user_data;

    ear_hear(event, &own->ear);
    pthread_mutex_lock(&own->ready);
    discover_subscription_cancel(own->subscription);
    pthread_mutex_unlock(&own->ready);
}

static void after_a_cancel_inside_the_callback_which_is_the_last(void) {
    struct suicidal own = {.ear = NEW_EAR, .ready = PTHREAD_MUTEX_INITIALIZER};
    discover_snapshot *two = await_online(set, 2);

    /* Four events are waiting: two up, the leader, current. */
    discover_snapshot_free(two);
    pthread_mutex_lock(&own.ready);
    OK(discover_set_subscribe(set, cancel_at_once, &own, ear_destroy, &own.subscription, NULL));
    pthread_mutex_unlock(&own.ready);
    await_destroyed(&own.ear);
    CHECK(own.ear.events == 1);
}

static void *cancel(void *subscription) {
    discover_subscription_cancel(subscription);
    return NULL;
}

static void after_a_cancel_by_any_thread(void) {
    struct ear ear = NEW_EAR;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, cancel, subscribe(set, &ear)) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    await_destroyed(&ear);
}

static void before_close_returns(void) {
    struct ear ear = NEW_EAR, late = NEW_EAR;
    discover_subscription *subscription = subscribe(set, &ear), *out;

    await_heard(&ear, "current\n");
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    CHECK(ear.destroyed == 1 && pthread_equal(ear.destroyer, ear.listener));
    discover_subscription_cancel(subscription);
    CHECK(ear.destroyed == 1);

    /* Once closed, it is a failure again. */
    FAILS(DISCOVER_ERR_CLOSED, "closed",
          discover_set_subscribe(set, ear_hear, &late, ear_destroy, &out, &error));
    CHECK(out == NULL && late.destroyed == 1 && pthread_equal(late.destroyer, pthread_self()));
}

int main(int argc, char **argv) {
    discover_lease *leases[2];
    discover_subscription *careless;

    client = open_client(url_of(argc, argv));
    set = services(client, "web");
    leases[0] = enter(client, describe("web", 7001));
    leases[1] = enter(client, describe("web", 7002));

    on_failure_before_the_call_returns_and_on_this_thread();
    after_cancel_on_the_callback_thread();
    after_a_cancel_inside_the_callback_which_is_the_last();
    after_a_cancel_by_any_thread();
    /* Whoever has nothing to destroy gives NULL. */
    CHECK(discover_set_subscribe(NULL, ear_hear, NULL, NULL, &careless, NULL) != DISCOVER_OK);
    before_close_returns();

    discover_lease_release(leases[0]);
    discover_lease_release(leases[1]);
    discover_set_release(set);
    return 0;
}
