/* Registers a service until Enter is pressed: register PORT. */
#include <discover.h>

#include <stdio.h>
#include <stdlib.h>

/* Leaves the program if a call failed. What is left open then goes with the process. */
static void check(discover_status status, discover_error **error) {
    if (status != DISCOVER_OK) {
        fprintf(stderr, "register: %s\n", discover_error_message(*error));
        exit(1);
    }
}

int main(int argc, char **argv) {
    discover_client *client;
    discover_registration *registration;
    discover_lease *lease;
    discover_error *error;
    int key;

    if (argc != 2) {
        fprintf(stderr, "register: usage: register PORT\n");
        return 1;
    }

    /* Without a URL, the registry is the one named by DISCOVER_URL, else local://. */
    check(discover_client_open(NULL, &client, &error), &error);

    /* Say who we are. Once discover_client_register returns, others see us. */
    check(discover_registration_new("web", atol(argv[1]), &registration, &error), &error);
    check(discover_registration_set_host(registration, "127.0.0.1", &error), &error);
    check(discover_registration_set_attribute(registration, "zone", "eu", &error), &error);
    check(discover_registration_set_attribute(registration, "version", "1", &error), &error);
    check(discover_client_register(client, registration, 5000, &lease, &error), &error);
    discover_registration_free(registration);
    printf("registered web at %s\n", discover_lease_address(lease));
    fflush(stdout);

    /* The library keeps us alive; we are free to do our work. */
    do key = getchar();
    while (key != '\n' && key != EOF);

    /* Leave: others see us go at once. Releasing the lease alone would do the same. */
    check(discover_lease_unregister(lease, 5000, &error), &error);
    printf("unregistered\n");
    discover_lease_release(lease);
    check(discover_client_close(client, 5000, &error), &error);
    return 0;
}
