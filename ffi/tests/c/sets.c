/* Reading: online, offline, leader, filters, picks and waiting. */
#include "check.h"

static discover_client *client;
static discover_set *set;

static discover_registration *described(int64_t port, const char *zone, const char *weight) {
    discover_registration *registration = describe("web", port);
    OK(discover_registration_set_attribute(registration, "zone", zone, NULL));
    OK(discover_registration_set_attribute(registration, "weight", weight, NULL));
    return registration;
}

static void an_instance_is_as_it_was_registered(void) {
    discover_set *only = services(client, "only");
    discover_registration *v6;
    discover_snapshot *snapshot;
    const discover_instance *seen;
    discover_instance *kept;
    discover_lease *lease;

    OK(discover_registration_new("only", 80, &v6, NULL));
    OK(discover_registration_set_host(v6, "[::1]", NULL));
    OK(discover_registration_set_id(v6, "[::1]:80", NULL));
    OK(discover_registration_set_attribute(v6, "zone", "eu", NULL));
    OK(discover_registration_set_attribute(v6, "b", "gr\xc3\xbc\xc3\x9f", NULL));
    OK(discover_registration_set_attribute(v6, "b", "2", NULL));
    OK(discover_registration_add_tag(v6, "blue", NULL));
    OK(discover_registration_add_tag(v6, "canary", NULL));
    lease = enter(client, v6);
    SAME(discover_lease_service(lease), "only");
    SAME(discover_lease_id(lease), "[::1]:80");
    SAME(discover_lease_address(lease), "[::1]:80");

    snapshot = await_online(only, 1);
    seen = discover_snapshot_online(snapshot, 0);
    SAME(discover_instance_service(seen), "only");
    SAME(discover_instance_id(seen), "[::1]:80");
    SAME(discover_instance_host(seen), "::1");
    SAME(discover_instance_address(seen), "[::1]:80");
    CHECK(discover_instance_port(seen) == 80);
    CHECK(discover_instance_attribute_count(seen) == 2);
    SAME(discover_instance_attribute_name(seen, 0), "b");
    SAME(discover_instance_attribute_value(seen, 0), "2");
    SAME(discover_instance_attribute_name(seen, 1), "zone");
    SAME(discover_instance_attribute(seen, "zone"), "eu");
    CHECK(discover_instance_attribute(seen, "none") == NULL);
    SAME(discover_instance_zone(seen), "eu");
    CHECK(discover_instance_weight(seen) == 1);
    CHECK(discover_instance_tag_count(seen) == 2);
    SAME(discover_instance_tag(seen, 0), "blue");
    SAME(discover_instance_tag(seen, 1), "canary");
    CHECK(discover_instance_tag(seen, 2) == NULL);
    CHECK(discover_snapshot_leader(snapshot) == seen);

    /* A clone outlives the snapshot, and its strings with it. */
    kept = discover_instance_clone(seen);
    discover_snapshot_free(snapshot);
    discover_lease_release(lease);
    discover_set_release(only);
    SAME(discover_instance_id(kept), "[::1]:80");
    discover_instance_free(kept);
}

static void filters_narrow_and_add_up(void) {
    const char *const names[] = {"zone"}, *const values[] = {"eu"};
    const char *const heavy[] = {"weight"}, *const two[] = {"2"}, *const tags[] = {"blue"};
    discover_set *eu, *eu_two, *blue;
    discover_snapshot *snapshot;

    OK(discover_set_filter(set, names, values, 1, NULL, 0, &eu, NULL));
    OK(discover_set_filter(eu, heavy, two, 1, NULL, 0, &eu_two, NULL));
    OK(discover_set_filter(set, NULL, NULL, 0, tags, 1, &blue, NULL));
    SAME(discover_set_service(eu_two), "web");

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

static void each_policy_picks_in_its_way(void) {
    const char *const names[] = {"zone"}, *const values[] = {"moon"};
    uint16_t by_key = pick(set, "hash", "user-17");
    discover_instance *none = (discover_instance *)&by_key;
    discover_set *nobody;

    CHECK(pick(set, "round_robin", NULL) == 7001);
    CHECK(pick(set, "round_robin", NULL) == 7002);
    CHECK(pick(set, "round_robin", NULL) == 7003);
    CHECK(pick(set, "round_robin", NULL) == 7001);
    for (int i = 0; i < 100; i++) {
        CHECK(pick(set, "hash", "user-17") == by_key);
        /* The third has weight 0. */
        CHECK(pick(set, "weighted", NULL) != 7003);
        CHECK(pick(set, "random", NULL) > 7000);
        CHECK(pick(set, "p2c", NULL) > 7000);
    }
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "round_robin, random, weighted, p2c, hash",
          discover_set_pick(set, "best", NULL, &none, &error));
    CHECK(none == NULL);

    /* Nobody to pick is no failure. */
    none = (discover_instance *)&by_key;
    OK(discover_set_filter(set, names, values, 1, NULL, 0, &nobody, NULL));
    OK(discover_set_pick(nobody, "random", NULL, &none, NULL));
    CHECK(none == NULL);
    discover_set_release(nobody);
}

static void waiting_in_vain_ends(void) {
    discover_snapshot *none = (discover_snapshot *)set;

    FAILS(DISCOVER_ERR_TIMEOUT, "3 of 9 instances of web", discover_set_wait(set, 9, 10, &none, &error));
    CHECK(none == NULL);
    FAILS(DISCOVER_ERR_TIMEOUT, "", discover_set_wait(set, 9, 0, &none, &error));
}

static void the_departed_are_remembered(discover_lease *leaving) {
    discover_snapshot *before = discover_set_take_snapshot(set), *after;
    struct ear ear = NEW_EAR;
    discover_subscription *subscription = subscribe(set, &ear);
    int64_t begin = (int64_t)time(NULL) * 1000;

    await_heard(&ear, "current\n");
    OK(discover_lease_unregister(leaving, PATIENCE_MS, NULL));
    OK(discover_lease_unregister(leaving, PATIENCE_MS, NULL));
    CHECK(discover_lease_standing(leaving, NULL) == DISCOVER_STANDING_RELEASED);
    await_heard(&ear, "down 127.0.0.1:7001\n");

    after = discover_set_take_snapshot(set);
    CHECK(discover_snapshot_offline_count(after) == 1);
    CHECK(discover_instance_port(discover_snapshot_offline(after, 0)) == 7001);
    CHECK(discover_snapshot_offline_departure(after, 0) == DISCOVER_DEPARTURE_REMOVED);
    CHECK(discover_snapshot_offline_since_ms(after, 0) >= begin);
    CHECK(discover_snapshot_offline_since_ms(after, 0) < begin + 2 * PATIENCE_MS);
    CHECK(discover_snapshot_version(after) > discover_snapshot_version(before));
    CHECK(discover_instance_port(discover_snapshot_leader(after)) == 7002);
    /* What is held does not change. */
    CHECK(discover_snapshot_online_count(before) == 3 && discover_snapshot_offline_count(before) == 0);
    CHECK(discover_instance_port(discover_snapshot_leader(before)) == 7001);

    discover_snapshot_free(before);
    discover_snapshot_free(after);
    discover_subscription_cancel(subscription);
    await_destroyed(&ear);
}

int main(int argc, char **argv) {
    const char *url = url_of(argc, argv);
    discover_lease *leases[3];
    discover_snapshot *snapshot;

    client = open_client(url);
    CHECK(strncmp(discover_client_url(client), url, strlen(url)) == 0);
    set = services(client, "web");
    snapshot = await_online(set, 0);
    CHECK(discover_snapshot_is_ready(snapshot) && discover_snapshot_is_current(snapshot));
    CHECK(discover_snapshot_invalid_count(snapshot) == 0);
    CHECK(discover_set_state(set) == DISCOVER_STATE_CURRENT);
    SAME(discover_state_name(discover_set_state(set)), "current");
    discover_snapshot_free(snapshot);

    an_instance_is_as_it_was_registered();
    leases[0] = enter(client, described(7001, "eu", "1"));
    leases[1] = enter(client, described(7002, "eu", "2"));
    leases[2] = enter(client, described(7003, "us", "0"));
    snapshot = await_online(set, 3);
    for (size_t i = 0; i < 3; i++) {
        CHECK(discover_instance_port(discover_snapshot_online(snapshot, i)) == 7001 + i);
        CHECK(i == 0
              || discover_instance_created(discover_snapshot_online(snapshot, i))
                     > discover_instance_created(discover_snapshot_online(snapshot, i - 1)));
    }
    discover_snapshot_free(snapshot);
    filters_narrow_and_add_up();
    each_policy_picks_in_its_way();
    waiting_in_vain_ends();
    the_departed_are_remembered(leases[0]);

    for (int i = 0; i < 3; i++) discover_lease_release(leases[i]);
    discover_set_release(set);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    return 0;
}
