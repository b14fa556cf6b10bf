/* What the generated part of every_function.c stands on: something good for every parameter, and what to
 * say of an answer. All of it runs inside the callback of a drain, where there is an event to ask. */
#ifndef EVERY_FUNCTION_H
#define EVERY_FUNCTION_H

#include "check.h"

#define BAD "caf\xe9"
#define JUNK ((void *)&junk)

static int junk;
static const char *function, *trial;

/* One good thing of each kind, named as parameters are. */
static discover_client *client;
static discover_registration *registration;
static discover_lease *lease;
static discover_set *set;
static discover_feed *feed;
static discover_snapshot *snapshot;
static const discover_instance *instance;
static const discover_event *event;
static discover_error *failure;
static discover_host *host;
static discover_service *service;
static discover_descriptor *descriptor;
static discover_descriptors *descriptors;
static const char *const names[] = {"zone"}, *const values[] = {"eu"}, *const tags[] = {"blue"};
static const char *const bad_names[] = {BAD}, *const no_names[] = {NULL};

/* Whose destroy is to be called once for each subscription or log. */
static struct ear ear = NEW_EAR;

/* Says which case follows, for whoever reads along and for a failure. */
static inline void begin(const char *name, const char *what) {
    function = name;
    trial = what;
    printf("%s: %s\n", name, what);
    fflush(stdout);
    ear.destroyed = 0;
}

static inline void must(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "%s, %s: %s\n", function, trial, what);
    exit(1);
}

static inline void answered(discover_status got, discover_status wanted) {
    if (got == wanted) return;
    fprintf(stderr, "%s, %s: %s, not %s\n", function, trial, discover_status_name(got),
            discover_status_name(wanted));
    exit(1);
}

static inline void is_text(const char *got, const char *wanted) {
    must(got != NULL && strcmp(got, wanted) == 0, "another text");
}

/* The error that a failed call leaves: its status, and its words. */
static inline void told(discover_error *error, discover_status status, const char *words) {
    must(error != NULL && error != JUNK, "no error object");
    answered(discover_error_status(error), status);
    if (strstr(discover_error_message(error), words) == NULL) {
        fprintf(stderr, "%s, %s: %s\n", function, trial, discover_error_message(error));
        exit(1);
    }
    discover_error_free(error);
}

static inline void on_record(int32_t level, const char *target, const char *text, void *user_data) {
    (void)level, (void)target, (void)text, (void)user_data;
}

static inline void on_event(const discover_event *heard, void *user_data) {
    (void)heard, (void)user_data;
}

static inline void on_state(int32_t state, const discover_error *reason, void *user_data) {
    (void)state, (void)reason, (void)user_data;
}

static inline void destroy(void *user_data) {
    (void)user_data;
    ear_destroy(&ear);
}

/* A client to be closed. */
static inline discover_client *fresh_client(void) {
    return open_client("memory://every-function");
}

static discover_lease *keeper, *spare_lease;
static discover_set *spare_set;
static discover_feed *spare_feed;
static discover_subscription *spare_subscription;

/* Others to be released: new ones while the client is open, and then the one that was put by. */
static inline discover_registration *fresh_registration(void) {
    return describe("other", 7009);
}

static inline discover_lease *fresh_lease(void) {
    return client ? enter(client, fresh_registration()) : spare_lease;
}

static inline discover_set *fresh_set(void) {
    return client ? services(client, "web") : spare_set;
}

static inline discover_feed *fresh_feed(void) {
    discover_feed *fresh = spare_feed;
    if (client) OK(discover_set_feed(set, &fresh, NULL));
    return fresh;
}

static inline discover_subscription *fresh_subscription(void) {
    discover_subscription *fresh = spare_subscription;
    if (client) OK(discover_set_subscribe(set, on_event, NULL, NULL, &fresh, NULL));
    return fresh;
}

static inline discover_snapshot *fresh_snapshot(void) {
    return discover_set_take_snapshot(set);
}

static inline discover_instance *fresh_instance(void) {
    return discover_instance_clone(instance);
}

static inline discover_host *fresh_host(void) {
    return discover_host_of(instance);
}

static inline discover_service *fresh_service(void) {
    return discover_set_hosts(set);
}

static inline char *fresh_string(void) {
    char *fresh;
    OK(discover_host_url(host, "", "/", &fresh, NULL));
    return fresh;
}

static inline discover_descriptor *fresh_descriptor(void) {
    discover_descriptor *fresh;
    OK(discover_descriptor_parse("/services/web[blue];80/udp", &fresh, NULL));
    return fresh;
}

static inline discover_descriptors *fresh_descriptors(void) {
    const char *const variable[] = {"BACKEND_WEB"}, *const text[] = {"web;80"};
    discover_descriptors *fresh;
    OK(discover_descriptors_from_pairs("BACKEND_", variable, text, 1, &fresh, NULL));
    return fresh;
}

static inline discover_error *fresh_error(void) {
    discover_error *fresh;
    discover_client *none;
    CHECK(discover_client_open("nonsense", &none, &fresh) != DISCOVER_OK);
    return fresh;
}

/* What came out of a call that worked is given back by the function that the header names. */
#define RELEASE(noun, call)                                            \
    static inline void release_##noun(discover_##noun *out) {          \
        must(out != NULL && out != JUNK, "made nothing");              \
        call;                                                          \
    }
RELEASE(client, OK(discover_client_close(out, PATIENCE_MS, NULL)))
RELEASE(registration, discover_registration_free(out))
RELEASE(lease, discover_lease_release(out))
RELEASE(set, discover_set_release(out))
RELEASE(feed, discover_feed_cancel(out))
RELEASE(subscription, discover_subscription_cancel(out))
RELEASE(snapshot, discover_snapshot_free(out))
RELEASE(instance, discover_instance_free(out))
RELEASE(host, discover_host_free(out))
RELEASE(service, discover_service_free(out))
RELEASE(descriptor, discover_descriptor_free(out))
RELEASE(descriptors, discover_descriptors_free(out))

static inline void release_string(char *out) {
    must(out != NULL && out != JUNK, "made nothing");
    discover_string_free(out);
}

/* Nobody is told anything any more, so that the last function of the log is let go of. */
static inline void forget_log(void) {
    OK(discover_log_set(DISCOVER_LEVEL_ERROR, NULL, NULL, NULL, NULL));
}

/* A service with an instance that is there and one that has gone. */
static inline void prepare(void) {
    discover_registration *web = describe("web", 7001);
    discover_lease *gone;
    struct ear news = NEW_EAR;
    discover_subscription *subscription;

    client = open_client("memory://every-function");
    registration = describe("other", 7009);
    OK(discover_registration_set_attribute(web, "zone", "eu", NULL));
    OK(discover_registration_add_tag(web, "blue", NULL));
    keeper = enter(client, web);
    lease = enter(client, describe("kept", 7003));
    set = services(client, "web");
    subscription = subscribe(set, &news);
    gone = enter(client, describe("web", 7002));
    await_heard(&news, "up 127.0.0.1:7002\n");
    discover_lease_release(gone);
    await_heard(&news, "down 127.0.0.1:7002\n");
    discover_subscription_cancel(subscription);
    await_destroyed(&news);

    OK(discover_set_feed(set, &feed, NULL));
    snapshot = discover_set_take_snapshot(set);
    instance = discover_snapshot_online(snapshot, 0);
    failure = fresh_error();
    host = fresh_host();
    service = fresh_service();
    descriptor = fresh_descriptor();
    descriptors = fresh_descriptors();
}

static inline void close_the_client(void) {
    spare_lease = fresh_lease();
    spare_set = fresh_set();
    spare_feed = fresh_feed();
    spare_subscription = fresh_subscription();
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    client = NULL;
}

static inline void give_everything_back(void) {
    discover_error_free(failure);
    discover_host_free(host);
    discover_service_free(service);
    discover_descriptor_free(descriptor);
    discover_descriptors_free(descriptors);
    discover_snapshot_free(snapshot);
    discover_feed_cancel(feed);
    discover_set_release(set);
    discover_lease_release(keeper);
    discover_lease_release(lease);
    discover_registration_free(registration);
}

#endif
