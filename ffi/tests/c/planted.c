/* Bugs of a caller's, planted: planted URL WHICH. A run with the checker that is meant for it must find
 * each, or the checker is not on. */
#include "check.h"

static int shared;

static void *change(void *user_data) {
    for (int i = 0; i < 1000; i++) shared++;
    return user_data;
}

/* Two threads change the same number, and nothing orders them. */
static int race(void) {
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, change, NULL) == 0);
    change(NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    return shared;
}

/* What is borrowed from a snapshot is looked at after its release. */
static int borrowed_too_long(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = enter(client, describe("web", 7001));
    discover_set *set = services(client, "web");
    discover_snapshot *now = await_online(set, 1);
    const char *address = discover_instance_address(discover_snapshot_online(now, 0));

    discover_snapshot_free(now);
    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    return address[0];
}

static int released_twice(void) {
    discover_error *error;
    discover_client *none;

    CHECK(discover_client_open("nonsense", &none, &error) != DISCOVER_OK);
    discover_error_free(error);
    discover_error_free(error);
    return 0;
}

static int never_released(const char *url) {
    discover_client *client = open_client(url);
    discover_registration *forgotten = describe("web", 7001);

    OK(discover_client_close(client, PATIENCE_MS, NULL));
    return (forgotten = NULL) == NULL;
}

int main(int argc, char **argv) {
    const char *which = argc == 3 ? argv[2] : "";

    alarm(2 * PATIENCE_S);
    if (strcmp(which, "race") == 0) return race() == 0;
    if (strcmp(which, "borrowed") == 0) return borrowed_too_long(argv[1]) == 0;
    if (strcmp(which, "twice") == 0) return released_twice();
    if (strcmp(which, "forgotten") == 0) return !never_released(argv[1]);
    return 2;
}
