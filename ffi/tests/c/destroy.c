/* destroy is called exactly once, whatever the result, and on the documented thread. */
#include "harness.h"

static discover_client *client;
static discover_set *set;

static void destroy_runs_on_this_thread_before_a_failed_call_returns(void) {
    struct observer observers[] = {NEW_OBSERVER, NEW_OBSERVER, NEW_OBSERVER};
    discover_subscription *out;

    CHECK(discover_set_subscribe(NULL, observer_on_event, &observers[0], observer_on_destroy, &out, NULL)
          != DISCOVER_OK);
    CHECK(discover_set_subscribe(set, NULL, &observers[1], observer_on_destroy, &out, NULL) != DISCOVER_OK);
    CHECK(discover_set_subscribe(set, observer_on_event, &observers[2], observer_on_destroy, NULL, NULL)
          != DISCOVER_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(observers[i].destroyed == 1 && observers[i].event_count == 0);
        CHECK(pthread_equal(observers[i].destroy_thread, pthread_self()));
    }
}

static void destroy_runs_on_the_callback_thread_after_a_cancel(void) {
    struct observer observer = NEW_OBSERVER;
    discover_subscription *subscription = subscribe(set, &observer);

    await_events(&observer, "current\n");
    discover_subscription_cancel(subscription);
    await_destroyed(&observer);
    CHECK(pthread_equal(observer.destroy_thread, observer.callback_thread));
    CHECK(!pthread_equal(observer.destroy_thread, pthread_self()));
}

/* Cancels its own subscription at the first event. */
struct self_cancelling {
    struct observer observer;
    pthread_mutex_t ready;
    discover_subscription *subscription;
};

static void cancel_at_once(const discover_event *event, void *user_data) {
    struct self_cancelling *self = user_data;

    observer_on_event(event, &self->observer);
    pthread_mutex_lock(&self->ready);
    discover_subscription_cancel(self->subscription);
    pthread_mutex_unlock(&self->ready);
}

static void a_cancel_inside_the_callback_makes_it_the_last_call(void) {
    struct self_cancelling self = {.observer = NEW_OBSERVER, .ready = PTHREAD_MUTEX_INITIALIZER};
    discover_snapshot *two = await_online(set, 2);

    /* Four events are pending: two up, leader, current. */
    discover_snapshot_free(two);
    pthread_mutex_lock(&self.ready);
    OK(discover_set_subscribe(set, cancel_at_once, &self, observer_on_destroy, &self.subscription, NULL));
    pthread_mutex_unlock(&self.ready);
    await_destroyed(&self.observer);
    CHECK(self.observer.event_count == 1);
}

static void *cancel(void *subscription) {
    discover_subscription_cancel(subscription);
    return NULL;
}

static void destroy_runs_after_a_cancel_from_another_thread(void) {
    struct observer observer = NEW_OBSERVER;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, cancel, subscribe(set, &observer)) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    await_destroyed(&observer);
}

static void destroy_runs_before_close_returns(void) {
    struct observer observer = NEW_OBSERVER, late = NEW_OBSERVER;
    discover_subscription *subscription = subscribe(set, &observer), *out;

    await_events(&observer, "current\n");
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    CHECK(observer.destroyed == 1 && pthread_equal(observer.destroy_thread, observer.callback_thread));
    discover_subscription_cancel(subscription);
    CHECK(observer.destroyed == 1);

    /* After closing, subscribing fails. */
    FAILS(DISCOVER_ERR_CLOSED, "closed",
          discover_set_subscribe(set, observer_on_event, &late, observer_on_destroy, &out, &error));
    CHECK(out == NULL && late.destroyed == 1 && pthread_equal(late.destroy_thread, pthread_self()));
}

int main(int argc, char **argv) {
    discover_lease *leases[2];
    discover_subscription *none;

    client = open_client(test_url(argc, argv));
    set = open_set(client, "web");
    leases[0] = register_instance(client, new_registration("web", 7001));
    leases[1] = register_instance(client, new_registration("web", 7002));

    destroy_runs_on_this_thread_before_a_failed_call_returns();
    destroy_runs_on_the_callback_thread_after_a_cancel();
    a_cancel_inside_the_callback_makes_it_the_last_call();
    destroy_runs_after_a_cancel_from_another_thread();
    /* Without anything to destroy, destroy is NULL. */
    CHECK(discover_set_subscribe(NULL, observer_on_event, NULL, NULL, &none, NULL) != DISCOVER_OK);
    destroy_runs_before_close_returns();

    discover_lease_release(leases[0]);
    discover_lease_release(leases[1]);
    discover_set_release(set);
    return 0;
}
