/* NULL and what is not UTF-8, wherever a pointer can be given: an answer, and nothing left behind. */
#include "check.h"

#define BAD "caf\xe9"
#define JUNK ((void *)&junk)

static int junk;
static discover_error *error;

/* A call that writes its error into `error` is refused with exactly this text. */
#define REFUSED(text, call)                                                         \
    do {                                                                            \
        error = JUNK;                                                               \
        check_status(call, DISCOVER_ERR_INVALID_ARGUMENT, #call, __FILE__, __LINE__); \
        CHECK(error != JUNK);                                                       \
        SAME(discover_error_message(error), text);                                  \
        discover_error_free(error);                                                 \
    } while (0)

/* The same for a call that would make something. */
#define REFUSED_OUT(text, out, call) \
    do {                             \
        out = JUNK;                  \
        REFUSED(text, call);         \
        CHECK(out == NULL);          \
    } while (0)

static discover_client *client;
static discover_registration *registration;
static discover_lease *lease;
static discover_set *set;
static discover_feed *feed;
static discover_snapshot *snapshot;

static const char *const good[] = {"zone", "version"};
static const char *const half[] = {"zone", NULL};
static const char *const bad[] = {BAD, "version"};

static void numbers(void) {
    uint64_t value = 7;

    REFUSED("client is NULL", discover_client_metric(NULL, "relists", &value, &error));
    CHECK(value == 0);
    REFUSED("name is NULL", discover_client_metric(client, NULL, &value, &error));
    REFUSED("name is not UTF-8 at byte 3", discover_client_metric(client, BAD, &value, &error));
    REFUSED("no metric is called \"luck\"", discover_client_metric(client, "luck", &value, &error));
    REFUSED("value is NULL", discover_client_metric(client, "relists", NULL, &error));
    CHECK(discover_metric_name(discover_metric_count()) == NULL);
}

static void ignore(int32_t state, const discover_error *reason, void *user_data) {
    (void)state, (void)reason, (void)user_data;
}

static void listeners(void) {
    discover_subscription *u;
    discover_error *reason = JUNK;

    CHECK(discover_client_connection(NULL, NULL) == 0);
    CHECK(discover_client_connection(NULL, &reason) == 0);
    SAME(discover_error_message(reason), "client is NULL");
    discover_error_free(reason);
    REFUSED_OUT("client is NULL", u, discover_client_on_connection(NULL, ignore, NULL, NULL, &u, &error));
    REFUSED_OUT("on_state is NULL", u, discover_client_on_connection(client, NULL, NULL, NULL, &u, &error));
    REFUSED("out is NULL", discover_client_on_connection(client, ignore, NULL, NULL, NULL, &error));
    REFUSED_OUT("lease is NULL", u, discover_lease_on_standing(NULL, ignore, NULL, NULL, &u, &error));
    REFUSED_OUT("on_state is NULL", u, discover_lease_on_standing(lease, NULL, NULL, NULL, &u, &error));
    REFUSED("out is NULL", discover_lease_on_standing(lease, ignore, NULL, NULL, NULL, &error));
}

static void clients(void) {
    discover_client *c;
    discover_lease *l;
    discover_set *s;

    REFUSED_OUT("url is not UTF-8 at byte 3", c, discover_client_open(BAD, &c, &error));
    REFUSED("out is NULL", discover_client_open("memory://m", NULL, &error));
    REFUSED_OUT("client is NULL", l, discover_client_register(NULL, registration, 0, &l, &error));
    REFUSED_OUT("registration is NULL", l, discover_client_register(client, NULL, 0, &l, &error));
    REFUSED("out is NULL", discover_client_register(client, registration, 0, NULL, &error));
    REFUSED_OUT("client is NULL", s, discover_client_services(NULL, "web", &s, &error));
    REFUSED_OUT("service is NULL", s, discover_client_services(client, NULL, &s, &error));
    REFUSED_OUT("service is not UTF-8 at byte 3", s, discover_client_services(client, BAD, &s, &error));
    REFUSED("out is NULL", discover_client_services(client, "web", NULL, &error));
    CHECK(discover_client_url(NULL) == NULL);
    numbers();
    listeners();
    OK(discover_client_close(NULL, 0, NULL));
}

static void registrations(void) {
    discover_registration *r;

    REFUSED_OUT("service is NULL", r, discover_registration_new(NULL, 80, &r, &error));
    REFUSED_OUT("service is not UTF-8 at byte 3", r, discover_registration_new(BAD, 80, &r, &error));
    REFUSED_OUT("port 0 is not in 1 to 65535", r, discover_registration_new("web", 0, &r, &error));
    REFUSED_OUT("port 65536 is not in 1 to 65535", r, discover_registration_new("web", 65536, &r, &error));
    REFUSED_OUT("port -1 is not in 1 to 65535", r, discover_registration_new("web", -1, &r, &error));
    REFUSED("out is NULL", discover_registration_new("web", 80, NULL, &error));
    REFUSED("registration is NULL", discover_registration_set_host(NULL, "h", &error));
    REFUSED("host is NULL", discover_registration_set_host(registration, NULL, &error));
    REFUSED("host is not UTF-8 at byte 3", discover_registration_set_host(registration, BAD, &error));
    REFUSED("registration is NULL", discover_registration_set_id(NULL, "i", &error));
    REFUSED("id is NULL", discover_registration_set_id(registration, NULL, &error));
    REFUSED("id is not UTF-8 at byte 3", discover_registration_set_id(registration, BAD, &error));
    REFUSED("registration is NULL", discover_registration_set_attribute(NULL, "n", "v", &error));
    REFUSED("name is NULL", discover_registration_set_attribute(registration, NULL, "v", &error));
    REFUSED("value is NULL", discover_registration_set_attribute(registration, "n", NULL, &error));
    REFUSED("name is not UTF-8 at byte 3", discover_registration_set_attribute(registration, BAD, "v", &error));
    REFUSED("value is not UTF-8 at byte 3", discover_registration_set_attribute(registration, "n", BAD, &error));
    REFUSED("registration is NULL", discover_registration_add_tag(NULL, "t", &error));
    REFUSED("tag is NULL", discover_registration_add_tag(registration, NULL, &error));
    REFUSED("tag is not UTF-8 at byte 3", discover_registration_add_tag(registration, BAD, &error));
    REFUSED("registration is NULL", discover_registration_set_ttl_ms(NULL, 1000, &error));
    REFUSED("ttl is 999ms; it must be 1s to 24h", discover_registration_set_ttl_ms(registration, 999, &error));
    REFUSED("registration is NULL", discover_registration_set_heartbeat_manual(NULL, &error));
    discover_registration_free(NULL);
}

static void leases(void) {
    discover_error *reason = JUNK;

    REFUSED("lease is NULL", discover_lease_heartbeat(NULL, 0, &error));
    REFUSED("lease is NULL", discover_lease_update(NULL, good, good, 2, 0, &error));
    REFUSED("names is NULL", discover_lease_update(lease, NULL, good, 2, 0, &error));
    REFUSED("values is NULL", discover_lease_update(lease, good, NULL, 2, 0, &error));
    REFUSED("names[1] is NULL", discover_lease_update(lease, half, good, 2, 0, &error));
    REFUSED("values[0] is not UTF-8 at byte 3", discover_lease_update(lease, good, bad, 2, 0, &error));
    REFUSED("lease is NULL", discover_lease_unregister(NULL, 0, &error));
    CHECK(discover_lease_service(NULL) == NULL);
    CHECK(discover_lease_id(NULL) == NULL);
    CHECK(discover_lease_address(NULL) == NULL);
    CHECK(discover_lease_standing(NULL, NULL) == 0);
    CHECK(discover_lease_standing(NULL, &reason) == 0);
    SAME(discover_error_message(reason), "lease is NULL");
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

    REFUSED_OUT("set is NULL", s, discover_set_filter(NULL, good, good, 2, NULL, 0, &s, &error));
    REFUSED_OUT("names is NULL", s, discover_set_filter(set, NULL, good, 2, NULL, 0, &s, &error));
    REFUSED_OUT("values[1] is NULL", s, discover_set_filter(set, good, half, 2, NULL, 0, &s, &error));
    REFUSED_OUT("tags is NULL", s, discover_set_filter(set, NULL, NULL, 0, NULL, 1, &s, &error));
    REFUSED_OUT("tags[0] is not UTF-8 at byte 3", s,
                discover_set_filter(set, NULL, NULL, 0, bad, 1, &s, &error));
    REFUSED("out is NULL", discover_set_filter(set, NULL, NULL, 0, NULL, 0, NULL, &error));
    REFUSED_OUT("set is NULL", n, discover_set_wait(NULL, 0, 0, &n, &error));
    REFUSED("out is NULL", discover_set_wait(set, 0, 0, NULL, &error));
    REFUSED_OUT("set is NULL", i, discover_set_pick(NULL, "random", NULL, &i, &error));
    REFUSED_OUT("policy is NULL", i, discover_set_pick(set, NULL, NULL, &i, &error));
    REFUSED_OUT("policy is not UTF-8 at byte 3", i, discover_set_pick(set, BAD, NULL, &i, &error));
    REFUSED_OUT("key is not UTF-8 at byte 3", i, discover_set_pick(set, "hash", BAD, &i, &error));
    REFUSED_OUT("policy hash needs a key", i, discover_set_pick(set, "hash", NULL, &i, &error));
    REFUSED_OUT("policy random takes no key", i, discover_set_pick(set, "random", "k", &i, &error));
    REFUSED("out is NULL", discover_set_pick(set, "random", NULL, NULL, &error));
    REFUSED_OUT("set is NULL", u, discover_set_subscribe(NULL, ear_hear, NULL, NULL, &u, &error));
    REFUSED_OUT("on_event is NULL", u, discover_set_subscribe(set, NULL, NULL, NULL, &u, &error));
    REFUSED("out is NULL", discover_set_subscribe(set, ear_hear, NULL, NULL, NULL, &error));
    REFUSED_OUT("set is NULL", f, discover_set_feed(NULL, &f, &error));
    REFUSED("out is NULL", discover_set_feed(set, NULL, &error));
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
    CHECK(discover_snapshot_offline_since_ms(NULL, 0) == 0);
    CHECK(discover_snapshot_offline_since_ms(snapshot, 0) == 0);
    CHECK(discover_snapshot_offline_departure(NULL, 0) == 0);
    CHECK(discover_snapshot_offline_departure(snapshot, 0) == 0);
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
    CHECK(discover_instance_attribute(web, BAD) == NULL);
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

static void the_rest(void) {
    CHECK(discover_event_kind(NULL) == 0);
    CHECK(discover_event_instance(NULL) == NULL);
    CHECK(discover_event_error(NULL) == NULL);
    CHECK(discover_feed_fd(NULL) == -1);
    REFUSED("feed is NULL", discover_feed_drain(NULL, ear_hear, NULL, &error));
    REFUSED("on_event is NULL", discover_feed_drain(feed, NULL, NULL, &error));
    discover_feed_cancel(NULL);
    CHECK(discover_error_status(NULL) == DISCOVER_OK);
    SAME(discover_error_message(NULL), "");
    CHECK(!discover_error_is_retriable(NULL));
    discover_error_free(NULL);
    REFUSED("level 0 is none of DISCOVER_LEVEL_...", discover_log_set(0, NULL, NULL, NULL, &error));
    REFUSED("level 6 is none of DISCOVER_LEVEL_...", discover_log_set(6, NULL, NULL, NULL, &error));
}

/* A number from a newer library has a name too, if only one. */
static void numbers_that_nobody_knows(void) {
    for (int32_t number = -1; number <= 1000; number += 1001) {
        SAME(discover_status_name(number), "unknown");
        CHECK(!discover_status_is_retriable(number));
        SAME(discover_event_kind_name(number), "unknown");
        SAME(discover_standing_name(number), "unknown");
        SAME(discover_state_name(number), "unknown");
        SAME(discover_connection_name(number), "unknown");
        SAME(discover_departure_name(number), "unknown");
        SAME(discover_level_name(number), "unknown");
    }
    SAME(discover_status_name(DISCOVER_OK), "ok");
    SAME(discover_status_name(INT32_MIN), "unknown");
}

int main(int argc, char **argv) {
    client = open_client(url_of(argc, argv));
    registration = describe("web", 7001);
    OK(discover_client_register(client, registration, PATIENCE_MS, &lease, NULL));
    set = services(client, "web");
    OK(discover_set_feed(set, &feed, NULL));
    snapshot = await_online(set, 1);

    clients();
    registrations();
    leases();
    sets();
    snapshots();
    instances();
    the_rest();
    numbers_that_nobody_knows();
    /* The error is optional. */
    CHECK(discover_client_services(NULL, NULL, NULL, NULL) == DISCOVER_ERR_INVALID_ARGUMENT);

    discover_snapshot_free(snapshot);
    discover_feed_cancel(feed);
    discover_set_release(set);
    discover_lease_release(lease);
    discover_registration_free(registration);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    return 0;
}
