/* Seeded faults of a caller: seeded_faults URL FAULT. The matching sanitizer must report each fault, which
 * shows that the sanitizer is active. */
#include "harness.h"

static int shared;

static void *increment(void *user_data) {
    for (int i = 0; i < 1000; i++) shared++;
    return user_data;
}

/* Two threads change the same number without synchronization. */
static int data_race(void) {
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, increment, NULL) == 0);
    increment(NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    return shared;
}

/* A string borrowed from a snapshot is read after the snapshot was released. */
static int use_after_release(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = register_instance(client, new_registration("web", 7001));
    discover_set *set = open_set(client, "web");
    discover_snapshot *now = await_online(set, 1);
    const char *address = discover_instance_address(discover_snapshot_online(now, 0));

    discover_snapshot_free(now);
    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return address[0];
}

static int double_release(void) {
    discover_error *error;
    discover_client *none;

    CHECK(discover_client_open("nonsense", &none, &error) != DISCOVER_OK);
    discover_error_free(error);
    discover_error_free(error);
    return 0;
}

static int missing_release(const char *url) {
    discover_client *client = open_client(url);
    discover_registration *leaked = new_registration("web", 7001);

    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return (leaked = NULL) == NULL;
}

int main(int argc, char **argv) {
    const char *fault = argc == 3 ? argv[2] : "";

    alarm(2 * TIMEOUT_S);
    if (strcmp(fault, "data-race") == 0) return data_race() == 0;
    if (strcmp(fault, "use-after-release") == 0) return use_after_release(argv[1]) == 0;
    if (strcmp(fault, "double-release") == 0) return double_release();
    if (strcmp(fault, "missing-release") == 0) return !missing_release(argv[1]);
    return 2;
}
