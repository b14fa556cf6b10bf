/* G16: picking, and reading a snapshot, allocates nothing. */
#include "harness.h"

/* The allocator of the C library, under the names that this file does not override. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static __thread long allocations;

void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    allocations++;
    return __libc_realloc(old, size);
}

static void read_everything(const discover_set *set) {
    static const char *const policies[] = {"round_robin", "random", "weighted", "p2c", "hash"};
    discover_snapshot *snapshot = discover_set_take_snapshot(set);
    discover_instance *clone = discover_instance_clone(discover_snapshot_leader(snapshot));

    CHECK(discover_snapshot_online_count(snapshot) == 2);
    SAME_TEXT(discover_instance_address(discover_snapshot_online(snapshot, 1)), "127.0.0.1:7002");
    discover_snapshot_free(snapshot);
    CHECK(discover_instance_attribute(clone, "zone") == NULL);
    discover_instance_free(clone);
    for (int i = 0; i < 5; i++) {
        discover_instance *picked;
        CHECK(discover_set_pick(set, policies[i], i == 4 ? "key" : NULL, &picked, NULL) == DISCOVER_OK);
        discover_set_done(set, picked);
        discover_instance_free(picked);
    }
}

int main(int argc, char **argv) {
    discover_client *client = open_client(test_url(argc, argv));
    discover_set *set = open_set(client, "web"), *filtered;
    discover_lease *first = register_instance(client, new_registration("web", 7001));
    discover_lease *second = register_instance(client, new_registration("web", 7002));
    long before;

    OK(discover_set_filter(set, NULL, NULL, 0, NULL, 0, &filtered, NULL));
    discover_snapshot_free(await_online(filtered, 2));
    CHECK(allocations > 0);
    /* The first read builds the strings that later reads share. */
    read_everything(set);
    read_everything(filtered);
    before = allocations;
    for (int i = 0; i < 100; i++) {
        read_everything(set);
        read_everything(filtered);
    }
    CHECK(allocations == before);

    discover_lease_release(first);
    discover_lease_release(second);
    discover_set_release(filtered);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
