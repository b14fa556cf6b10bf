/* Registers a service until Enter is pressed: register PORT. */
#include <discover.h>

#include <stdio.h>
#include <stdlib.h>

/* Ends the program if a call failed. The kernel then frees all that is open. */
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

    /* Without a URL the registry is that of DISCOVER_URL, else local://. */
    check(discover_client_open(NULL, &client, &error), &error);

    /* Register an instance. When discover_client_register returns, other clients see it. */
    check(discover_registration_new("web", atol(argv[1]), &registration, &error), &error);
    check(discover_registration_set_host(registration, "127.0.0.1", &error), &error);
    check(discover_registration_set_attribute(registration, "zone", "eu", &error), &error);
    check(discover_registration_set_attribute(registration, "version", "1", &error), &error);
    check(discover_client_register(client, registration, 5000, &lease, &error), &error);
    discover_registration_free(registration);
    printf("registered web at %s\n", discover_lease_address(lease));
    fflush(stdout);

    /* Do the service's work here; the library keeps the registration alive. */
    do key = getchar();
    while (key != '\n' && key != EOF);

    /* Unregister: other clients see the instance go offline at once. Releasing the lease has the same effect. */
    check(discover_lease_unregister(lease, 5000, &error), &error);
    printf("unregistered\n");
    discover_lease_release(lease);
    check(discover_client_close(client, 5000, &error), &error);
    return 0;
}
