/* NULL and malformed UTF-8 for every pointer: each call fails with an error and empties its outputs. */
#include "harness.h"

#define MALFORMED "caf\xe9"
#define JUNK ((void *)&junk)

static int junk;
static discover_error *error;

/* Checks that a call, which writes its error to `error`, is rejected with exactly this message after the name
 * of the function. */
#define REJECTED(text, call)                                                          \
    do {                                                                              \
        error = JUNK;                                                                 \
        check_status(call, DISCOVER_ERR_INVALID_ARGUMENT, #call, __FILE__, __LINE__); \
        CHECK(error != JUNK);                                                         \
        SAME_TEXT(after_function_name(discover_error_message(error), #call), text);   \
        discover_error_free(error);                                                   \
    } while (0)

/* The same for a call that creates an object. */
#define REJECTED_OUT(text, out, call) \
    do {                              \
        out = JUNK;                   \
        REJECTED(text, call);         \
        CHECK(out == NULL);           \
    } while (0)

/* Arguments whose values the core rejects; its messages do not name the function. */
#define VALUE_REJECTED(text, call)                                                    \
    do {                                                                              \
        error = JUNK;                                                                 \
        check_status(call, DISCOVER_ERR_INVALID_ARGUMENT, #call, __FILE__, __LINE__); \
        CHECK(error != JUNK);                                                         \
        SAME_TEXT(discover_error_message(error), text);                               \
        discover_error_free(error);                                                   \
    } while (0)

#define VALUE_REJECTED_OUT(text, out, call) \
    do {                                    \
        out = JUNK;                         \
        VALUE_REJECTED(text, call);         \
        CHECK(out == NULL);                 \
    } while (0)

/* The rest of a message that begins with the name of the called function; NULL for another message. */
static const char *after_function_name(const char *message, const char *call) {
    size_t length = strcspn(call, "(");

    if (strncmp(message, call, length) != 0 || strncmp(message + length, ": ", 2) != 0) return NULL;
    return message + length + 2;
}

static discover_client *client;
static discover_registration *registration;
static discover_lease *lease;
static discover_set *set;
static discover_feed *feed;
static discover_snapshot *snapshot;

static const char *const valid[] = {"zone", "version"};
static const char *const with_null[] = {"zone", NULL};
static const char *const malformed[] = {MALFORMED, "version"};

static void metrics(void) {
    uint64_t value = 7;

    REJECTED("client is NULL", discover_client_metric(NULL, "relists", &value, &error));
    CHECK(value == 0);
    REJECTED("name is NULL", discover_client_metric(client, NULL, &value, &error));
    REJECTED("name is not UTF-8 at byte 3", discover_client_metric(client, MALFORMED, &value, &error));
    REJECTED("no metric is named \"luck\"; discover_metric_name() lists the names",
             discover_client_metric(client, "luck", &value, &error));
    REJECTED("value is NULL", discover_client_metric(client, "relists", NULL, &error));
    CHECK(discover_metric_name(discover_metric_count()) == NULL);
}

static void ignore(int32_t state, const discover_error *reason, void *user_data) {
    (void)state, (void)reason, (void)user_data;
}

static void state_callbacks(void) {
    discover_subscription *u;
    discover_error *reason = JUNK;

    CHECK(discover_client_connection(NULL, NULL) == 0);
    CHECK(discover_client_connection(NULL, &reason) == 0);
    SAME_TEXT(discover_error_message(reason), "discover_client_connection: client is NULL");
    discover_error_free(reason);
    REJECTED_OUT("client is NULL", u, discover_client_on_connection(NULL, ignore, NULL, NULL, &u, &error));
    REJECTED_OUT("on_state is NULL", u, discover_client_on_connection(client, NULL, NULL, NULL, &u, &error));
    REJECTED("out is NULL", discover_client_on_connection(client, ignore, NULL, NULL, NULL, &error));
    REJECTED_OUT("lease is NULL", u, discover_lease_on_standing(NULL, ignore, NULL, NULL, &u, &error));
    REJECTED_OUT("on_state is NULL", u, discover_lease_on_standing(lease, NULL, NULL, NULL, &u, &error));
    REJECTED("out is NULL", discover_lease_on_standing(lease, ignore, NULL, NULL, NULL, &error));
}

static void clients(void) {
    discover_client *c;
    discover_lease *l;
    discover_set *s;

    REJECTED_OUT("url is not UTF-8 at byte 3", c, discover_client_open(MALFORMED, &c, &error));
    REJECTED("out is NULL", discover_client_open("memory://m", NULL, &error));
    REJECTED_OUT("client is NULL", l, discover_client_register(NULL, registration, 0, &l, &error));
    REJECTED_OUT("registration is NULL", l, discover_client_register(client, NULL, 0, &l, &error));
    REJECTED("out is NULL", discover_client_register(client, registration, 0, NULL, &error));
    REJECTED_OUT("client is NULL", s, discover_client_services(NULL, "web", &s, &error));
    REJECTED_OUT("service is NULL", s, discover_client_services(client, NULL, &s, &error));
    REJECTED_OUT("service is not UTF-8 at byte 3", s, discover_client_services(client, MALFORMED, &s, &error));
    REJECTED("out is NULL", discover_client_services(client, "web", NULL, &error));
    CHECK(discover_client_url(NULL) == NULL);
    metrics();
    state_callbacks();
    OK(discover_client_close(NULL, 0, NULL));
}

static void registrations(void) {
    discover_registration *r;

    REJECTED_OUT("service is NULL", r, discover_registration_new(NULL, 80, &r, &error));
    REJECTED_OUT("service is not UTF-8 at byte 3", r, discover_registration_new(MALFORMED, 80, &r, &error));
    VALUE_REJECTED_OUT("port 0 is not in 1 to 65535", r, discover_registration_new("web", 0, &r, &error));
    VALUE_REJECTED_OUT("port 65536 is not in 1 to 65535", r, discover_registration_new("web", 65536, &r, &error));
    VALUE_REJECTED_OUT("port -1 is not in 1 to 65535", r, discover_registration_new("web", -1, &r, &error));
    REJECTED("out is NULL", discover_registration_new("web", 80, NULL, &error));
    REJECTED("registration is NULL", discover_registration_set_host(NULL, "h", &error));
    REJECTED("host is NULL", discover_registration_set_host(registration, NULL, &error));
    REJECTED("host is not UTF-8 at byte 3", discover_registration_set_host(registration, MALFORMED, &error));
    REJECTED("registration is NULL", discover_registration_set_id(NULL, "i", &error));
    REJECTED("id is NULL", discover_registration_set_id(registration, NULL, &error));
    REJECTED("id is not UTF-8 at byte 3", discover_registration_set_id(registration, MALFORMED, &error));
    REJECTED("registration is NULL", discover_registration_set_attribute(NULL, "n", "v", &error));
    REJECTED("name is NULL", discover_registration_set_attribute(registration, NULL, "v", &error));
    REJECTED("value is NULL", discover_registration_set_attribute(registration, "n", NULL, &error));
    REJECTED("name is not UTF-8 at byte 3",
             discover_registration_set_attribute(registration, MALFORMED, "v", &error));
    REJECTED("value is not UTF-8 at byte 3",
             discover_registration_set_attribute(registration, "n", MALFORMED, &error));
    REJECTED("registration is NULL", discover_registration_add_tag(NULL, "t", &error));
    REJECTED("tag is NULL", discover_registration_add_tag(registration, NULL, &error));
    REJECTED("tag is not UTF-8 at byte 3", discover_registration_add_tag(registration, MALFORMED, &error));
    REJECTED("registration is NULL", discover_registration_set_ttl_ms(NULL, 1000, &error));
    VALUE_REJECTED("ttl is 999ms; it must be 1s to 24h",
                   discover_registration_set_ttl_ms(registration, 999, &error));
    REJECTED("registration is NULL", discover_registration_set_heartbeat_manual(NULL, &error));
    discover_registration_free(NULL);
}

static void leases(void) {
    discover_error *reason = JUNK;

    REJECTED("lease is NULL", discover_lease_heartbeat(NULL, 0, &error));
    REJECTED("lease is NULL", discover_lease_update(NULL, valid, valid, 2, 0, &error));
    REJECTED("names is NULL", discover_lease_update(lease, NULL, valid, 2, 0, &error));
    REJECTED("values is NULL", discover_lease_update(lease, valid, NULL, 2, 0, &error));
    REJECTED("names[1] is NULL", discover_lease_update(lease, with_null, valid, 2, 0, &error));
    REJECTED("values[0] is not UTF-8 at byte 3", discover_lease_update(lease, valid, malformed, 2, 0, &error));
    REJECTED("lease is NULL", discover_lease_unregister(NULL, 0, &error));
    CHECK(discover_lease_service(NULL) == NULL);
    CHECK(discover_lease_id(NULL) == NULL);
    CHECK(discover_lease_address(NULL) == NULL);
    CHECK(discover_lease_standing(NULL, NULL) == 0);
    CHECK(discover_lease_standing(NULL, &reason) == 0);
    SAME_TEXT(discover_error_message(reason), "discover_lease_standing: lease is NULL");
    discover_error_free(reason);
    CHECK(discover_lease_standing(lease, &reason) == DISCOVER_STANDING_LIVE && reason == NULL);
    discover_lease_release(NULL);
}

static void sets(void) {
    discover_set *s;
    discover_snapshot *n;
    discover_instance *i;
    discover_subscription *u;
    discover_feed *f;

    REJECTED_OUT("set is NULL", s, discover_set_filter(NULL, valid, valid, 2, NULL, 0, &s, &error));
    REJECTED_OUT("names is NULL", s, discover_set_filter(set, NULL, valid, 2, NULL, 0, &s, &error));
    REJECTED_OUT("values[1] is NULL", s, discover_set_filter(set, valid, with_null, 2, NULL, 0, &s, &error));
    REJECTED_OUT("tags is NULL", s, discover_set_filter(set, NULL, NULL, 0, NULL, 1, &s, &error));
    REJECTED_OUT("tags[0] is not UTF-8 at byte 3", s,
                discover_set_filter(set, NULL, NULL, 0, malformed, 1, &s, &error));
    REJECTED("out is NULL", discover_set_filter(set, NULL, NULL, 0, NULL, 0, NULL, &error));
    REJECTED_OUT("set is NULL", n, discover_set_wait(NULL, 0, 0, &n, &error));
    REJECTED("out is NULL", discover_set_wait(set, 0, 0, NULL, &error));
    REJECTED_OUT("set is NULL", i, discover_set_pick(NULL, "random", NULL, &i, &error));
    REJECTED_OUT("policy is NULL", i, discover_set_pick(set, NULL, NULL, &i, &error));
    REJECTED_OUT("policy is not UTF-8 at byte 3", i, discover_set_pick(set, MALFORMED, NULL, &i, &error));
    REJECTED_OUT("key is not UTF-8 at byte 3", i, discover_set_pick(set, "hash", MALFORMED, &i, &error));
    VALUE_REJECTED_OUT("policy hash needs a key", i, discover_set_pick(set, "hash", NULL, &i, &error));
    VALUE_REJECTED_OUT("policy random takes no key", i, discover_set_pick(set, "random", "k", &i, &error));
    REJECTED("out is NULL", discover_set_pick(set, "random", NULL, NULL, &error));
    REJECTED_OUT("set is NULL", u, discover_set_subscribe(NULL, observer_on_event, NULL, NULL, &u, &error));
    REJECTED_OUT("on_event is NULL", u, discover_set_subscribe(set, NULL, NULL, NULL, &u, &error));
    REJECTED("out is NULL", discover_set_subscribe(set, observer_on_event, NULL, NULL, NULL, &error));
    REJECTED_OUT("set is NULL", f, discover_set_feed(NULL, &f, &error));
    REJECTED("out is NULL", discover_set_feed(set, NULL, &error));
    CHECK(discover_set_service(NULL) == NULL);
    CHECK(discover_set_state(NULL) == 0);
    CHECK(discover_set_take_snapshot(NULL) == NULL);
    discover_set_done(NULL, NULL);
    discover_set_done(set, NULL);
    discover_set_release(NULL);
    discover_subscription_cancel(NULL);
}

static void snapshots(void) {
    CHECK(discover_snapshot_online_count(NULL) == 0);
    CHECK(discover_snapshot_online(NULL, 0) == NULL);
    CHECK(discover_snapshot_online(snapshot, 1) == NULL);
    CHECK(discover_snapshot_offline_count(NULL) == 0);
    CHECK(discover_snapshot_offline(NULL, 0) == NULL);
    CHECK(discover_snapshot_offline(snapshot, 0) == NULL);
    CHECK(discover_snapshot_offline_at_ms(NULL, 0) == 0);
    CHECK(discover_snapshot_offline_at_ms(snapshot, 0) == 0);
    CHECK(discover_snapshot_offline_reason(NULL, 0) == 0);
    CHECK(discover_snapshot_offline_reason(snapshot, 0) == 0);
    CHECK(discover_snapshot_leader(NULL) == NULL);
    CHECK(discover_snapshot_version(NULL) == 0);
    CHECK(discover_snapshot_revision(NULL) == 0);
    CHECK(discover_snapshot_epoch(NULL) == 0);
    CHECK(discover_snapshot_invalid_count(NULL) == 0);
    CHECK(!discover_snapshot_is_ready(NULL));
    CHECK(!discover_snapshot_is_current(NULL));
    CHECK(discover_snapshot_take_fault(NULL) == NULL);
    CHECK(discover_snapshot_take_fault(snapshot) == NULL);
    CHECK(discover_snapshot_fault_since_ms(NULL) == 0);
    discover_snapshot_free(NULL);
}

static void instances(void) {
    const discover_instance *web = discover_snapshot_online(snapshot, 0);

    CHECK(discover_instance_service(NULL) == NULL);
    CHECK(discover_instance_id(NULL) == NULL);
    CHECK(discover_instance_host(NULL) == NULL);
    CHECK(discover_instance_port(NULL) == 0);
    CHECK(discover_instance_address(NULL) == NULL);
    CHECK(discover_instance_attribute(NULL, "zone") == NULL);
    CHECK(discover_instance_attribute(web, NULL) == NULL);
    CHECK(discover_instance_attribute(web, MALFORMED) == NULL);
    CHECK(discover_instance_attribute_count(NULL) == 0);
    CHECK(discover_instance_attribute_name(NULL, 0) == NULL);
    CHECK(discover_instance_attribute_name(web, 0) == NULL);
    CHECK(discover_instance_attribute_value(NULL, 0) == NULL);
    CHECK(discover_instance_attribute_value(web, 0) == NULL);
    CHECK(discover_instance_tag_count(NULL) == 0);
    CHECK(discover_instance_tag(NULL, 0) == NULL);
    CHECK(discover_instance_tag(web, 0) == NULL);
    CHECK(discover_instance_created(NULL) == 0);
    CHECK(discover_instance_weight(NULL) == 0);
    CHECK(!discover_instance_is_suspect(NULL));
    CHECK(discover_instance_zone(NULL) == NULL);
    CHECK(discover_instance_clone(NULL) == NULL);
    discover_instance_free(NULL);
}

static void events_feeds_errors_and_log(void) {
    CHECK(discover_event_kind(NULL) == 0);
    CHECK(discover_event_instance(NULL) == NULL);
    CHECK(discover_event_error(NULL) == NULL);
    CHECK(discover_feed_fd(NULL) == -1);
    REJECTED("feed is NULL", discover_feed_drain(NULL, observer_on_event, NULL, &error));
    REJECTED("on_event is NULL", discover_feed_drain(feed, NULL, NULL, &error));
    discover_feed_cancel(NULL);
    CHECK(discover_error_status(NULL) == DISCOVER_OK);
    SAME_TEXT(discover_error_message(NULL), "");
    CHECK(!discover_error_is_retriable(NULL));
    discover_error_free(NULL);
    REJECTED("level 0 is not one of DISCOVER_LEVEL_...", discover_log_set(0, NULL, NULL, NULL, &error));
    REJECTED("level 6 is not one of DISCOVER_LEVEL_...", discover_log_set(6, NULL, NULL, NULL, &error));
}

/* Unknown numbers, for example from a newer library, are named "unknown". */
static void unknown_numbers(void) {
    for (int32_t number = -1; number <= 1000; number += 1001) {
        SAME_TEXT(discover_status_name(number), "unknown");
        CHECK(!discover_status_is_retriable(number));
        SAME_TEXT(discover_event_kind_name(number), "unknown");
        SAME_TEXT(discover_standing_name(number), "unknown");
        SAME_TEXT(discover_state_name(number), "unknown");
        SAME_TEXT(discover_connection_name(number), "unknown");
        SAME_TEXT(discover_offline_reason_name(number), "unknown");
        SAME_TEXT(discover_level_name(number), "unknown");
    }
    SAME_TEXT(discover_status_name(DISCOVER_OK), "ok");
    SAME_TEXT(discover_status_name(INT32_MIN), "unknown");
}

int main(int argc, char **argv) {
    client = open_client(test_url(argc, argv));
    registration = new_registration("web", 7001);
    OK(discover_client_register(client, registration, TIMEOUT_MS, &lease, NULL));
    set = open_set(client, "web");
    OK(discover_set_feed(set, &feed, NULL));
    snapshot = await_online(set, 1);

    clients();
    registrations();
    leases();
    sets();
    snapshots();
    instances();
    events_feeds_errors_and_log();
    unknown_numbers();
    /* The error is optional. */
    CHECK(discover_client_services(NULL, NULL, NULL, NULL) == DISCOVER_ERR_INVALID_ARGUMENT);

    discover_snapshot_free(snapshot);
    discover_feed_cancel(feed);
    discover_set_release(set);
    discover_lease_release(lease);
    discover_registration_free(registration);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
