/* The log callback: which records it receives, and when it is replaced. */
#include "harness.h"

struct log_state {
    sem_t warned;
    int destroyed;
};

static void on_record(int32_t level, const char *target, const char *text, void *user_data) {
    struct log_state *log = user_data;

    CHECK(log->destroyed == 0);
    CHECK(strncmp(target, "discover", strlen("discover")) == 0 && strchr(target, ':') == NULL);
    CHECK(level <= DISCOVER_LEVEL_INFO);
    if (level == DISCOVER_LEVEL_WARN && strstr(text, "lease lost service=web ") != NULL
        && strstr(text, " endpoint=127.0.0.1:7001 ") != NULL) {
        sem_post(&log->warned);
    }
}

static void on_destroy(void *user_data) {
    ((struct log_state *)user_data)->destroyed++;
}

static void set_log(int32_t level, discover_log_fn function, struct log_state *log) {
    OK(discover_log_set(level, function, log, on_destroy, NULL));
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);
    struct log_state first = {.destroyed = 0}, second = {.destroyed = 0}, none = {.destroyed = 0};
    discover_registration *registration = new_registration("web", 7001);
    discover_client *client;
    discover_lease *lease;

    sem_init(&first.warned, 0, 0);
    sem_init(&second.warned, 0, 0);
    set_log(DISCOVER_LEVEL_INFO, on_record, &first);
    client = open_client(url);
    OK(discover_registration_set_ttl_ms(registration, 1000, NULL));
    OK(discover_registration_set_heartbeat_manual(registration, NULL));
    lease = register_instance(client, registration);
    await_sem(&first.warned);

    /* A second callback replaces the first, which has had its last call when the call returns. */
    CHECK(first.destroyed == 0);
    set_log(DISCOVER_LEVEL_WARN, on_record, &second);
    CHECK(first.destroyed == 1 && second.destroyed == 0);
    OK(discover_lease_heartbeat(lease, TIMEOUT_MS, NULL));
    await_sem(&second.warned);

    /* A failed call replaces nothing. */
    CHECK(discover_log_set(0, on_record, &none, on_destroy, NULL) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(none.destroyed == 1 && second.destroyed == 0);
    set_log(DISCOVER_LEVEL_ERROR, NULL, &none);
    CHECK(none.destroyed == 2 && second.destroyed == 1);

    discover_lease_release(lease);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    CHECK(first.destroyed == 1);
    return 0;
}
