/* Watches and registers while the lab breaks things, in C; see README.md beside it. */
#include <discover.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_SERVICES 4
#define MOST_LEASES 16

struct followed {
    const char *service;
    discover_set *set;
    discover_feed *feed;
    uint64_t version;
};

struct held {
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

static void tell_error(const char *kind, discover_error *error) {
    printf("{\"kind\":\"%s\",\"text\":", kind);
    print_text(discover_error_message(error));
    puts("}");
    discover_error_free(error);
}

static void check(discover_status status, discover_error *error) {
    if (status == DISCOVER_OK) return;
    tell_error("error", error);
    exit(1);
}

static void tell_event(const discover_event *event, void *user_data) {
    const struct followed *followed = user_data;
    const discover_instance *instance = discover_event_instance(event);
    int32_t kind = discover_event_kind(event);

    if (kind != DISCOVER_EVENT_UP && kind != DISCOVER_EVENT_UPDATE && kind != DISCOVER_EVENT_DOWN) return;
    printf("{\"kind\":\"event\",\"t\":%lld,\"service\":\"%s\",\"event\":\"%s\",\"id\":", now(),
           followed->service, discover_event_kind_name(kind));
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

static void tell_set(struct followed *followed) {
    discover_snapshot *snapshot = discover_set_take_snapshot(followed->set);
    size_t count = discover_snapshot_online_count(snapshot);

    if (discover_snapshot_version(snapshot) != followed->version) {
        followed->version = discover_snapshot_version(snapshot);
        printf("{\"kind\":\"snapshot\",\"t\":%lld,\"service\":\"%s\",\"state\":\"%s\",\"revision\":%llu,\"set\":{",
               now(), followed->service, state_of(snapshot),
               (unsigned long long)discover_snapshot_revision(snapshot));
        for (size_t i = 0; i < count; i++) {
            if (i > 0) putchar(',');
            print_instance(discover_snapshot_online(snapshot, i));
        }
        puts("}}");
    }
    discover_snapshot_free(snapshot);
}

static void tell(struct followed *followed, size_t services, struct held *held, size_t leases) {
    for (size_t i = 0; i < services; i++) {
        discover_feed_drain(followed[i].feed, tell_event, &followed[i], NULL);
        tell_set(&followed[i]);
    }
    for (size_t i = 0; i < leases; i++) {
        int32_t standing = discover_lease_standing(held[i].lease, NULL);
        if (standing == held[i].standing) continue;
        held[i].standing = standing;
        printf("{\"kind\":\"standing\",\"t\":%lld,\"id\":\"%s\",\"standing\":\"%s\"}\n", now(),
               discover_lease_id(held[i].lease), discover_standing_name(standing));
    }
    fflush(stdout);
}

static void tell_metrics(const discover_client *client) {
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

    check(discover_registration_new("members", port, &registration, &error), error);
    check(discover_registration_set_host(registration, host, &error), error);
    check(discover_registration_set_attribute(registration, "language", "c", &error), error);
    check(discover_client_register(client, registration, DISCOVER_NO_TIMEOUT, &lease, &error), error);
    discover_registration_free(registration);
    return lease;
}

int main(int argc, char **argv) {
    struct followed followed[MOST_SERVICES];
    struct held held[MOST_LEASES];
    struct pollfd input = {0, POLLIN, 0};
    discover_client *client;
    discover_error *error;
    size_t services = 0, leases = 0;

    if (argc < 7 || argc - 6 > MOST_SERVICES || atoi(argv[4]) > MOST_LEASES) return 2;
    check(discover_client_open(argv[1], &client, &error), error);
    for (; leases < (size_t)atoi(argv[4]); leases++) {
        held[leases].lease = register_at(client, argv[2], atoi(argv[3]) + (int)leases);
        held[leases].standing = 0;
    }
    for (; services < (size_t)argc - 6; services++) {
        struct followed *one = &followed[services];
        one->service = argv[6 + services];
        one->version = UINT64_MAX;
        check(discover_client_services(client, one->service, &one->set, &error), error);
        check(discover_set_feed(one->set, &one->feed, &error), error);
    }
    printf("{\"kind\":\"ready\",\"t\":%lld}\n", now());

    /* Looked at in a pace, so that a busy store does not make a busy watcher. */
    while (poll(&input, 1, atoi(argv[5])) == 0) tell(followed, services, held, leases);
    tell(followed, services, held, leases);
    tell_metrics(client);
    for (size_t i = 0; i < services; i++) {
        discover_feed_cancel(followed[i].feed);
        discover_set_release(followed[i].set);
    }
    if (discover_client_close(client, 8000, &error) != DISCOVER_OK) tell_error("left", error);
    for (size_t i = 0; i < leases; i++) discover_lease_release(held[i].lease);
    return 0;
}
