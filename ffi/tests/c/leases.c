/* Leases: automatic and manual heartbeats, updates, standing. */
#include "harness.h"

static discover_client *client;
static discover_set *set;
static struct observer observer = NEW_OBSERVER;

static void an_update_is_published_and_a_rejected_one_is_not(void) {
    const char *const names[] = {"version", "zone"}, *const values[] = {"2", "eu"};
    const char *const weight[] = {"weight"}, *const heavy[] = {"heavy"};
    discover_lease *lease = register_instance(client, new_registration("web", 7001));
    discover_snapshot *snapshot;
    const discover_instance *seen;

    await_events(&observer, "up 127.0.0.1:7001\n");
    OK(discover_lease_update(lease, names, values, 2, TIMEOUT_MS, NULL));
    await_events(&observer, "update 127.0.0.1:7001\n");
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "weight",
          discover_lease_update(lease, weight, heavy, 1, TIMEOUT_MS, &error));
    OK(discover_lease_heartbeat(lease, DISCOVER_NO_TIMEOUT, NULL));
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);

    snapshot = discover_set_take_snapshot(set);
    seen = discover_snapshot_leader(snapshot);
    CHECK(discover_instance_attribute_count(seen) == 2);
    SAME_TEXT(discover_instance_attribute(seen, "version"), "2");
    discover_snapshot_free(snapshot);

    /* Releasing unregisters. */
    discover_lease_release(lease);
    await_events(&observer, "down 127.0.0.1:7001\n");
}

static void without_a_manual_heartbeat_an_instance_lapses_and_with_one_it_is_restored(void) {
    discover_registration *registration = new_registration("web", 7002);
    discover_lease *lease;
    discover_error *reason = NULL;

    OK(discover_registration_set_ttl_ms(registration, 1000, NULL));
    OK(discover_registration_set_heartbeat_manual(registration, NULL));
    lease = register_instance(client, registration);
    await_events(&observer, "up 127.0.0.1:7002\n");
    await_events(&observer, "down 127.0.0.1:7002\n");
    /* The set receives the change before the lease does. */
    while (discover_lease_standing(lease, NULL) != DISCOVER_STANDING_LAPSED) {}
    CHECK(discover_lease_standing(lease, &reason) == DISCOVER_STANDING_LAPSED);
    CHECK(discover_error_status(reason) == DISCOVER_ERR_LEASE_LOST);
    discover_error_free(reason);

    OK(discover_lease_heartbeat(lease, TIMEOUT_MS, NULL));
    await_events(&observer, "up 127.0.0.1:7002\n");
    CHECK(discover_lease_standing(lease, &reason) == DISCOVER_STANDING_LIVE && reason == NULL);
    discover_lease_release(lease);
    await_events(&observer, "down 127.0.0.1:7002\n");
}

static void a_registration_can_be_reused(void) {
    discover_registration *registration = new_registration("web", 7003);
    discover_lease *first, *second, *none;

    OK(discover_client_register(client, registration, DISCOVER_NO_TIMEOUT, &first, NULL));
    OK(discover_registration_set_host(registration, "127.0.0.2", NULL));
    OK(discover_client_register(client, registration, TIMEOUT_MS, &second, NULL));
    SAME_TEXT(discover_lease_id(first), "127.0.0.1:7003");
    SAME_TEXT(discover_lease_id(second), "127.0.0.2:7003");

    /* An id that the layout cannot represent is rejected, and nothing is registered. */
    OK(discover_registration_set_id(registration, "another", NULL));
    FAILS(DISCOVER_ERR_INVALID_ARGUMENT, "another",
          discover_client_register(client, registration, TIMEOUT_MS, &none, &error));
    CHECK(none == NULL);
    discover_registration_free(registration);
    discover_lease_release(first);
    discover_lease_release(second);
}

int main(int argc, char **argv) {
    discover_subscription *subscription;

    client = open_client(test_url(argc, argv));
    set = open_set(client, "web");
    subscription = subscribe(set, &observer);
    an_update_is_published_and_a_rejected_one_is_not();
    without_a_manual_heartbeat_an_instance_lapses_and_with_one_it_is_restored();
    a_registration_can_be_reused();
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    return 0;
}
