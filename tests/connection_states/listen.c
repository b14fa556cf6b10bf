/* Prints the state of its connection and its registration until its input ends: `listen URL PORT`. */
#include <discover.h>

#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 60000

static void check(discover_status status, const char *operation) {
    if (status == DISCOVER_OK) return;
    fprintf(stderr, "%s: %s\n", operation, discover_status_name(status));
    exit(1);
}

static void on_connection(int32_t state, const discover_error *reason, void *user_data) {
    (void)reason, (void)user_data;
    printf("connection %s\n", discover_connection_name(state));
    fflush(stdout);
}

static void on_standing(int32_t state, const discover_error *reason, void *user_data) {
    (void)reason, (void)user_data;
    printf("standing %s\n", discover_standing_name(state));
    fflush(stdout);
}

int main(int argc, char **argv) {
    discover_client *client;
    discover_registration *registration;
    discover_lease *lease;
    discover_set *set;
    discover_snapshot *snapshot;
    discover_subscription *connection, *standing;
    uint64_t reconnects;

    if (argc != 3) return 2;
    check(discover_client_open(argv[1], &client, NULL), "open");
    check(discover_client_on_connection(client, on_connection, NULL, NULL, &connection, NULL), "connection");
    check(discover_registration_new("states", atoi(argv[2]), &registration, NULL), "registration");
    check(discover_registration_set_host(registration, "127.0.0.1", NULL), "host");
    check(discover_client_register(client, registration, TIMEOUT_MS, &lease, NULL), "register");
    check(discover_lease_on_standing(lease, on_standing, NULL, NULL, &standing, NULL), "standing");
    check(discover_client_services(client, "states", &set, NULL), "services");
    while (getchar() != EOF) {}
    check(discover_client_metric(client, "reconnects", &reconnects, NULL), "metric");
    snapshot = discover_set_take_snapshot(set);
    printf("reconnected %s %s\n", reconnects > 0 ? "True" : "False",
           discover_snapshot_online_count(snapshot) > 0 ? "True" : "False");
    fflush(stdout);
    discover_subscription_cancel(connection);
    check(discover_lease_unregister(lease, TIMEOUT_MS, NULL), "unregister");
    check(discover_client_close(client, TIMEOUT_MS, NULL), "close");
    discover_subscription_cancel(standing);
    discover_snapshot_free(snapshot);
    discover_set_release(set);
    discover_lease_release(lease);
    discover_registration_free(registration);
    return 0;
}
