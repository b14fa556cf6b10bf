/* Calls every function with a const first argument from many threads at once. */
#include "harness.h"

enum { THREADS = 4, ROUNDS = 300 };

static discover_client *client;
static discover_set *set;
static discover_lease *lease;

static void *read_everything(void *unused) {
    const char *const names[] = {"zone"}, *const values[] = {"eu"};

    for (int round = 0; round < ROUNDS; round++) {
        discover_snapshot *snapshot = discover_set_take_snapshot(set);
        size_t count = discover_snapshot_online_count(snapshot);
        discover_instance *picked;
        discover_set *again, *narrow;

        CHECK(count >= 1);
        for (size_t i = 0; i < count; i++) {
            CHECK(discover_instance_address(discover_snapshot_online(snapshot, i)) != NULL);
        }
        discover_snapshot_free(snapshot);
        OK(discover_set_pick(set, "p2c", NULL, &picked, NULL));
        discover_set_done(set, picked);
        discover_instance_free(picked);
        OK(discover_client_services(client, "web", &again, NULL));
        OK(discover_set_filter(again, names, values, 1, NULL, 0, &narrow, NULL));
        discover_snapshot_free(discover_set_take_snapshot(narrow));
        discover_set_release(narrow);
        discover_set_release(again);
        CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);
    }
    return unused;
}

static void *write_everything(void *port) {
    for (int round = 0; round < ROUNDS / 10; round++) {
        struct observer observer = NEW_OBSERVER;
        discover_subscription *subscription = subscribe(set, &observer);
        discover_lease *other = register_instance(client, new_registration("web", *(int *)port));

        OK(discover_lease_heartbeat(other, TIMEOUT_MS, NULL));
        OK(discover_lease_unregister(other, TIMEOUT_MS, NULL));
        discover_lease_release(other);
        discover_subscription_cancel(subscription);
        await_destroyed(&observer);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t readers[THREADS], writers[THREADS];
    int ports[THREADS];

    client = open_client(test_url(argc, argv));
    set = open_set(client, "web");
    lease = register_instance(client, new_registration("web", 7000));
    discover_snapshot_free(await_online(set, 1));
    for (int i = 0; i < THREADS; i++) {
        ports[i] = 7001 + i;
        CHECK(pthread_create(&readers[i], NULL, read_everything, NULL) == 0);
        CHECK(pthread_create(&writers[i], NULL, write_everything, &ports[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(readers[i], NULL) == 0);
        CHECK(pthread_join(writers[i], NULL) == 0);
    }
    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
