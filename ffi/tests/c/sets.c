/* Reading sets: online, offline, leader, filters, picks and waits. */
#include "harness.h"

static discover_client *client;
static discover_set *set;

static discover_registration *new_web_registration(int64_t port, const char *zone, const char *weight) {
    discover_registration *registration = new_registration("web", port);
    OK(discover_registration_set_attribute(registration, "zone", zone, NULL));
    OK(discover_registration_set_attribute(registration, "weight", weight, NULL));
    return registration;
}

static void an_instance_has_the_registered_values(void) {
    discover_set *only = open_set(client, "only");
    discover_registration *v6;
    discover_snapshot *snapshot;
    const discover_instance *seen;
    discover_instance *clone;
    discover_lease *lease;

    OK(discover_registration_new("only", 80, &v6, NULL));
    OK(discover_registration_set_host(v6, "[::1]", NULL));
    OK(discover_registration_set_id(v6, "[::1]:80", NULL));
    OK(discover_registration_set_attribute(v6, "zone", "eu", NULL));
    OK(discover_registration_set_attribute(v6, "b", "gr\xc3\xbc\xc3\x9f", NULL));
    OK(discover_registration_set_attribute(v6, "b", "2", NULL));
    OK(discover_registration_add_tag(v6, "blue", NULL));
    OK(discover_registration_add_tag(v6, "canary", NULL));
    lease = register_instance(client, v6);
    SAME_TEXT(discover_lease_service(lease), "only");
    SAME_TEXT(discover_lease_id(lease), "[::1]:80");
    SAME_TEXT(discover_lease_address(lease), "[::1]:80");

    snapshot = await_online(only, 1);
    seen = discover_snapshot_online(snapshot, 0);
    SAME_TEXT(discover_instance_service(seen), "only");
    SAME_TEXT(discover_instance_id(seen), "[::1]:80");
    SAME_TEXT(discover_instance_host(seen), "::1");
    SAME_TEXT(discover_instance_address(seen), "[::1]:80");
    CHECK(discover_instance_port(seen) == 80);
    CHECK(discover_instance_attribute_count(seen) == 2);
    SAME_TEXT(discover_instance_attribute_name(seen, 0), "b");
    SAME_TEXT(discover_instance_attribute_value(seen, 0), "2");
    SAME_TEXT(discover_instance_attribute_name(seen, 1), "zone");
    SAME_TEXT(discover_instance_attribute(seen, "zone"), "eu");
    CHECK(discover_instance_attribute(seen, "none") == NULL);
    SAME_TEXT(discover_instance_zone(seen), "eu");
    CHECK(discover_instance_weight(seen) == 1);
    CHECK(discover_instance_tag_count(seen) == 2);
    SAME_TEXT(discover_instance_tag(seen, 0), "blue");
    SAME_TEXT(discover_instance_tag(seen, 1), "canary");
    CHECK(discover_instance_tag(seen, 2) == NULL);
    CHECK(discover_snapshot_leader(snapshot) == seen);

    /* A clone and its strings outlive the snapshot. */
    clone = discover_instance_clone(seen);
    discover_snapshot_free(snapshot);
    discover_lease_release(lease);
    discover_set_release(only);
    SAME_TEXT(discover_instance_id(clone), "[::1]:80");
    discover_instance_free(clone);
}

static void filters_narrow_and_combine(void) {
    const char *const names[] = {"zone"}, *const values[] = {"eu"};
    const char *const heavy[] = {"weight"}, *const two[] = {"2"}, *const tags[] = {"blue"};
    discover_set *eu, *eu_two, *blue;
    discover_snapshot *snapshot;

    OK(discover_set_filter(set, names, values, 1, NULL, 0, &eu, NULL));
    OK(discover_set_filter(eu, heavy, two, 1, NULL, 0, &eu_two, NULL));
    OK(discover_set_filter(set, NULL, NULL, 0, tags, 1, &blue, NULL));
    SAME_TEXT(discover_set_service(eu_two), "web");

    snapshot = await_online(eu, 2);
    CHECK(discover_snapshot_online_count(snapshot) == 2);
    discover_snapshot_free(snapshot);
    snapshot = await_online(eu_two, 1);
    CHECK(discover_snapshot_online_count(snapshot) == 1);
    CHECK(discover_instance_port(discover_snapshot_leader(snapshot)) == 7002);
    discover_snapshot_free(snapshot);
    snapshot = await_online(blue, 0);
    CHECK(discover_snapshot_online_count(snapshot) == 0 && discover_snapshot_leader(snapshot) == NULL);
    discover_snapshot_free(snapshot);

    discover_set_release(eu);
    discover_set_release(eu_two);
    discover_set_release(blue);
}

static uint16_t pick(const discover_set *from, const char *policy, const char *key) {
    discover_instance *picked;
    uint16_t port;

    OK(discover_set_pick(from, policy, key, &picked, NULL));
    port = discover_instance_port(picked);
    discover_set_done(from, picked);
    discover_instance_free(picked);
    return port;
}

static void each_policy_picks_as_documented(void) {
    const char *const names[] = {"zone"}, *const values[] = {"moon"};
    uint16_t by_key = pick(set, "hash", "user-17");
    discover_instance *none = (discover_instance *)&by_key;
    discover_set *empty;

    CHECK(pick(set, "round_robin", NULL) == 7001);
    CHECK(pick(set, "round_robin", NULL) == 7002);
    CHECK(pick(set, "round_robin", NULL) == 7001);
    for (int i = 0; i < 100; i++) {
        CHECK(pick(set, "hash", "user-17") == by_key);
        /* The third instance has weight 0. */
        CHECK(pick(set, "weighted", NULL) < 7003);
        CHECK(pick(set, "random", NULL) < 7003);
        CHECK(pick(set, "p2c", NULL) < 7003);
    }
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "round_robin, random, weighted, p2c, hash",
          discover_set_pick(set, "best", NULL, &none, &error));
    CHECK(none == NULL);

    /* Picking from an empty set succeeds without an instance. */
    none = (discover_instance *)&by_key;
    OK(discover_set_filter(set, names, values, 1, NULL, 0, &empty, NULL));
    OK(discover_set_pick(empty, "random", NULL, &none, NULL));
    CHECK(none == NULL);
    discover_set_release(empty);
}

static void waiting_in_vain_times_out(void) {
    discover_snapshot *none = (discover_snapshot *)set;

    FAILS(DISCOVER_ERR_TIMEOUT, "3 of 9 instances of web", discover_set_wait(set, 9, 10, &none, &error));
    CHECK(none == NULL);
    FAILS(DISCOVER_ERR_TIMEOUT, "", discover_set_wait(set, 9, 0, &none, &error));
}

static void offline_instances_are_listed(discover_lease *leaving) {
    discover_snapshot *before = discover_set_take_snapshot(set), *after;
    struct observer observer = NEW_OBSERVER;
    discover_subscription *subscription = subscribe(set, &observer);
    int64_t begin = (int64_t)time(NULL) * 1000;

    await_events(&observer, "current\n");
    OK(discover_lease_unregister(leaving, TIMEOUT_MS, NULL));
    OK(discover_lease_unregister(leaving, TIMEOUT_MS, NULL));
    CHECK(discover_lease_standing(leaving, NULL) == DISCOVER_STANDING_RELEASED);
    await_events(&observer, "down 127.0.0.1:7001\n");

    after = discover_set_take_snapshot(set);
    CHECK(discover_snapshot_offline_count(after) == 1);
    CHECK(discover_instance_port(discover_snapshot_offline(after, 0)) == 7001);
    CHECK(discover_snapshot_offline_reason(after, 0) == DISCOVER_OFFLINE_REASON_REMOVED);
    CHECK(discover_snapshot_offline_at_ms(after, 0) >= begin);
    CHECK(discover_snapshot_offline_at_ms(after, 0) < begin + 2 * TIMEOUT_MS);
    CHECK(discover_snapshot_version(after) > discover_snapshot_version(before));
    CHECK(discover_instance_port(discover_snapshot_leader(after)) == 7002);
    /* A snapshot does not change. */
    CHECK(discover_snapshot_online_count(before) == 3 && discover_snapshot_offline_count(before) == 0);
    CHECK(discover_instance_port(discover_snapshot_leader(before)) == 7001);

    discover_snapshot_free(before);
    discover_snapshot_free(after);
    discover_subscription_cancel(subscription);
    await_destroyed(&observer);
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);
    discover_lease *leases[3];
    discover_snapshot *snapshot;

    client = open_client(url);
    CHECK(strncmp(discover_client_url(client), url, strlen(url)) == 0);
    set = open_set(client, "web");
    snapshot = await_online(set, 0);
    CHECK(discover_snapshot_is_ready(snapshot) && discover_snapshot_is_current(snapshot));
    CHECK(discover_snapshot_invalid_count(snapshot) == 0);
    CHECK(discover_set_state(set) == DISCOVER_STATE_CURRENT);
    SAME_TEXT(discover_state_name(discover_set_state(set)), "current");
    discover_snapshot_free(snapshot);

    an_instance_has_the_registered_values();
    leases[0] = register_instance(client, new_web_registration(7001, "eu", "1"));
    leases[1] = register_instance(client, new_web_registration(7002, "eu", "2"));
    leases[2] = register_instance(client, new_web_registration(7003, "us", "0"));
    snapshot = await_online(set, 3);
    for (size_t i = 0; i < 3; i++) {
        CHECK(discover_instance_port(discover_snapshot_online(snapshot, i)) == 7001 + i);
        CHECK(i == 0
              || discover_instance_created(discover_snapshot_online(snapshot, i))
                     > discover_instance_created(discover_snapshot_online(snapshot, i - 1)));
    }
    discover_snapshot_free(snapshot);
    filters_narrow_and_combine();
    each_policy_picks_as_documented();
    waiting_in_vain_times_out();
    offline_instances_are_listed(leases[0]);

    for (int i = 0; i < 3; i++) discover_lease_release(leases[i]);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
