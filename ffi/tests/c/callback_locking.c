/* The library holds no lock while a callback runs: a thread that holds a lock which the callback waits for can
 * make every call. */
#include "process_usage.h"

static pthread_mutex_t user_lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t waiting;

static void take_user_lock(const discover_event *event, void *user_data) {
    (void)event, (void)user_data;
    sem_post(&waiting);
    pthread_mutex_lock(&user_lock);
    pthread_mutex_unlock(&user_lock);
}

static void on_destroy(void *user_data) {
    sem_post(user_data);
}

/* Every call that is not defined to wait for callbacks. */
static void make_every_call(const char *url, const discover_client *client, const discover_set *set,
                            discover_subscription *blocked) {
    discover_client *another = open_client(url);
    discover_lease *lease = register_instance(client, new_registration("web", 7002));
    discover_set *same = open_set(client, "web"), *narrow;
    discover_snapshot *now = await_online(same, 2);
    discover_instance *picked;
    discover_subscription *subscription;
    discover_feed *feed;
    struct observer observer = NEW_OBSERVER;

    OK(discover_lease_heartbeat(lease, TIMEOUT_MS, NULL));
    OK(discover_lease_update(lease, NULL, NULL, 0, TIMEOUT_MS, NULL));
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);
    OK(discover_set_filter(set, NULL, NULL, 0, NULL, 0, &narrow, NULL));
    OK(discover_set_pick(narrow, "p2c", NULL, &picked, NULL));
    discover_set_done(narrow, picked);
    subscription = subscribe(set, &observer);
    OK(discover_set_feed(set, &feed, NULL));
    OK(discover_feed_drain(feed, observer_on_event, &observer, NULL));
    OK(discover_log_set(DISCOVER_LEVEL_ERROR, NULL, NULL, NULL, NULL));
    discover_subscription_cancel(subscription);
    discover_subscription_cancel(blocked);
    discover_feed_cancel(feed);
    OK(discover_lease_unregister(lease, TIMEOUT_MS, NULL));
    discover_lease_release(lease);
    discover_instance_free(picked);
    discover_snapshot_free(now);
    discover_set_release(narrow);
    discover_set_release(same);
    OK(discover_client_close(another, TIMEOUT_MS, NULL));
    /* The callback was waiting all the time. */
    CHECK(sem_trywait(&waiting) != 0 && observer.destroyed == 0);
    pthread_mutex_unlock(&user_lock);
    await_destroyed(&observer);
}

static void every_call_succeeds_while_a_callback_waits_for_the_lock(const char *url) {
    discover_client *client = open_client(url);
    discover_lease *lease = register_instance(client, new_registration("web", 7001));
    discover_set *set = open_set(client, "web");
    discover_subscription *subscription;
    sem_t destroyed;

    sem_init(&destroyed, 0, 0);
    discover_snapshot_free(await_online(set, 1));
    pthread_mutex_lock(&user_lock);
    OK(discover_set_subscribe(set, take_user_lock, &destroyed, on_destroy, &subscription, NULL));
    await_sem(&waiting);
    make_every_call(url, client, set, subscription);
    await_sem(&destroyed);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    CHECK(sem_trywait(&destroyed) != 0);
    discover_lease_release(lease);
    discover_set_release(set);
}

struct worker {
    const discover_client *client;
    const discover_set *set;
    int rounds;
};

static void *register_with_lock_held(void *user_data) {
    struct worker *worker = user_data;

    for (int i = 0; i < worker->rounds; i++) {
        discover_registration *registration = new_registration("web", 7001 + i % 7);
        discover_lease *lease;

        pthread_mutex_lock(&user_lock);
        OK(discover_client_register(worker->client, registration, TIMEOUT_MS, &lease, NULL));
        discover_lease_release(lease);
        pthread_mutex_unlock(&user_lock);
        discover_registration_free(registration);
    }
    return NULL;
}

static void *subscribe_with_lock_held(void *user_data) {
    struct worker *worker = user_data;

    for (int i = 0; i < worker->rounds; i++) {
        discover_subscription *subscription;
        sem_t destroyed;

        sem_init(&destroyed, 0, 0);
        pthread_mutex_lock(&user_lock);
        OK(discover_set_subscribe(worker->set, take_user_lock, &destroyed, on_destroy, &subscription, NULL));
        discover_snapshot_free(discover_set_take_snapshot(worker->set));
        discover_subscription_cancel(subscription);
        pthread_mutex_unlock(&user_lock);
        await_sem(&destroyed);
        CHECK(sem_trywait(&destroyed) != 0);
    }
    return NULL;
}

/* Two threads and the callback compete for the same lock. */
static void threads_and_callback_compete_for_the_lock(const char *url) {
    struct worker worker = {.client = open_client(url), .rounds = rounds(2000)};
    discover_set *set = open_set(worker.client, "web");
    discover_subscription *subscription;
    pthread_t threads[2];
    sem_t destroyed;

    worker.set = set;
    sem_init(&destroyed, 0, 0);
    OK(discover_set_subscribe(set, take_user_lock, &destroyed, on_destroy, &subscription, NULL));
    CHECK(pthread_create(&threads[0], NULL, register_with_lock_held, &worker) == 0);
    CHECK(pthread_create(&threads[1], NULL, subscribe_with_lock_held, &worker) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    OK(discover_client_close((discover_client *)worker.client, TIMEOUT_MS, NULL));
    await_sem(&destroyed);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);

    sem_init(&waiting, 0, 0);
    every_call_succeeds_while_a_callback_waits_for_the_lock(url);
    threads_and_callback_compete_for_the_lock(url);
    return 0;
}
