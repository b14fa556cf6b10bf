/* A lease: automatic and manual heartbeats, changes, standing. */
#include "check.h"

static discover_client *client;
static discover_set *set;
static struct ear ear = NEW_EAR;

static void a_change_is_seen_and_a_refused_one_is_not(void) {
    const char *const names[] = {"version", "zone"}, *const values[] = {"2", "eu"};
    const char *const weight[] = {"weight"}, *const heavy[] = {"heavy"};
    discover_lease *lease = enter(client, describe("web", 7001));
    discover_snapshot *snapshot;
    const discover_instance *seen;

    await_heard(&ear, "up 127.0.0.1:7001\n");
    OK(discover_lease_update(lease, names, values, 2, PATIENCE_MS, NULL));
    await_heard(&ear, "update 127.0.0.1:7001\n");
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "weight",
          discover_lease_update(lease, weight, heavy, 1, PATIENCE_MS, &error));
    OK(discover_lease_heartbeat(lease, DISCOVER_NO_TIMEOUT, NULL));
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);

    snapshot = discover_set_take_snapshot(set);
    seen = discover_snapshot_leader(snapshot);
    CHECK(discover_instance_attribute_count(seen) == 2);
    SAME(discover_instance_attribute(seen, "version"), "2");
    discover_snapshot_free(snapshot);

    /* Releasing unregisters. */
    discover_lease_release(lease);
    await_heard(&ear, "down 127.0.0.1:7001\n");
}

static void without_its_manual_heartbeat_an_instance_goes_and_with_it_it_is_back(void) {
    discover_registration *registration = describe("web", 7002);
    discover_lease *lease;
    discover_error *reason = NULL;

    OK(discover_registration_set_ttl_ms(registration, 1000, NULL));
    OK(discover_registration_set_heartbeat_manual(registration, NULL));
    lease = enter(client, registration);
    await_heard(&ear, "up 127.0.0.1:7002\n");
    await_heard(&ear, "down 127.0.0.1:7002\n");
    /* The set is told before the owner. */
    while (discover_lease_standing(lease, NULL) != DISCOVER_STANDING_LAPSED) {}
    CHECK(discover_lease_standing(lease, &reason) == DISCOVER_STANDING_LAPSED);
    CHECK(discover_error_status(reason) == DISCOVER_ERR_LEASE_LOST);
    discover_error_free(reason);

    OK(discover_lease_heartbeat(lease, PATIENCE_MS, NULL));
    await_heard(&ear, "up 127.0.0.1:7002\n");
    CHECK(discover_lease_standing(lease, &reason) == DISCOVER_STANDING_LIVE && reason == NULL);
    discover_lease_release(lease);
    await_heard(&ear, "down 127.0.0.1:7002\n");
}

static void a_registration_can_be_used_again(void) {
    discover_registration *registration = describe("web", 7003);
    discover_lease *first, *second, *none;

    OK(discover_client_register(client, registration, DISCOVER_NO_TIMEOUT, &first, NULL));
    OK(discover_registration_set_host(registration, "127.0.0.2", NULL));
    OK(discover_client_register(client, registration, PATIENCE_MS, &second, NULL));
    SAME(discover_lease_id(first), "127.0.0.1:7003");
    SAME(discover_lease_id(second), "127.0.0.2:7003");

    /* What the registry cannot express is refused, and nobody is registered. */
    OK(discover_registration_set_id(registration, "another", NULL));
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "another",
          discover_client_register(client, registration, PATIENCE_MS, &none, &error));
    CHECK(none == NULL);
    discover_registration_free(registration);
    discover_lease_release(first);
    discover_lease_release(second);
}

int main(int argc, char **argv) {
    discover_subscription *subscription;

    client = open_client(url_of(argc, argv));
    set = services(client, "web");
    subscription = subscribe(set, &ear);
    a_change_is_seen_and_a_refused_one_is_not();
    without_its_manual_heartbeat_an_instance_goes_and_with_it_it_is_back();
    a_registration_can_be_used_again();
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    return 0;
}
