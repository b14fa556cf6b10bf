/* Takes part in a leader election until Enter is pressed: leader PORT. */
#include <discover.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program if a call failed. */
static void check(discover_status status, discover_error **error) {
    if (status != DISCOVER_OK) {
        fprintf(stderr, "leader: %s\n", discover_error_message(*error));
        exit(1);
    }
}

static void on_event(const discover_event *event, void *lease) {
    const char *leader = discover_instance_address(discover_event_instance(event));
    if (discover_event_kind(event) != DISCOVER_EVENT_LEADER || leader == NULL) return;
    if (strcmp(leader, discover_lease_address(lease)) == 0) puts("leading");
    else printf("following %s\n", leader);
    fflush(stdout);
}

int main(int argc, char **argv) {
    discover_client *client;
    discover_registration *registration;
    discover_lease *lease;
    discover_set *workers;
    discover_subscription *subscription;
    discover_error *error;
    int key;
    if (argc != 2) {
        fprintf(stderr, "leader: usage: leader PORT\n");
        return 1;
    }

    /* Without a URL the registry is that of DISCOVER_URL, else local://. */
    check(discover_client_open(NULL, &client, &error), &error);

    /* Every registered instance is a candidate; the oldest one leads. */
    check(discover_registration_new("worker", atol(argv[1]), &registration, &error), &error);
    check(discover_registration_set_host(registration, "127.0.0.1", &error), &error);
    check(discover_client_register(client, registration, 5000, &lease, &error), &error);
    discover_registration_free(registration);

    /* The callback receives the current leader first and then each new one. */
    check(discover_client_services(client, "worker", &workers, &error), &error);
    check(discover_set_subscribe(workers, on_event, lease, NULL, &subscription, &error), &error);

    /* Do the leader's work here, or wait to become the leader. */
    do key = getchar();
    while (key != '\n' && key != EOF);

    /* Closing unregisters the instance, and the next oldest one leads. */
    check(discover_client_close(client, 5000, &error), &error);
    discover_subscription_cancel(subscription);
    discover_set_release(workers);
    discover_lease_release(lease);
    return 0;
}
