/* Prints the events of the service web until Enter is pressed: watch. */
#include <discover.h>

#include <stdio.h>
#include <stdlib.h>

/* Ends the program if a call failed. The kernel then frees all that is open. */
static void check(discover_status status, discover_error **error) {
    if (status != DISCOVER_OK) {
        fprintf(stderr, "watch: %s\n", discover_error_message(*error));
        exit(1);
    }
}

/* Runs on the client's callback thread, one event at a time. */
static void print_event(const discover_event *event, void *user_data) {
    const char *kind = discover_event_kind_name(discover_event_kind(event));
    const discover_instance *instance = discover_event_instance(event);

    (void)user_data;
    if (instance != NULL) {
        printf("%s %s\n", kind, discover_instance_address(instance));
    } else if (discover_event_kind(event) == DISCOVER_EVENT_LEADER) {
        printf("leader none\n");
    } else if (discover_event_error(event) != NULL) {
        printf("%s %s\n", kind, discover_error_message(discover_event_error(event)));
    } else {
        printf("%s\n", kind);
    }
    fflush(stdout);
}

int main(void) {
    discover_client *client;
    discover_set *web;
    discover_subscription *subscription;
    discover_error *error;
    int key;

    /* Without a URL the registry is that of DISCOVER_URL, else local://. */
    check(discover_client_open(NULL, &client, &error), &error);

    /* Watch the service: first the full state, then `current`, then every change. */
    check(discover_client_services(client, "web", &web, &error), &error);
    check(discover_set_subscribe(web, print_event, NULL, NULL, &subscription, &error), &error);

    /* Do other work here; the callback receives the events. */
    do key = getchar();
    while (key != '\n' && key != EOF);

    /* After closing, no event follows. */
    check(discover_client_close(client, 5000, &error), &error);
    discover_subscription_cancel(subscription);
    discover_set_release(web);
    return 0;
}
