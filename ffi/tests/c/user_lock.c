/* No lock of the library's is held while a callback runs: whoever holds a lock that the callback wants can
 * still make every call. */
#include "usage.h"

static pthread_mutex_t mine = PTHREAD_MUTEX_INITIALIZER;
static sem_t wanted;

static void want_the_lock(const discover_event *event, void *user_data) {
    (void)event, (void)user_data;
    sem_post(&wanted);
    pthread_mutex_lock(&mine);
    pthread_mutex_unlock(&mine);
}

static void gone(void *user_data) {
    sem_post(user_data);
}

/* Everything that does not wait for callbacks by its very meaning. */
static void make_every_call(const char *url, const discover_client *client, const discover_set *set,
                            discover_subscription *stuck) {
    discover_client *another = open_client(url);
    discover_lease *lease = enter(client, describe("web", 7002));
    discover_set *same = services(client, "web"), *narrow;
    discover_snapshot *now = await_online(same, 2);
    discover_instance *picked;
    discover_subscription *subscription;
    discover_feed *feed;
    struct ear ear = NEW_EAR;

    OK(discover_lease_heartbeat(lease, PATIENCE_MS, NULL));
    OK(discover_lease_update(lease, NULL, NULL, 0, PATIENCE_MS, NULL));
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);
    OK(discover_set_filter(set, NULL, NULL, 0, NULL, 0, &narrow, NULL));
    OK(discover_set_pick(narrow, "p2c", NULL, &picked, NULL));
    discover_set_done(narrow, picked);
    subscription = subscribe(set, &ear);
    OK(discover_set_feed(set, &feed, NULL));
    OK(discover_feed_drain(feed, ear_hear, &ear, NULL));
    OK(discover_log_set(DISCOVER_LEVEL_ERROR, NULL, NULL, NULL, NULL));
    discover_subscription_cancel(subscription);
    discover_subscription_cancel(stuck);
    discover_feed_cancel(feed);
    OK(discover_lease_unregister(lease, PATIENCE_MS, NULL));
    discover_lease_release(lease);
    discover_instance_free(picked);
    discover_snapshot_free(now);
    discover_set_release(narrow);
    discover_set_release(same);
    OK(discover_client_close(another, PATIENCE_MS, NULL));
    /* The callback has waited all the time. */
    CHECK(sem_trywait(&wanted) != 0 && ear.destroyed == 0);
    pthread_mutex_unlock(&mine);
    await_destroyed(&ear);
}

static void while_a_callback_waits_for_my_lock(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = enter(client, describe("web", 7001));
    discover_set *set = services(client, "web");
    discover_subscription *subscription;
    sem_t over;

    sem_init(&over, 0, 0);
    discover_snapshot_free(await_online(set, 1));
    pthread_mutex_lock(&mine);
    OK(discover_set_subscribe(set, want_the_lock, &over, gone, &subscription, NULL));
    await_sem(&wanted);
    make_every_call(url, client, set, subscription);
    await_sem(&over);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    CHECK(sem_trywait(&over) != 0);
    discover_lease_release(lease);
    discover_set_release(set);
}

struct worker {
    const discover_client *client;
    const discover_set *set;
    int rounds;
};

static void *register_under_my_lock(void *user_data) {
    struct worker *worker = user_data;

    for (int i = 0; i < worker->rounds; i++) {
        discover_registration *registration = describe("web", 7001 + i % 7);
        discover_lease *lease;

        pthread_mutex_lock(&mine);
        OK(discover_client_register(worker->client, registration, PATIENCE_MS, &lease, NULL));
        discover_lease_release(lease);
        pthread_mutex_unlock(&mine);
        discover_registration_free(registration);
    }
    return NULL;
}

static void *listen_under_my_lock(void *user_data) {
    struct worker *worker = user_data;

    for (int i = 0; i < worker->rounds; i++) {
        discover_subscription *subscription;
        sem_t over;

        sem_init(&over, 0, 0);
        pthread_mutex_lock(&mine);
        OK(discover_set_subscribe(worker->set, want_the_lock, &over, gone, &subscription, NULL));
        discover_snapshot_free(discover_set_take_snapshot(worker->set));
        discover_subscription_cancel(subscription);
        pthread_mutex_unlock(&mine);
        await_sem(&over);
        CHECK(sem_trywait(&over) != 0);
    }
    return NULL;
}

/* Two threads and the callback want the same lock all the time. */
static void whoever_comes_first(const char *url) {
    struct worker worker = {.client = open_client(url), .rounds = rounds(2000)};
    discover_set *set = services(worker.client, "web");
    discover_subscription *subscription;
    pthread_t threads[2];
    sem_t over;

    worker.set = set;
    sem_init(&over, 0, 0);
    OK(discover_set_subscribe(set, want_the_lock, &over, gone, &subscription, NULL));
    CHECK(pthread_create(&threads[0], NULL, register_under_my_lock, &worker) == 0);
    CHECK(pthread_create(&threads[1], NULL, listen_under_my_lock, &worker) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    OK(discover_client_close((discover_client *)worker.client, PATIENCE_MS, NULL));
    await_sem(&over);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
}

int main(int argc, char **argv) {
    const char *url = url_of(argc, argv);

    sem_init(&wanted, 0, 0);
    while_a_callback_waits_for_my_lock(url);
    whoever_comes_first(url);
    return 0;
}
