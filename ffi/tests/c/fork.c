/* A forked child: told at once that the parent's client is not its own, free to open one, and no trouble
 * to the parent, whatever it does. */
#include "check.h"

#include <sys/wait.h>

struct parent {
    discover_client *client;
    discover_lease *lease;
    discover_set *set;
    discover_feed *feed;
    discover_subscription *subscription;
    struct ear ear;
};

static void nothing(int32_t level, const char *target, const char *text, void *user_data) {
    (void)level, (void)target, (void)text, (void)user_data;
}

static void is_told_so(struct parent *parent) {
    struct ear ear = NEW_EAR;
    discover_registration *registration = describe("web", 7009);
    discover_error *reason;
    discover_lease *lease;
    discover_set *set;
    discover_snapshot *snapshot;
    discover_subscription *subscription;
    discover_feed *feed;

#define FORKED(call) FAILS(DISCOVER_ERR_FORKED, "forked", call)
    FORKED(discover_client_register(parent->client, registration, PATIENCE_MS, &lease, &error));
    FORKED(discover_client_services(parent->client, "web", &set, &error));
    FORKED(discover_lease_heartbeat(parent->lease, PATIENCE_MS, &error));
    FORKED(discover_lease_update(parent->lease, NULL, NULL, 0, PATIENCE_MS, &error));
    FORKED(discover_lease_unregister(parent->lease, PATIENCE_MS, &error));
    FORKED(discover_set_wait(parent->set, 1, PATIENCE_MS, &snapshot, &error));
    FORKED(discover_set_filter(parent->set, NULL, NULL, 0, NULL, 0, &set, &error));
    FORKED(discover_set_subscribe(parent->set, ear_hear, &ear, ear_destroy, &subscription, &error));
    CHECK(ear.destroyed == 1);
    FORKED(discover_set_feed(parent->set, &feed, &error));
    FORKED(discover_feed_drain(parent->feed, ear_hear, &ear, &error));
    CHECK(discover_lease_standing(parent->lease, &reason) == 0);
    CHECK(discover_error_status(reason) == DISCOVER_ERR_FORKED);
    discover_error_free(reason);
    discover_registration_free(registration);

    /* What the parent knew may have been in the middle of a change: the set is as if never heard of. */
    snapshot = discover_set_take_snapshot(parent->set);
    CHECK(!discover_snapshot_is_ready(snapshot) && discover_snapshot_online_count(snapshot) == 0);
    discover_snapshot_free(snapshot);
}

static void opens_its_own(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = enter(client, describe("child", 7002));
    discover_set *set = services(client, "child");

    discover_snapshot_free(await_online(set, 1));
    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
}

static void releases_what_it_inherited(struct parent *parent) {
    discover_subscription_cancel(parent->subscription);
    discover_feed_cancel(parent->feed);
    discover_lease_release(parent->lease);
    discover_set_release(parent->set);
    FORKED(discover_client_close(parent->client, PATIENCE_MS, &error));
}

static void succeeds(pid_t child) {
    int status = 0;

    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
    const char *url = url_of(argc, argv);
    const char *childs = strncmp(url, "memory:", 7) == 0 ? "memory://child" : url;
    struct parent parent = {.ear = NEW_EAR};
    discover_client *witness = open_client(url);
    discover_set *web = services(witness, "web");
    pid_t child;

    OK(discover_log_set(DISCOVER_LEVEL_TRACE, nothing, NULL, NULL, NULL));
    parent.client = open_client(url);
    parent.lease = enter(parent.client, describe("web", 7001));
    parent.set = services(parent.client, "web");
    parent.subscription = subscribe(parent.set, &parent.ear);
    OK(discover_set_feed(parent.set, &parent.feed, NULL));
    await_heard(&parent.ear, "current\n");
    discover_snapshot_free(await_online(parent.set, 1));
    discover_snapshot_free(await_online(web, 1));

    /* One that leaves all as it is, as a program that knows nothing of us. */
    if ((child = fork()) == 0) exit(0);
    succeeds(child);
    /* One that uses all of it. */
    if ((child = fork()) == 0) {
        alarm(PATIENCE_S);
        is_told_so(&parent);
        OK(discover_log_set(DISCOVER_LEVEL_TRACE, nothing, NULL, NULL, NULL));
        opens_its_own(childs);
        releases_what_it_inherited(&parent);
        exit(0);
    }
    succeeds(child);

    /* The parent has not noticed. */
    OK(discover_lease_heartbeat(parent.lease, PATIENCE_MS, NULL));
    CHECK(discover_lease_standing(parent.lease, NULL) == DISCOVER_STANDING_LIVE);
    discover_snapshot_free(await_online(web, 1));
    OK(discover_feed_drain(parent.feed, ear_hear, &parent.ear, NULL));
    await_heard(&parent.ear, "current\n");
    CHECK(strstr(parent.ear.heard, "down") == NULL && parent.ear.destroyed == 0);

    OK(discover_client_close(parent.client, PATIENCE_MS, NULL));
    OK(discover_client_close(witness, PATIENCE_MS, NULL));
    OK(discover_log_set(DISCOVER_LEVEL_TRACE, NULL, NULL, NULL, NULL));
    discover_subscription_cancel(parent.subscription);
    discover_feed_cancel(parent.feed);
    discover_lease_release(parent.lease);
    discover_set_release(parent.set);
    discover_set_release(web);
    return 0;
}
