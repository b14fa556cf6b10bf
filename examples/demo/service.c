/* A service of the demo in C: `service PORT`. It updates an attribute when it reads the line "update" from
 * standard input, and unregisters at the end of standard input. */
#include <discover.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(discover_status status, discover_error **error) {
    if (status != DISCOVER_OK) {
        fprintf(stderr, "service.c: %s\n", discover_error_message(*error));
        exit(1);
    }
}

int main(int argc, char **argv) {
    static const char *const names[] = {"language", "version"};
    static const char *const values[] = {"C", "2"};
    discover_client *client;
    discover_registration *registration;
    discover_lease *lease;
    discover_error *error = NULL;
    char line[16];

    check(discover_client_open(NULL, &client, &error), &error);
    check(discover_registration_new("shop", argc > 1 ? atol(argv[1]) : 0, &registration, &error), &error);
    check(discover_registration_set_attribute(registration, "language", "C", &error), &error);
    check(discover_client_register(client, registration, 5000, &lease, &error), &error);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(line, "update\n") == 0) {
            check(discover_lease_update(lease, names, values, 2, 5000, &error), &error);
        }
    }
    discover_lease_release(lease);
    discover_registration_free(registration);
    check(discover_client_close(client, 5000, &error), &error);
    return 0;
}
