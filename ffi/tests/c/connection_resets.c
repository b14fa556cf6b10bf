/* A program that SIGPIPE terminates. Its connections to the registry are reset and closed many times while it
 * sends heartbeats. It must survive, keep its set and recover in the end. */
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* Checks that a write to a closed pipe terminates a process like this one. */
static void check_sigpipe_is_fatal(void) {
    int ends[2], status;
    pid_t child;

    CHECK(pipe(ends) == 0);
    close(ends[0]);
    child = fork();
    if (child == 0) _exit(write(ends[1], "x", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
    close(ends[1]);
}

static int end_requested(void) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    return poll(&input, 1, 0) == 1;
}

int main(int argc, char **argv) {
    discover_registration *registration = new_registration("web", 7001);
    discover_client *client;
    discover_lease *lease;
    discover_set *set;
    discover_snapshot *now;

    signal(SIGPIPE, SIG_DFL);
    check_sigpipe_is_fatal();
    client = open_client(test_url(argc, argv));
    alarm(600);
    OK(discover_registration_set_ttl_ms(registration, 60000, NULL));
    lease = register_instance(client, registration);
    set = open_set(client, "web");
    discover_snapshot_free(await_online(set, 1));
    puts("up");
    fflush(stdout);

    while (!end_requested()) {
        discover_status status = discover_lease_heartbeat(lease, 200, NULL);

        CHECK(status == DISCOVER_OK || discover_status_is_retriable(status));
        now = discover_set_take_snapshot(set);
        CHECK(discover_snapshot_online_count(now) == 1);
        discover_snapshot_free(now);
    }
    while (discover_set_state(set) != DISCOVER_STATE_CURRENT) poll(NULL, 0, 10);
    while (discover_lease_heartbeat(lease, 1000, NULL) != DISCOVER_OK) {}
    CHECK(discover_lease_standing(lease, NULL) == DISCOVER_STANDING_LIVE);

    discover_lease_release(lease);
    discover_set_release(set);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    return 0;
}
