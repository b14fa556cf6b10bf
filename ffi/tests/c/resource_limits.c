/* Exhausted resources: every call returns an error, sets keep their contents, and work resumes once resources
 * are available again. */
#include "process_usage.h"

#include <sys/resource.h>
#include <sys/wait.h>

static discover_client *client;
static discover_set *set;
static discover_lease *lease;

static void check_set_is_unchanged(void) {
    discover_snapshot *now = discover_set_take_snapshot(set);
    discover_instance *picked;

    CHECK(discover_snapshot_online_count(now) == 1 && discover_snapshot_is_current(now));
    discover_snapshot_free(now);
    OK(discover_set_pick(set, "random", NULL, &picked, NULL));
    CHECK(discover_instance_port(picked) == 7001);
    discover_instance_free(picked);
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);
}

static void open_another_client(const char *url) {
    discover_client *another = open_client(url);
    discover_lease *second = register_instance(another, new_registration("web", 7002));

    discover_snapshot_free(await_online(set, 2));
    discover_lease_release(second);
    OK(discover_client_close(another, TIMEOUT_MS, NULL));
    while (discover_set_state(set) != DISCOVER_STATE_CURRENT) {}
}

static struct rlimit limit_to(int resource, rlim_t soft) {
    struct rlimit before, now;

    CHECK(getrlimit(resource, &before) == 0);
    now = before;
    now.rlim_cur = soft;
    CHECK(setrlimit(resource, &now) == 0);
    return before;
}

static void without_descriptors(const char *url) {
    struct rlimit before = limit_to(RLIMIT_NOFILE, 0);
    discover_client *none;
    discover_feed *feed;

    FAILS(DISCOVER_ERR_RESOURCE, "", discover_client_open(url, &none, &error));
    CHECK(none == NULL);
    FAILS(DISCOVER_ERR_RESOURCE, "", discover_set_feed(set, &feed, &error));
    CHECK(feed == NULL);
    check_set_is_unchanged();
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

/* A registry on disk needs a descriptor for each write; one in memory needs none. */
static void registering_on_disk_fails_without_descriptors(const char *url) {
    struct rlimit before = limit_to(RLIMIT_NOFILE, 0);
    discover_registration *more = new_registration("web", 7003);
    discover_lease *out;

    if (strncmp(url, "local:", 6) == 0) {
        FAILS(DISCOVER_ERR_RESOURCE, "", discover_client_register(client, more, 500, &out, &error));
        CHECK(out == NULL);
    }
    check_set_is_unchanged();
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    discover_registration_free(more);
}

/* With 0 to 15 descriptors left, opening succeeds or fails completely. */
static void with_few_descriptors(const char *url) {
    int had = count_descriptors();

    for (int left = 0; left < 16; left++) {
        struct rlimit before = limit_to(RLIMIT_NOFILE, 3 + (rlim_t)left + (rlim_t)had);
        discover_client *out;
        discover_status status = discover_client_open(url, &out, NULL);

        CHECK(status == DISCOVER_OK || status == DISCOVER_ERR_RESOURCE);
        CHECK((status == DISCOVER_OK) == (out != NULL));
        OK(discover_client_close(out, TIMEOUT_MS, NULL));
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    }
    while (count_descriptors() != had) {}
    check_set_is_unchanged();
}

/* Address space for small allocations and only a few thread stacks. */
static void without_address_space(const char *url) {
    enum { MANY = 64 };
    rlim_t used = (rlim_t)atol(status_line("VmSize")) * 1024;
    struct rlimit before = limit_to(RLIMIT_AS, used + 1024 * 1024);
    discover_client *clients[MANY];
    discover_status status = DISCOVER_OK;
    int opened = 0;

    while (status == DISCOVER_OK) {
        CHECK(opened < MANY);
        status = discover_client_open(url, &clients[opened], NULL);
        CHECK((status == DISCOVER_OK) == (clients[opened] != NULL));
        opened++;
    }
    CHECK(status == DISCOVER_ERR_RESOURCE);
    check_set_is_unchanged();
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    while (opened > 0) OK(discover_client_close(clients[--opened], TIMEOUT_MS, NULL));
}

/* The kernel limits the threads of a user, but not of root, so the child process changes its user. */
static void without_threads(const char *url) {
    pid_t child = fork();
    int status;

    if (child == 0) {
        int few;
        discover_client *out = NULL;

        alarm(2 * TIMEOUT_S);
        if (getuid() == 0) CHECK(setuid(40000 + (uid_t)getpid() % 20000) == 0);
        for (few = 1; out == NULL && few < 8; few++) {
            struct rlimit before = limit_to(RLIMIT_NPROC, (rlim_t)few);
            discover_status got = discover_client_open(url, &out, NULL);

            CHECK(got == DISCOVER_OK || got == DISCOVER_ERR_RESOURCE);
            CHECK(setrlimit(RLIMIT_NPROC, &before) == 0);
            while (out == NULL && count_threads() != 3) {}
        }
        /* At least one attempt failed. */
        CHECK(few > 2);
        if (out == NULL) out = open_client(url);
        OK(discover_client_close(out, TIMEOUT_MS, NULL));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
    const char *url = test_url(argc, argv);

    without_threads("memory://child");
    client = open_client(url);
    set = open_set(client, "web");
    lease = register_instance(client, new_registration("web", 7001));
    discover_snapshot_free(await_online(set, 1));

    without_descriptors(url);
    registering_on_disk_fails_without_descriptors(url);
    with_few_descriptors(url);
    without_address_space(url);
    check_set_is_unchanged();
    open_another_client(url);

    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
