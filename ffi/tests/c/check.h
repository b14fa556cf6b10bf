/* What the C tests share: checks that say where they failed, an end to waiting, and an ear for events. */
#ifndef CHECK_H
#define CHECK_H

#include <discover.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 60
#define PATIENCE_MS (PATIENCE_S * 1000)

#define CHECK(condition) check_that((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define SAME(got, wanted) check_same(got, wanted, #got, __FILE__, __LINE__)
#define OK(call) check_status(call, DISCOVER_OK, #call, __FILE__, __LINE__)
/* The call, which writes its error into `error`, fails so, with words in its message. */
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
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, text);
    exit(1);
}

static inline void check_same(const char *got, const char *wanted, const char *text, const char *file,
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

/* The URL of the test. A program that hangs is ended. */
static inline const char *url_of(int argc, char **argv) {
    CHECK(argc == 2);
    alarm(2 * PATIENCE_S);
    return argv[1];
}

static inline struct timespec in_time(void) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE_S;
    return deadline;
}

static inline void await_sem(sem_t *sem) {
    struct timespec deadline = in_time();
    while (sem_timedwait(sem, &deadline) != 0) CHECK(errno == EINTR);
}

static inline discover_client *open_client(const char *url) {
    discover_client *client;
    OK(discover_client_open(url, &client, NULL));
    return client;
}

static inline discover_set *services(const discover_client *client, const char *service) {
    discover_set *set;
    OK(discover_client_services(client, service, &set, NULL));
    return set;
}

static inline discover_registration *describe(const char *service, int64_t port) {
    discover_registration *registration;
    OK(discover_registration_new(service, port, &registration, NULL));
    OK(discover_registration_set_host(registration, "127.0.0.1", NULL));
    return registration;
}

/* Registers it as it is described, and forgets the description. */
static inline discover_lease *enter(const discover_client *client, discover_registration *registration) {
    discover_lease *lease;
    OK(discover_client_register(client, registration, PATIENCE_MS, &lease, NULL));
    discover_registration_free(registration);
    return lease;
}

/* The set, once it has so many. */
static inline discover_snapshot *await_online(const discover_set *set, size_t count) {
    discover_snapshot *snapshot;
    OK(discover_set_wait(set, count, PATIENCE_MS, &snapshot, NULL));
    return snapshot;
}

/* Hears events as lines "kind address", and the end. */
struct ear {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char heard[4096];
    int events;
    int destroyed;
    pthread_t listener;
    pthread_t destroyer;
};

#define NEW_EAR {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}

static inline void ear_hear(const discover_event *event, void *user_data) {
    struct ear *ear = user_data;
    const char *address = discover_instance_address(discover_event_instance(event));
    size_t length;

    pthread_mutex_lock(&ear->lock);
    CHECK(ear->destroyed == 0);
    length = strlen(ear->heard);
    snprintf(ear->heard + length, sizeof ear->heard - length, "%s%s%s\n",
             discover_event_kind_name(discover_event_kind(event)), address ? " " : "",
             address ? address : "");
    ear->events++;
    ear->listener = pthread_self();
    pthread_cond_broadcast(&ear->changed);
    pthread_mutex_unlock(&ear->lock);
}

static inline void ear_destroy(void *user_data) {
    struct ear *ear = user_data;

    pthread_mutex_lock(&ear->lock);
    ear->destroyed++;
    ear->destroyer = pthread_self();
    pthread_cond_broadcast(&ear->changed);
    pthread_mutex_unlock(&ear->lock);
}

static inline void ear_wait(struct ear *ear) {
    struct timespec deadline = in_time();
    if (pthread_cond_timedwait(&ear->changed, &ear->lock, &deadline) == ETIMEDOUT) {
        fprintf(stderr, "heard only: %s", ear->heard);
        exit(1);
    }
}

/* Waits until the lines were heard, one after the other, and forgets all up to them. */
static inline void await_heard(struct ear *ear, const char *lines) {
    char *found;

    pthread_mutex_lock(&ear->lock);
    while ((found = strstr(ear->heard, lines)) == NULL) ear_wait(ear);
    found += strlen(lines);
    memmove(ear->heard, found, strlen(found) + 1);
    pthread_mutex_unlock(&ear->lock);
}

static inline void await_destroyed(struct ear *ear) {
    pthread_mutex_lock(&ear->lock);
    while (ear->destroyed == 0) ear_wait(ear);
    CHECK(ear->destroyed == 1);
    pthread_mutex_unlock(&ear->lock);
}

static inline discover_subscription *subscribe(const discover_set *set, struct ear *ear) {
    discover_subscription *subscription;
    OK(discover_set_subscribe(set, ear_hear, ear, ear_destroy, &subscription, NULL));
    return subscription;
}

#endif
