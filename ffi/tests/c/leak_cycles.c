/* Opens and closes clients, subscribes and cancels, many times, and checks that usage does not grow.
 *
 *     leak_cycles URL         must succeed
 *     leak_cycles URL leak    leaks a little in each round and must fail */
#include "process_usage.h"

#define SUBSCRIPTIONS 100000
#define CLIENTS 1000
/* Allowed growth: memory that malloc and the threads keep for reuse. */
#define ALLOCATED_KIB 64
#define RESIDENT_KIB 4096

static int leaking;

struct usage {
    int threads, descriptors;
    long allocated, resident;
};

static struct usage usage_now(void) {
    struct usage now = {count_threads(), count_descriptors(), allocated_kib(), resident_kib()};
    return now;
}

static void check_no_growth(const char *what, int count, struct usage before, struct usage after) {
    printf("%d %s: threads %d to %d, descriptors %d to %d, allocated %ld to %ld KiB, resident %ld to %ld KiB\n",
           count, what, before.threads, after.threads, before.descriptors, after.descriptors,
           before.allocated, after.allocated, before.resident, after.resident);
    fflush(stdout);
    CHECK(after.threads == before.threads && after.descriptors == before.descriptors);
    CHECK(after.allocated <= before.allocated + ALLOCATED_KIB);
    CHECK(after.resident <= before.resident + RESIDENT_KIB);
}

static void subscribe_and_cancel(const discover_set *set, int count) {
    struct observer observer = NEW_OBSERVER;
    discover_subscription *subscription;

    for (int i = 0; i < count; i++) {
        observer.destroyed = 0;
        observer.received[0] = '\0';
        subscription = subscribe(set, &observer);
        /* Some are cancelled before the first event, others after it. */
        if (i % 3 == 0) await_events(&observer, "current\n");
        discover_subscription_cancel(subscription);
        if (leaking) CHECK(discover_set_take_snapshot(set) != NULL && malloc(100) != NULL);
        await_destroyed(&observer);
    }
}

static void open_and_close(const char *url, int count) {
    for (int i = 0; i < count; i++) {
        discover_client *client = open_client(url);
        discover_set *set = open_set(client, "web");
        discover_lease *lease = register_instance(client, new_registration("web", 7001));
        struct observer observer = NEW_OBSERVER;
        discover_subscription *subscription = subscribe(set, &observer);
        discover_feed *feed;

        OK(discover_set_feed(set, &feed, NULL));
        discover_snapshot_free(await_online(set, 1));
        OK(discover_client_close(client, TIMEOUT_MS, NULL));
        CHECK(observer.destroyed == 1);
        if (leaking) OK(discover_registration_new("web", 1, &(discover_registration *){NULL}, NULL));
        if (!leaking || i % 2) discover_feed_cancel(feed);
        discover_subscription_cancel(subscription);
        discover_lease_release(lease);
        discover_set_release(set);
    }
}

int main(int argc, char **argv) {
    const char *url;
    discover_client *client;
    discover_set *set;
    discover_lease *lease;
    struct usage before;
    int count;

    CHECK(argc >= 2);
    url = argv[1];
    leaking = argc > 2;

    count = rounds(CLIENTS);
    open_and_close(url, count / 4);
    before = usage_now();
    open_and_close(url, count);
    check_no_growth("times opened and closed", count, before, usage_now());

    client = open_client(url);
    set = open_set(client, "web");
    lease = register_instance(client, new_registration("web", 7001));
    discover_snapshot_free(await_online(set, 1));
    count = rounds(SUBSCRIPTIONS);
    subscribe_and_cancel(set, count / 10);
    before = usage_now();
    subscribe_and_cancel(set, count);
    check_no_growth("times subscribed and cancelled", count, before, usage_now());

    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
