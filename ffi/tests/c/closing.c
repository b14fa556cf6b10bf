/* Closing: what it ends, what it leaves, and that it is bounded. */
#include "check.h"

#include <dirent.h>

static void what_came_out_of_a_closed_client_can_be_read_and_not_used(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = enter(client, describe("web", 7001));
    discover_set *set = services(client, "web"), *filtered;
    discover_snapshot *snapshot = await_online(set, 1), *out = snapshot;
    discover_feed *feed;
    discover_instance *picked;

    OK(discover_client_close(client, PATIENCE_MS, NULL));
    FAILS(DISCOVER_ERR_CLOSED, "closed", discover_set_wait(set, 1, PATIENCE_MS, &out, &error));
    CHECK(out == NULL);
    FAILS(DISCOVER_ERR_CLOSED, "closed", discover_set_feed(set, &feed, &error));
    CHECK(feed == NULL);
    FAILS(DISCOVER_ERR_CLOSED, "", discover_lease_heartbeat(lease, PATIENCE_MS, &error));
    FAILS(DISCOVER_ERR_CLOSED, "", discover_lease_update(lease, NULL, NULL, 0, PATIENCE_MS, &error));
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_RELEASED);
    SAME(discover_lease_address(lease), "127.0.0.1:7001");

    SAME(discover_instance_address(discover_snapshot_online(snapshot, 0)), "127.0.0.1:7001");
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
    sem_t begun;
};

static void *wait_for_nobody(void *user_data) {
    struct waiter *waiter = user_data;
    discover_snapshot *none;

    sem_post(&waiter->begun);
    waiter->status = discover_set_wait(waiter->set, 99, DISCOVER_NO_TIMEOUT, &none, NULL);
    return NULL;
}

static void a_call_that_waits_in_another_thread_is_ended(const char *url) {
    discover_client *client = open_client(url);
    struct waiter waiter = {.set = services(client, "web")};
    pthread_t thread;

    sem_init(&waiter.begun, 0, 0);
    CHECK(pthread_create(&thread, NULL, wait_for_nobody, &waiter) == 0);
    await_sem(&waiter.begun);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(waiter.status == DISCOVER_ERR_CLOSED);
    discover_set_release((discover_set *)waiter.set);
}

/* Eight clients of one registry, each with a callback that is busy with what the others do. */
struct party {
    discover_client *client;
    discover_set *set;
    discover_lease *lease;
    discover_subscription *subscription;
    struct ear ear;
    pthread_t thread;
};

static pthread_barrier_t all_ready;

static void *close_with_the_others(void *user_data) {
    struct party *party = user_data;

    pthread_barrier_wait(&all_ready);
    OK(discover_client_close(party->client, PATIENCE_MS, NULL));
    CHECK(party->ear.destroyed == 1);
    return NULL;
}

static void eight_threads_close_at_once(const char *url) {
    enum { EIGHT = 8 };
    struct party parties[EIGHT];

    CHECK(pthread_barrier_init(&all_ready, NULL, EIGHT) == 0);
    for (int i = 0; i < EIGHT; i++) {
        struct party *party = &parties[i];
        struct ear ear = NEW_EAR;

        party->ear = ear;
        party->client = open_client(url);
        party->set = services(party->client, "web");
        party->subscription = subscribe(party->set, &party->ear);
        party->lease = enter(party->client, describe("web", 7001 + i));
    }
    for (int i = 0; i < EIGHT; i++) {
        CHECK(pthread_create(&parties[i].thread, NULL, close_with_the_others, &parties[i]) == 0);
    }
    for (int i = 0; i < EIGHT; i++) {
        CHECK(pthread_join(parties[i].thread, NULL) == 0);
        discover_subscription_cancel(parties[i].subscription);
        CHECK(parties[i].ear.destroyed == 1);
        discover_lease_release(parties[i].lease);
        discover_set_release(parties[i].set);
    }
    pthread_barrier_destroy(&all_ready);
}

struct slow {
    sem_t begun, may_end, destroyed;
};

static void stay(const discover_event *event, void *user_data) {
    struct slow *slow = user_data;

    (void)event;
    sem_post(&slow->begun);
    await_sem(&slow->may_end);
}

static void left(void *user_data) {
    sem_post(&((struct slow *)user_data)->destroyed);
}

static void a_callback_that_does_not_end_is_waited_for_so_long_and_no_longer(const char *url) {
    discover_client *client = open_client(url);
    discover_set *set = services(client, "web");
    discover_subscription *subscription;
    struct slow slow;

    sem_init(&slow.begun, 0, 0);
    sem_init(&slow.may_end, 0, 0);
    sem_init(&slow.destroyed, 0, 0);
    OK(discover_set_subscribe(set, stay, &slow, left, &subscription, NULL));
    await_sem(&slow.begun);
    FAILS(DISCOVER_ERR_TIMEOUT, "callback was still running", discover_client_close(client, 50, &error));
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    CHECK(sem_trywait(&slow.destroyed) != 0);
    sem_post(&slow.may_end);
    await_sem(&slow.destroyed);
    CHECK(sem_trywait(&slow.destroyed) != 0);
}

static void sleep_for_ever(const discover_event *event, void *user_data) {
    (void)event;
    sem_post(&((struct slow *)user_data)->begun);
    for (;;) pause();
}

/* It is the last thing that the process does, and does not keep it from ending. */
static void a_callback_that_never_ends_does_not_keep_the_process(const char *url) {
    static struct slow slow;
    discover_client *client = open_client(url);
    discover_set *set = services(client, "web");
    discover_subscription *subscription;
    struct timespec before, after;

    sem_init(&slow.begun, 0, 0);
    sem_init(&slow.destroyed, 0, 0);
    OK(discover_set_subscribe(set, sleep_for_ever, &slow, left, &subscription, NULL));
    await_sem(&slow.begun);
    clock_gettime(CLOCK_MONOTONIC, &before);
    FAILS(DISCOVER_ERR_TIMEOUT, "callback was still running", discover_client_close(client, 200, &error));
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(after.tv_sec - before.tv_sec < PATIENCE_S);
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

static void use_all_of_it(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = enter(client, describe("web", 7001));
    discover_set *set = services(client, "web");
    struct ear ear = NEW_EAR;
    discover_subscription *subscription = subscribe(set, &ear);
    discover_feed *feed;

    OK(discover_set_feed(set, &feed, NULL));
    await_heard(&ear, "current\n");
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    CHECK(ear.destroyed == 1);
    discover_feed_cancel(feed);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    discover_lease_release(lease);
}

static void no_thread_and_no_descriptor_is_left_behind(const char *url) {
    int threads, descriptors;
    discover_client *none;

    use_all_of_it(url);
    threads = count("/proc/self/task");
    descriptors = count("/proc/self/fd");
    for (int i = 0; i < 5; i++) use_all_of_it(url);
    CHECK(count("/proc/self/task") == threads);
    CHECK(count("/proc/self/fd") == descriptors);

    /* Nor by what could not be opened, though nobody waits for its threads. */
    for (int i = 0; i < 5; i++) {
        FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "scheme", discover_client_open("zoo://", &none, &error));
        CHECK(none == NULL);
    }
    while (count("/proc/self/task") != threads || count("/proc/self/fd") != descriptors) {}
}

int main(int argc, char **argv) {
    const char *url = url_of(argc, argv);

    what_came_out_of_a_closed_client_can_be_read_and_not_used(url);
    a_call_that_waits_in_another_thread_is_ended(url);
    eight_threads_close_at_once(url);
    no_thread_and_no_descriptor_is_left_behind(url);
    a_callback_that_does_not_end_is_waited_for_so_long_and_no_longer(url);
    a_callback_that_never_ends_does_not_keep_the_process(url);
    return 0;
}
