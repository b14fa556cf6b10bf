/* Shared by the C tests: checks that print their location, waits with a deadline, and an event observer. */
#ifndef HARNESS_H
#define HARNESS_H

#include <discover.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S 60
#define TIMEOUT_MS (TIMEOUT_S * 1000)

#define CHECK(condition) check_that((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define SAME_TEXT(got, wanted) check_text(got, wanted, #got, __FILE__, __LINE__)
#define OK(call) check_status(call, DISCOVER_OK, #call, __FILE__, __LINE__)
/* Checks that the call, which writes its error to `error`, fails with this status and this part of a message. */
#define FAILS(wanted, words, call)                                     \
    do {                                                               \
        discover_error *error = NULL;                                  \
        check_status(call, wanted, #call, __FILE__, __LINE__);         \
        CHECK(discover_error_status(error) == wanted);                 \
        CHECK(strstr(discover_error_message(error), words) != NULL);   \
        CHECK(discover_error_is_retriable(error) == discover_status_is_retriable(wanted)); \
        discover_error_free(error);                                    \
    } while (0)

static inline void check_that(int holds, const char *text, const char *file, int line) {
    if (holds) return;
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, text);
    exit(1);
}

static inline void check_text(const char *got, const char *wanted, const char *text, const char *file,
                              int line) {
    if (got != NULL && strcmp(got, wanted) == 0) return;
    fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", file, line, text, got ? got : "(null)", wanted);
    exit(1);
}

static inline void check_status(discover_status got, discover_status wanted, const char *text,
                                const char *file, int line) {
    if (got == wanted) return;
    fprintf(stderr, "%s:%d: %s, not %s: %s\n", file, line, discover_status_name(got),
            discover_status_name(wanted), text);
    exit(1);
}

/* The URL of the test. Also sets an alarm that ends a program that hangs. */
static inline const char *test_url(int argc, char **argv) {
    CHECK(argc == 2);
    alarm(2 * TIMEOUT_S);
    return argv[1];
}

static inline struct timespec deadline_from_now(void) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += TIMEOUT_S;
    return deadline;
}

static inline void await_sem(sem_t *sem) {
    struct timespec deadline = deadline_from_now();
    while (sem_timedwait(sem, &deadline) != 0) CHECK(errno == EINTR);
}

static inline discover_client *open_client(const char *url) {
    discover_client *client;
    OK(discover_client_open(url, &client, NULL));
    return client;
}

static inline discover_set *open_set(const discover_client *client, const char *service) {
    discover_set *set;
    OK(discover_client_services(client, service, &set, NULL));
    return set;
}

static inline discover_registration *new_registration(const char *service, int64_t port) {
    discover_registration *registration;
    OK(discover_registration_new(service, port, &registration, NULL));
    OK(discover_registration_set_host(registration, "127.0.0.1", NULL));
    return registration;
}

/* Registers an instance and releases the registration. */
static inline discover_lease *register_instance(const discover_client *client,
                                                discover_registration *registration) {
    discover_lease *lease;
    OK(discover_client_register(client, registration, TIMEOUT_MS, &lease, NULL));
    discover_registration_free(registration);
    return lease;
}

/* A snapshot of the set once at least `count` instances are online. */
static inline discover_snapshot *await_online(const discover_set *set, size_t count) {
    discover_snapshot *snapshot;
    OK(discover_set_wait(set, count, TIMEOUT_MS, &snapshot, NULL));
    return snapshot;
}

/* Records events as lines "kind address", and the calls of destroy. */
struct observer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char received[4096];
    int event_count;
    int destroyed;
    pthread_t callback_thread;
    pthread_t destroy_thread;
};

#define NEW_OBSERVER {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}

static inline void observer_on_event(const discover_event *event, void *user_data) {
    struct observer *observer = user_data;
    const char *address = discover_instance_address(discover_event_instance(event));
    size_t length;

    pthread_mutex_lock(&observer->lock);
    CHECK(observer->destroyed == 0);
    length = strlen(observer->received);
    snprintf(observer->received + length, sizeof observer->received - length, "%s%s%s\n",
             discover_event_kind_name(discover_event_kind(event)), address ? " " : "",
             address ? address : "");
    observer->event_count++;
    observer->callback_thread = pthread_self();
    pthread_cond_broadcast(&observer->changed);
    pthread_mutex_unlock(&observer->lock);
}

static inline void observer_on_destroy(void *user_data) {
    struct observer *observer = user_data;

    pthread_mutex_lock(&observer->lock);
    observer->destroyed++;
    observer->destroy_thread = pthread_self();
    pthread_cond_broadcast(&observer->changed);
    pthread_mutex_unlock(&observer->lock);
}

static inline void observer_wait(struct observer *observer) {
    struct timespec deadline = deadline_from_now();
    if (pthread_cond_timedwait(&observer->changed, &observer->lock, &deadline) == ETIMEDOUT) {
        fprintf(stderr, "received only: %s", observer->received);
        exit(1);
    }
}

/* Waits until the lines were received, one after the other, and discards everything up to them. */
static inline void await_events(struct observer *observer, const char *lines) {
    char *found;

    pthread_mutex_lock(&observer->lock);
    while ((found = strstr(observer->received, lines)) == NULL) observer_wait(observer);
    found += strlen(lines);
    memmove(observer->received, found, strlen(found) + 1);
    pthread_mutex_unlock(&observer->lock);
}

static inline void await_destroyed(struct observer *observer) {
    pthread_mutex_lock(&observer->lock);
    while (observer->destroyed == 0) observer_wait(observer);
    CHECK(observer->destroyed == 1);
    pthread_mutex_unlock(&observer->lock);
}

static inline discover_subscription *subscribe(const discover_set *set, struct observer *observer) {
    discover_subscription *subscription;
    OK(discover_set_subscribe(set, observer_on_event, observer, observer_on_destroy, &subscription, NULL));
    return subscription;
}

#endif
