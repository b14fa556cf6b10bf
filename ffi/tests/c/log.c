/* The log: who is told, from when, until when. */
#include "check.h"

struct logbook {
    sem_t warned;
    int destroyed;
};

static void on_record(int32_t level, const char *target, const char *text, void *user_data) {
    struct logbook *book = user_data;

    CHECK(book->destroyed == 0);
    CHECK(strncmp(target, "discover", strlen("discover")) == 0 && strchr(target, ':') == NULL);
    CHECK(level <= DISCOVER_LEVEL_INFO);
    if (level == DISCOVER_LEVEL_WARN && strstr(text, "lease lost service=web ") != NULL && strstr(text, " endpoint=127.0.0.1:7001 ") != NULL) {
        sem_post(&book->warned);
    }
}

static void on_destroy(void *user_data) {
    ((struct logbook *)user_data)->destroyed++;
}

static void set_log(int32_t level, discover_log_fn function, struct logbook *book) {
    OK(discover_log_set(level, function, book, on_destroy, NULL));
}

int main(int argc, char **argv) {
    const char *url = url_of(argc, argv);
    struct logbook first = {.destroyed = 0}, second = {.destroyed = 0}, none = {.destroyed = 0};
    discover_registration *registration = describe("web", 7001);
    discover_client *client;
    discover_lease *lease;

    sem_init(&first.warned, 0, 0);
    sem_init(&second.warned, 0, 0);
    set_log(DISCOVER_LEVEL_INFO, on_record, &first);
    client = open_client(url);
    OK(discover_registration_set_ttl_ms(registration, 1000, NULL));
    OK(discover_registration_set_heartbeat_manual(registration, NULL));
    lease = enter(client, registration);
    await_sem(&first.warned);

    /* Another takes over; the first has had its last call when the call returns. */
    CHECK(first.destroyed == 0);
    set_log(DISCOVER_LEVEL_WARN, on_record, &second);
    CHECK(first.destroyed == 1 && second.destroyed == 0);
    OK(discover_lease_heartbeat(lease, PATIENCE_MS, NULL));
    await_sem(&second.warned);

    /* A failure takes nobody's place. */
    CHECK(discover_log_set(0, on_record, &none, on_destroy, NULL) == DISCOVER_ERR_INVALID_ARGUMENT);
    CHECK(none.destroyed == 1 && second.destroyed == 0);
    set_log(DISCOVER_LEVEL_ERROR, NULL, &none);
    CHECK(none.destroyed == 2 && second.destroyed == 1);

    discover_lease_release(lease);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    CHECK(first.destroyed == 1);
    return 0;
}
