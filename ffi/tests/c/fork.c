/* A forked child process: its parent's client returns DISCOVER_ERR_FORKED at once, it can open its own client,
 * and it does not disturb its parent. */
#include "harness.h"

#include <sys/wait.h>

struct parent {
    discover_client *client;
    discover_lease *lease;
    discover_set *set;
    discover_feed *feed;
    discover_subscription *subscription;
    struct observer observer;
};

static void ignore_record(int32_t level, const char *target, const char *text, void *user_data) {
    (void)level, (void)target, (void)text, (void)user_data;
}

static void check_every_call_fails(struct parent *parent) {
    struct observer observer = NEW_OBSERVER;
    discover_registration *registration = new_registration("web", 7009);
    discover_error *reason;
    discover_lease *lease;
    discover_set *set;
    discover_snapshot *snapshot;
    discover_subscription *subscription;
    discover_feed *feed;
    discover_instance *picked;

#define FORKED(call) FAILS(DISCOVER_ERR_FORKED, "forked", call)
    FORKED(discover_client_register(parent->client, registration, TIMEOUT_MS, &lease, &error));
    FORKED(discover_client_services(parent->client, "web", &set, &error));
    FORKED(discover_lease_heartbeat(parent->lease, TIMEOUT_MS, &error));
    FORKED(discover_lease_update(parent->lease, NULL, NULL, 0, TIMEOUT_MS, &error));
    FORKED(discover_lease_unregister(parent->lease, TIMEOUT_MS, &error));
    FORKED(discover_set_pick(parent->set, "round_robin", NULL, &picked, &error));
    FORKED(discover_set_pick(parent->set, "hash", "key", &picked, &error));
    FORKED(discover_set_wait(parent->set, 1, TIMEOUT_MS, &snapshot, &error));
    FORKED(discover_set_filter(parent->set, NULL, NULL, 0, NULL, 0, &set, &error));
    FORKED(discover_set_subscribe(parent->set, observer_on_event, &observer, observer_on_destroy,
                                  &subscription, &error));
    CHECK(observer.destroyed == 1);
    FORKED(discover_set_feed(parent->set, &feed, &error));
    FORKED(discover_feed_drain(parent->feed, observer_on_event, &observer, &error));
    CHECK(discover_lease_standing(parent->lease, &reason) == 0);
    CHECK(discover_error_status(reason) == DISCOVER_ERR_FORKED);
    discover_error_free(reason);
    discover_registration_free(registration);

    /* Reads without a status have no value that could be mistaken for an empty set; names stay readable. */
    CHECK(discover_set_take_snapshot(parent->set) == NULL);
    CHECK(discover_set_state(parent->set) == 0);
    CHECK(discover_scalingo_service_from_set(parent->set) == NULL);
    CHECK(strcmp(discover_set_service(parent->set), "web") == 0);
}

static void open_own_client(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = register_instance(client, new_registration("child", 7002));
    discover_set *set = open_set(client, "child");

    discover_snapshot_free(await_online(set, 1));
    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
}

static void release_inherited_objects(struct parent *parent) {
    discover_subscription_cancel(parent->subscription);
    discover_feed_cancel(parent->feed);
    discover_lease_release(parent->lease);
    discover_set_release(parent->set);
    FORKED(discover_client_close(parent->client, TIMEOUT_MS, &error));
}

static void check_child_succeeded(pid_t child) {
    int status = 0;

    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);
    const char *child_url = strncmp(url, "memory:", 7) == 0 ? "memory://child" : url;
    struct parent parent = {.observer = NEW_OBSERVER};
    discover_client *witness = open_client(url);
    discover_set *web = open_set(witness, "web");
    pid_t child;

    OK(discover_log_set(DISCOVER_LEVEL_TRACE, ignore_record, NULL, NULL, NULL));
    parent.client = open_client(url);
    parent.lease = register_instance(parent.client, new_registration("web", 7001));
    parent.set = open_set(parent.client, "web");
    parent.subscription = subscribe(parent.set, &parent.observer);
    OK(discover_set_feed(parent.set, &parent.feed, NULL));
    await_events(&parent.observer, "current\n");
    discover_snapshot_free(await_online(parent.set, 1));
    discover_snapshot_free(await_online(web, 1));

    /* A child that uses nothing of the library. */
    if ((child = fork()) == 0) exit(0);
    check_child_succeeded(child);
    /* A child that uses everything. */
    if ((child = fork()) == 0) {
        alarm(TIMEOUT_S);
        check_every_call_fails(&parent);
        OK(discover_log_set(DISCOVER_LEVEL_TRACE, ignore_record, NULL, NULL, NULL));
        open_own_client(child_url);
        release_inherited_objects(&parent);
        exit(0);
    }
    check_child_succeeded(child);

    /* The parent is undisturbed. */
    OK(discover_lease_heartbeat(parent.lease, TIMEOUT_MS, NULL));
    CHECK(discover_lease_standing(parent.lease, NULL) == DISCOVER_STANDING_LIVE);
    discover_snapshot_free(await_online(web, 1));
    OK(discover_feed_drain(parent.feed, observer_on_event, &parent.observer, NULL));
    await_events(&parent.observer, "current\n");
    CHECK(strstr(parent.observer.received, "down") == NULL && parent.observer.destroyed == 0);

    OK(discover_client_close(parent.client, TIMEOUT_MS, NULL));
    OK(discover_client_close(witness, TIMEOUT_MS, NULL));
    OK(discover_log_set(DISCOVER_LEVEL_TRACE, NULL, NULL, NULL, NULL));
    discover_subscription_cancel(parent.subscription);
    discover_feed_cancel(parent.feed);
    discover_lease_release(parent.lease);
    discover_set_release(parent.set);
    discover_set_release(web);
    return 0;
}
