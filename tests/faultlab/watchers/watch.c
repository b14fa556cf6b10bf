/* The program under test of the fault lab in C; see README.md beside it. */
#include <discover.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_SERVICES 4
#define MAX_LEASES 16

struct watched {
    const char *service;
    discover_set *set;
    discover_feed *feed;
    uint64_t version;
};

struct registered {
    discover_lease *lease;
    int32_t standing;
};

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') printf("\\%c", byte);
        else if (byte < 0x20) printf("\\u%04x", byte);
        else putchar(byte);
    }
    putchar('"');
}

static void print_error(const char *kind, discover_error *error) {
    printf("{\"kind\":\"%s\",\"text\":", kind);
    print_text(discover_error_message(error));
    puts("}");
    discover_error_free(error);
}

/* Takes the address of the error: the order in which arguments are evaluated is unspecified. */
static void check(discover_status status, discover_error **error) {
    if (status == DISCOVER_OK) return;
    print_error("error", *error);
    exit(1);
}

static void print_event(const discover_event *event, void *user_data) {
    const struct watched *watched = user_data;
    const discover_instance *instance = discover_event_instance(event);
    int32_t kind = discover_event_kind(event);

    if (kind != DISCOVER_EVENT_UP && kind != DISCOVER_EVENT_UPDATE && kind != DISCOVER_EVENT_DOWN) return;
    printf("{\"kind\":\"event\",\"t\":%lld,\"service\":\"%s\",\"event\":\"%s\",\"id\":", now(),
           watched->service, discover_event_kind_name(kind));
    print_text(discover_instance_id(instance));
    printf(",\"created\":%llu}\n", (unsigned long long)discover_instance_created(instance));
}

static void print_instance(const discover_instance *instance) {
    size_t count = discover_instance_attribute_count(instance);

    print_text(discover_instance_id(instance));
    printf(":{\"created\":%llu,\"suspect\":%s,\"attributes\":{",
           (unsigned long long)discover_instance_created(instance),
           discover_instance_is_suspect(instance) ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) putchar(',');
        print_text(discover_instance_attribute_name(instance, i));
        putchar(':');
        print_text(discover_instance_attribute_value(instance, i));
    }
    printf("}}");
}

static const char *state_of(const discover_snapshot *snapshot) {
    if (!discover_snapshot_is_ready(snapshot)) return "pending";
    return discover_snapshot_is_current(snapshot) ? "current" : "stale";
}

static void print_set(struct watched *watched) {
    discover_snapshot *snapshot = discover_set_take_snapshot(watched->set);
    size_t count = discover_snapshot_online_count(snapshot);

    if (discover_snapshot_version(snapshot) != watched->version) {
        watched->version = discover_snapshot_version(snapshot);
        printf("{\"kind\":\"snapshot\",\"t\":%lld,\"service\":\"%s\",\"state\":\"%s\",\"revision\":%llu,\"set\":{",
               now(), watched->service, state_of(snapshot),
               (unsigned long long)discover_snapshot_revision(snapshot));
        for (size_t i = 0; i < count; i++) {
            if (i > 0) putchar(',');
            print_instance(discover_snapshot_online(snapshot, i));
        }
        puts("}}");
    }
    discover_snapshot_free(snapshot);
}

static void report(struct watched *watched, size_t services, struct registered *registered, size_t leases) {
    for (size_t i = 0; i < services; i++) {
        discover_feed_drain(watched[i].feed, print_event, &watched[i], NULL);
        print_set(&watched[i]);
    }
    for (size_t i = 0; i < leases; i++) {
        int32_t standing = discover_lease_standing(registered[i].lease, NULL);
        if (standing == registered[i].standing) continue;
        registered[i].standing = standing;
        printf("{\"kind\":\"standing\",\"t\":%lld,\"id\":\"%s\",\"standing\":\"%s\"}\n", now(),
               discover_lease_id(registered[i].lease), discover_standing_name(standing));
    }
    fflush(stdout);
}

static void print_metrics(const discover_client *client) {
    uint64_t value;

    printf("{\"kind\":\"metrics\",\"values\":{");
    for (size_t i = 0; i < discover_metric_count(); i++) {
        const char *name = discover_metric_name(i);
        if (discover_client_metric(client, name, &value, NULL) != DISCOVER_OK) value = 0;
        printf("%s\"%s\":%llu", i > 0 ? "," : "", name, (unsigned long long)value);
    }
    puts("}}");
}

static discover_lease *register_at(discover_client *client, const char *host, int port) {
    discover_registration *registration;
    discover_lease *lease;
    discover_error *error;

    check(discover_registration_new("members", port, &registration, &error), &error);
    check(discover_registration_set_host(registration, host, &error), &error);
    check(discover_registration_set_attribute(registration, "language", "c", &error), &error);
    check(discover_client_register(client, registration, DISCOVER_NO_TIMEOUT, &lease, &error), &error);
    discover_registration_free(registration);
    return lease;
}

int main(int argc, char **argv) {
    struct watched watched[MAX_SERVICES];
    struct registered registered[MAX_LEASES];
    struct pollfd input = {0, POLLIN, 0};
    discover_client *client;
    discover_error *error;
    size_t services = 0, leases = 0;

    if (argc < 7 || argc - 6 > MAX_SERVICES || atoi(argv[4]) > MAX_LEASES) return 2;
    check(discover_client_open(argv[1], &client, &error), &error);
    for (; leases < (size_t)atoi(argv[4]); leases++) {
        registered[leases].lease = register_at(client, argv[2], atoi(argv[3]) + (int)leases);
        registered[leases].standing = 0;
    }
    for (; services < (size_t)argc - 6; services++) {
        struct watched *one = &watched[services];
        one->service = argv[6 + services];
        one->version = UINT64_MAX;
        check(discover_client_services(client, one->service, &one->set, &error), &error);
        check(discover_set_feed(one->set, &one->feed, &error), &error);
    }
    printf("{\"kind\":\"ready\",\"t\":%lld}\n", now());

    /* Reads at an interval, so that a busy store does not make a busy program. */
    while (poll(&input, 1, atoi(argv[5])) == 0) report(watched, services, registered, leases);
    report(watched, services, registered, leases);
    print_metrics(client);
    for (size_t i = 0; i < services; i++) {
        discover_feed_cancel(watched[i].feed);
        discover_set_release(watched[i].set);
    }
    if (discover_client_close(client, 8000, &error) != DISCOVER_OK) print_error("left", error);
    for (size_t i = 0; i < leases; i++) discover_lease_release(registered[i].lease);
    return 0;
}
