/* Closing a client: what it ends, what stays valid, and that it ends in time. */
#include "harness.h"

#include <dirent.h>

static void objects_of_a_closed_client_can_be_read_and_calls_fail(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = register_instance(client, new_registration("web", 7001));
    discover_set *set = open_set(client, "web"), *filtered;
    discover_snapshot *snapshot = await_online(set, 1), *out = snapshot;
    discover_feed *feed;
    discover_instance *picked;

    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    FAILS(DISCOVER_ERR_CLOSED, "closed", discover_set_wait(set, 1, TIMEOUT_MS, &out, &error));
    CHECK(out == NULL);
    FAILS(DISCOVER_ERR_CLOSED, "closed", discover_set_feed(set, &feed, &error));
    CHECK(feed == NULL);
    FAILS(DISCOVER_ERR_CLOSED, "", discover_lease_heartbeat(lease, TIMEOUT_MS, &error));
    FAILS(DISCOVER_ERR_CLOSED, "", discover_lease_update(lease, NULL, NULL, 0, TIMEOUT_MS, &error));
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_RELEASED);
    SAME_TEXT(discover_lease_address(lease), "127.0.0.1:7001");

    SAME_TEXT(discover_instance_address(discover_snapshot_online(snapshot, 0)), "127.0.0.1:7001");
    OK(discover_set_filter(set, NULL, NULL, 0, NULL, 0, &filtered, NULL));
    OK(discover_set_pick(filtered, "round_robin", NULL, &picked, NULL));
    discover_instance_free(picked);
    discover_set_release(filtered);
    discover_snapshot_free(snapshot);
    discover_set_release(set);
    discover_lease_release(lease);
}

struct waiter {
    const discover_set *set;
    discover_status status;
    sem_t started;
};

static void *wait_in_vain(void *user_data) {
    struct waiter *waiter = user_data;
    discover_snapshot *none;

    sem_post(&waiter->started);
    waiter->status = discover_set_wait(waiter->set, 99, DISCOVER_NO_TIMEOUT, &none, NULL);
    return NULL;
}

static void closing_ends_a_call_that_blocks_in_another_thread(const char *url) {
    discover_client *client = open_client(url);
    struct waiter waiter = {.set = open_set(client, "web")};
    pthread_t thread;

    sem_init(&waiter.started, 0, 0);
    CHECK(pthread_create(&thread, NULL, wait_in_vain, &waiter) == 0);
    await_sem(&waiter.started);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(waiter.status == DISCOVER_ERR_CLOSED);
    discover_set_release((discover_set *)waiter.set);
}

/* One of eight clients of one registry; its callback handles the events that the others cause. */
struct closer {
    discover_client *client;
    discover_set *set;
    discover_lease *lease;
    discover_subscription *subscription;
    struct observer observer;
    pthread_t thread;
};

static pthread_barrier_t all_ready;

static void *close_with_the_others(void *user_data) {
    struct closer *closer = user_data;

    pthread_barrier_wait(&all_ready);
    OK(discover_client_close(closer->client, TIMEOUT_MS, NULL));
    CHECK(closer->observer.destroyed == 1);
    return NULL;
}

static void eight_threads_close_their_clients_at_once(const char *url) {
    enum { EIGHT = 8 };
    struct closer closers[EIGHT];

    CHECK(pthread_barrier_init(&all_ready, NULL, EIGHT) == 0);
    for (int i = 0; i < EIGHT; i++) {
        struct closer *closer = &closers[i];
        struct observer observer = NEW_OBSERVER;

        closer->observer = observer;
        closer->client = open_client(url);
        closer->set = open_set(closer->client, "web");
        closer->subscription = subscribe(closer->set, &closer->observer);
        closer->lease = register_instance(closer->client, new_registration("web", 7001 + i));
    }
    for (int i = 0; i < EIGHT; i++) {
        CHECK(pthread_create(&closers[i].thread, NULL, close_with_the_others, &closers[i]) == 0);
    }
    for (int i = 0; i < EIGHT; i++) {
        CHECK(pthread_join(closers[i].thread, NULL) == 0);
        discover_subscription_cancel(closers[i].subscription);
        CHECK(closers[i].observer.destroyed == 1);
        discover_lease_release(closers[i].lease);
        discover_set_release(closers[i].set);
    }
    pthread_barrier_destroy(&all_ready);
}

struct slow_callback {
    sem_t started, may_end, destroyed;
};

static void block_until_allowed(const discover_event *event, void *user_data) {
    struct slow_callback *callback = user_data;

    (void)event;
    sem_post(&callback->started);
    await_sem(&callback->may_end);
}

static void on_destroy(void *user_data) {
    sem_post(&((struct slow_callback *)user_data)->destroyed);
}

static void closing_waits_for_a_slow_callback_until_the_timeout(const char *url) {
    discover_client *client = open_client(url);
    discover_set *set = open_set(client, "web");
    discover_subscription *subscription;
    struct slow_callback slow;

    sem_init(&slow.started, 0, 0);
    sem_init(&slow.may_end, 0, 0);
    sem_init(&slow.destroyed, 0, 0);
    OK(discover_set_subscribe(set, block_until_allowed, &slow, on_destroy, &subscription, NULL));
    await_sem(&slow.started);
    FAILS(DISCOVER_ERR_TIMEOUT, "callback was still running", discover_client_close(client, 50, &error));
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    CHECK(sem_trywait(&slow.destroyed) != 0);
    sem_post(&slow.may_end);
    await_sem(&slow.destroyed);
    CHECK(sem_trywait(&slow.destroyed) != 0);
}

static void block_forever(const discover_event *event, void *user_data) {
    (void)event;
    sem_post(&((struct slow_callback *)user_data)->started);
    for (;;) pause();
}

/* This test is the last one: the callback never returns, and the process must exit all the same. */
static void a_callback_that_never_returns_does_not_keep_the_process_alive(const char *url) {
    static struct slow_callback slow;
    discover_client *client = open_client(url);
    discover_set *set = open_set(client, "web");
    discover_subscription *subscription;
    struct timespec before, after;

    sem_init(&slow.started, 0, 0);
    sem_init(&slow.destroyed, 0, 0);
    OK(discover_set_subscribe(set, block_forever, &slow, on_destroy, &subscription, NULL));
    await_sem(&slow.started);
    clock_gettime(CLOCK_MONOTONIC, &before);
    FAILS(DISCOVER_ERR_TIMEOUT, "callback was still running", discover_client_close(client, 200, &error));
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(after.tv_sec - before.tv_sec < TIMEOUT_S);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    CHECK(sem_trywait(&slow.destroyed) != 0);
}

static int count(const char *folder) {
    DIR *dir = opendir(folder);
    int entries = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL) entries++;
    closedir(dir);
    return entries;
}

static void use_every_feature(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = register_instance(client, new_registration("web", 7001));
    discover_set *set = open_set(client, "web");
    struct observer observer = NEW_OBSERVER;
    discover_subscription *subscription = subscribe(set, &observer);
    discover_feed *feed;

    OK(discover_set_feed(set, &feed, NULL));
    await_events(&observer, "current\n");
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    CHECK(observer.destroyed == 1);
    discover_feed_cancel(feed);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    discover_lease_release(lease);
}

static void closing_leaves_no_thread_and_no_descriptor(const char *url) {
    int threads, descriptors;
    discover_client *none;

    use_every_feature(url);
    threads = count("/proc/self/task");
    descriptors = count("/proc/self/fd");
    for (int i = 0; i < 5; i++) use_every_feature(url);
    CHECK(count("/proc/self/task") == threads);
    CHECK(count("/proc/self/fd") == descriptors);

    /* The same applies to a client that failed to open, whose threads end in the background. */
    for (int i = 0; i < 5; i++) {
        FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "scheme", discover_client_open("zoo://", &none, &error));
        CHECK(none == NULL);
    }
    while (count("/proc/self/task") != threads || count("/proc/self/fd") != descriptors) {}
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);

    objects_of_a_closed_client_can_be_read_and_calls_fail(url);
    closing_ends_a_call_that_blocks_in_another_thread(url);
    eight_threads_close_their_clients_at_once(url);
    closing_leaves_no_thread_and_no_descriptor(url);
    closing_waits_for_a_slow_callback_until_the_timeout(url);
    a_callback_that_never_returns_does_not_keep_the_process_alive(url);
    return 0;
}
