/* Support of the generated program every_function.c: a valid argument for every parameter, and checks of
 * results. Everything runs inside the callback of a drain, where an event is available. */
#ifndef EVERY_FUNCTION_FIXTURE_H
#define EVERY_FUNCTION_FIXTURE_H

#include "harness.h"

#define MALFORMED "caf\xe9"
#define JUNK ((void *)&junk)

static int junk;
static const char *function, *case_label;

/* One valid object of each type, named like the parameters. */
static discover_client *client;
static discover_registration *registration;
static discover_lease *lease;
static discover_set *set;
static discover_feed *feed;
static discover_snapshot *snapshot;
static const discover_instance *instance;
static const discover_event *event;
static discover_error *failure;
static discover_scalingo_host *scalingo_host;
static discover_scalingo_service *scalingo_service;
static discover_descriptor *descriptor;
static discover_descriptors *descriptors;
static const char *const names[] = {"zone"}, *const values[] = {"eu"}, *const tags[] = {"blue"};
static const char *const malformed_names[] = {MALFORMED}, *const null_names[] = {NULL};

/* Counts the calls of destroy: one for each subscription or log callback. */
static struct observer observer = NEW_OBSERVER;

/* Begins a case: prints its name and keeps it for failure messages. */
static inline void begin(const char *name, const char *label) {
    function = name;
    case_label = label;
    printf("%s: %s\n", name, label);
    fflush(stdout);
    observer.destroyed = 0;
}

static inline void require(int holds, const char *failure_text) {
    if (holds) return;
    fprintf(stderr, "%s, %s: %s\n", function, case_label, failure_text);
    exit(1);
}

static inline void check_status_is(discover_status got, discover_status wanted) {
    if (got == wanted) return;
    fprintf(stderr, "%s, %s: %s, not %s\n", function, case_label, discover_status_name(got),
            discover_status_name(wanted));
    exit(1);
}

static inline void check_text_is(const char *got, const char *wanted) {
    require(got != NULL && strcmp(got, wanted) == 0, "unexpected text");
}

/* Checks the status and the message of the error of a failed call, and releases it. */
static inline void check_error(discover_error *error, discover_status status, const char *words) {
    require(error != NULL && error != JUNK, "no error object");
    check_status_is(discover_error_status(error), status);
    if (strstr(discover_error_message(error), words) == NULL) {
        fprintf(stderr, "%s, %s: %s\n", function, case_label, discover_error_message(error));
        exit(1);
    }
    discover_error_free(error);
}

static inline void on_record(int32_t level, const char *target, const char *text, void *user_data) {
    (void)level, (void)target, (void)text, (void)user_data;
}

static inline void on_event(const discover_event *received, void *user_data) {
    (void)received, (void)user_data;
}

static inline void on_state(int32_t state, const discover_error *reason, void *user_data) {
    (void)state, (void)reason, (void)user_data;
}

static inline void destroy(void *user_data) {
    (void)user_data;
    observer_on_destroy(&observer);
}

/* A client for a function that closes it. */
static inline discover_client *fresh_client(void) {
    return open_client("memory://every-function");
}

static discover_lease *keeper, *spare_lease;
static discover_set *spare_set;
static discover_feed *spare_feed;
static discover_subscription *spare_subscription;

/* Objects for functions that release them: new ones while the client is open, spare ones afterwards. */
static inline discover_registration *fresh_registration(void) {
    return new_registration("other", 7009);
}

static inline discover_lease *fresh_lease(void) {
    return client ? register_instance(client, fresh_registration()) : spare_lease;
}

static inline discover_set *fresh_set(void) {
    return client ? open_set(client, "web") : spare_set;
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

static inline discover_scalingo_host *fresh_scalingo_host(void) {
    return discover_scalingo_host_from_instance(instance);
}

static inline discover_scalingo_service *fresh_scalingo_service(void) {
    return discover_scalingo_service_from_set(set);
}

static inline char *fresh_string(void) {
    char *fresh;
    OK(discover_scalingo_host_url(scalingo_host, "", "/", &fresh, NULL));
    return fresh;
}

static inline discover_descriptor *fresh_descriptor(void) {
    discover_descriptor *fresh;
    OK(discover_descriptor_parse("/open_set/web[blue];80/udp", &fresh, NULL));
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

/* Objects that a successful call returned are released by the function that the header names. */
#define RELEASE(noun, call)                                            \
    static inline void release_##noun(discover_##noun *out) {          \
        require(out != NULL && out != JUNK, "no object was created");              \
        call;                                                          \
    }
RELEASE(client, OK(discover_client_close(out, TIMEOUT_MS, NULL)))
RELEASE(registration, discover_registration_free(out))
RELEASE(lease, discover_lease_release(out))
RELEASE(set, discover_set_release(out))
RELEASE(feed, discover_feed_cancel(out))
RELEASE(subscription, discover_subscription_cancel(out))
RELEASE(snapshot, discover_snapshot_free(out))
RELEASE(instance, discover_instance_free(out))
RELEASE(scalingo_host, discover_scalingo_host_free(out))
RELEASE(scalingo_service, discover_scalingo_service_free(out))
RELEASE(descriptor, discover_descriptor_free(out))
RELEASE(descriptors, discover_descriptors_free(out))

static inline void release_string(char *out) {
    require(out != NULL && out != JUNK, "no object was created");
    discover_string_free(out);
}

/* Removes the log callback, so that its destroy function is called. */
static inline void unset_log(void) {
    OK(discover_log_set(DISCOVER_LEVEL_ERROR, NULL, NULL, NULL, NULL));
}

/* A service with an instance online and one that went offline. */
static inline void prepare(void) {
    discover_registration *web = new_registration("web", 7001);
    discover_lease *leaving;
    struct observer events = NEW_OBSERVER;
    discover_subscription *subscription;

    client = open_client("memory://every-function");
    registration = new_registration("other", 7009);
    OK(discover_registration_set_attribute(web, "zone", "eu", NULL));
    OK(discover_registration_add_tag(web, "blue", NULL));
    keeper = register_instance(client, web);
    lease = register_instance(client, new_registration("other-lease", 7003));
    set = open_set(client, "web");
    subscription = subscribe(set, &events);
    leaving = register_instance(client, new_registration("web", 7002));
    await_events(&events, "up 127.0.0.1:7002\n");
    discover_lease_release(leaving);
    await_events(&events, "down 127.0.0.1:7002\n");
    discover_subscription_cancel(subscription);
    await_destroyed(&events);

    OK(discover_set_feed(set, &feed, NULL));
    snapshot = discover_set_take_snapshot(set);
    instance = discover_snapshot_online(snapshot, 0);
    failure = fresh_error();
    scalingo_host = fresh_scalingo_host();
    scalingo_service = fresh_scalingo_service();
    descriptor = fresh_descriptor();
    descriptors = fresh_descriptors();
}

static inline void close_the_client(void) {
    spare_lease = fresh_lease();
    spare_set = fresh_set();
    spare_feed = fresh_feed();
    spare_subscription = fresh_subscription();
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    client = NULL;
}

static inline void release_everything(void) {
    discover_error_free(failure);
    discover_scalingo_host_free(scalingo_host);
    discover_scalingo_service_free(scalingo_service);
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
