/* The measured program in C; see README.md of the benchmarks. */
#include <discover.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_EVENTS 200000
#define WORKERS 64
#define ROUNDS 20000000L
#define CHANGES 200

static long long latencies[MAX_EVENTS], downs[MAX_EVENTS];
static atomic_size_t events, gone, current;

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long now(void) {
    return now_ns() / 1000;
}

/* Takes the address of the error: the order in which arguments are evaluated is unspecified. */
static void check(discover_status status, discover_error **error) {
    if (status == DISCOVER_OK) return;
    fprintf(stderr, "%s\n", discover_error_message(*error));
    exit(1);
}

static void wait_for_the_end(void) {
    int key;
    do key = getchar();
    while (key != '\n' && key != EOF);
}

static void print_all(const char *name, const long long *values, size_t count) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < count; i++) printf("%s%lld", i > 0 ? "," : "", values[i]);
    printf("]");
}

static void on_event(const discover_event *event, void *user_data) {
    (void)user_data;
    switch (discover_event_kind(event)) {
    case DISCOVER_EVENT_UP:
    case DISCOVER_EVENT_UPDATE: {
        const char *written = discover_instance_attribute(discover_event_instance(event), "t");
        size_t at = written == NULL ? MAX_EVENTS : atomic_load(&events);
        if (at < MAX_EVENTS) {
            latencies[at] = now() - atoll(written);
            atomic_store(&events, at + 1);
        }
        break;
    }
    case DISCOVER_EVENT_DOWN: {
        size_t at = atomic_fetch_add(&gone, 1);
        if (at < MAX_EVENTS) downs[at] = now();
        break;
    }
    case DISCOVER_EVENT_CURRENT:
        atomic_fetch_add(&current, 1);
        break;
    default:
        break;
    }
}

static void follow(const char *url, size_t count) {
    long long started = now();
    size_t online = 0;
    discover_client *client;
    discover_error *error;
    discover_set **sets = calloc(count, sizeof *sets);
    discover_subscription **subscriptions = calloc(count, sizeof *subscriptions);

    if (sets == NULL || subscriptions == NULL) exit(1);
    check(discover_client_open(url, &client, &error), &error);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "bench-%zu", i);
        check(discover_client_services(client, name, &sets[i], &error), &error);
        check(discover_set_subscribe(sets[i], on_event, NULL, NULL, &subscriptions[i], &error), &error);
    }
    while (atomic_load(&current) < count) {
        struct timespec moment = {0, 100000};
        nanosleep(&moment, NULL);
    }
    printf("{\"started\":%lld,\"ready\":%lld}\n", started, now());
    fflush(stdout);
    wait_for_the_end();
    for (size_t i = 0; i < count; i++) {
        discover_snapshot *snapshot = discover_set_take_snapshot(sets[i]);
        online += discover_snapshot_online_count(snapshot);
        discover_snapshot_free(snapshot);
    }
    printf("{");
    print_all("latencies", latencies, atomic_load(&events));
    printf(",");
    print_all("downs", downs, atomic_load(&gone));
    printf(",\"online\":%zu}\n", online);
    fflush(stdout);
    for (size_t i = 0; i < count; i++) {
        discover_subscription_cancel(subscriptions[i]);
        discover_set_release(sets[i]);
    }
    free(subscriptions);
    free(sets);
    discover_client_close(client, 5000, NULL);
}

struct shared {
    discover_client *client;
    atomic_long next;
    long count;
};

/* Registers the instance with this number. */
static discover_lease *member(const discover_client *client, long number) {
    char host[32];
    discover_registration *registration;
    discover_lease *lease;
    discover_error *error;

    snprintf(host, sizeof host, "10.%ld.%ld.%ld", number / 62500, number / 250 % 250, number % 250);
    check(discover_registration_new("bench-0", 1000, &registration, &error), &error);
    check(discover_registration_set_host(registration, host, &error), &error);
    check(discover_client_register(client, registration, 60000, &lease, &error), &error);
    discover_registration_free(registration);
    return lease;
}

static void *work(void *argument) {
    struct shared *shared = argument;
    long number;

    while ((number = atomic_fetch_add(&shared->next, 1)) < shared->count) {
        member(shared->client, number);
    }
    return NULL;
}

static void enroll(const char *url, long count) {
    long long started = now();
    struct shared shared = {NULL, 0, count};
    pthread_t workers[WORKERS];
    discover_error *error;

    check(discover_client_open(url, &shared.client, &error), &error);
    for (int i = 0; i < WORKERS; i++) pthread_create(&workers[i], NULL, work, &shared);
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i], NULL);
    printf("{\"started\":%lld,\"ready\":%lld}\n", started, now());
    fflush(stdout);
    wait_for_the_end();
    printf("{\"registered\":%ld}\n", count);
    fflush(stdout);
    _Exit(0);
}

static discover_set *set;
static volatile size_t kept;

static void read_online(void) {
    discover_snapshot *snapshot = discover_set_take_snapshot(set);
    kept = discover_snapshot_online_count(snapshot);
    discover_snapshot_free(snapshot);
}

static void read_pick(void) {
    discover_instance *instance;
    kept = discover_set_pick(set, "round_robin", NULL, &instance, NULL) == DISCOVER_OK;
    discover_instance_free(instance);
}

/* Returns the nanoseconds of one call: the minimum of several rounds. */
static double cost(void (*call)(void)) {
    double least = 1e9;
    for (int round = 0; round < 5; round++) {
        long long began = now_ns();
        for (long i = 0; i < ROUNDS / 4; i++) call();
        double each = (double)(now_ns() - began) / (ROUNDS / 4);
        if (each < least) least = each;
    }
    return least;
}

/* A client and its set of instances. */
static discover_lease **gather(const char *url, long count) {
    discover_lease **leases = calloc(count, sizeof *leases);
    discover_snapshot *snapshot;
    discover_client *client;
    discover_error *error;

    if (leases == NULL) exit(1);
    check(discover_client_open(url, &client, &error), &error);
    for (long i = 0; i < count; i++) leases[i] = member(client, i);
    check(discover_client_services(client, "bench-0", &set, &error), &error);
    check(discover_set_wait(set, count, 60000, &snapshot, &error), &error);
    discover_snapshot_free(snapshot);
    return leases;
}

static void turn(const discover_lease *lease, long number) {
    char text[24];
    const char *name = "turn", *value = text;
    discover_error *error;
    snprintf(text, sizeof text, "%ld", number);
    check(discover_lease_update(lease, &name, &value, 1, 60000, &error), &error);
}

static atomic_bool still;

static void *keep_writing(void *lease) {
    struct timespec moment = {0, 200000};
    for (long number = 0; atomic_load(&still); number++) {
        turn(lease, number);
        nanosleep(&moment, NULL);
    }
    return NULL;
}

static void measure_reads(const char *url) {
    discover_lease **leases = gather(url, 10);
    pthread_t writer;

    printf("{\"online\":%f,\"pick\":%f,", cost(read_online), cost(read_pick));
    atomic_store(&still, true);
    pthread_create(&writer, NULL, keep_writing, leases[0]);
    printf("\"online_written\":%f,\"pick_written\":%f}\n", cost(read_online), cost(read_pick));
    atomic_store(&still, false);
    pthread_join(writer, NULL);
    fflush(stdout);
    _Exit(0);
}

static sem_t told;

static void on_change(const discover_event *event, void *user_data) {
    int kind = discover_event_kind(event);
    (void)user_data;
    if (kind == DISCOVER_EVENT_UPDATE || kind == DISCOVER_EVENT_CURRENT) sem_post(&told);
}

static void all_are_told(long listeners) {
    for (long i = 0; i < listeners; i++) sem_wait(&told);
}

static int by_size(const void *one, const void *other) {
    long long a = *(const long long *)one, b = *(const long long *)other;
    return (a > b) - (a < b);
}

/* Measures the time from the writer's call to the last subscriber. */
static void scale(const char *url, long instances, long listeners) {
    static long long took[CHANGES];
    discover_lease **leases = gather(url, instances);
    discover_error *error;

    sem_init(&told, 0, 0);
    for (long i = 0; i < listeners; i++) {
        discover_subscription *subscription;
        check(discover_set_subscribe(set, on_change, NULL, NULL, &subscription, &error), &error);
    }
    all_are_told(listeners);
    for (long number = 0; number < CHANGES; number++) {
        long long began = now();
        turn(leases[number * 7919 % instances], number);
        all_are_told(listeners);
        took[number] = now() - began;
    }
    qsort(took, CHANGES, sizeof *took, by_size);
    printf("{\"took\":%lld}\n", took[CHANGES / 2]);
    fflush(stdout);
    _Exit(0);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (strcmp(argv[1], "follow") == 0) follow(argv[2], strtoul(argv[3], NULL, 10));
    else if (strcmp(argv[1], "register") == 0) enroll(argv[2], atol(argv[3]));
    else if (strcmp(argv[1], "scale") == 0) scale(argv[2], atol(argv[3]), atol(argv[4]));
    else measure_reads(argv[2]);
    return 0;
}
