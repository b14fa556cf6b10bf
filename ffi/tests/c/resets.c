/* A program that takes SIGPIPE as it comes: it ends it. The registry's connections are reset under it and hung up
 * on, again and again, while it heartbeats; it must live, keep its set, and be as before in the end. */
#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* A write to nobody ends a process like this one. */
static void sigpipe_kills(void) {
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

static int told_to_end(void) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    return poll(&input, 1, 0) == 1;
}

int main(int argc, char **argv) {
    discover_registration *registration = describe("web", 7001);
    discover_client *client;
    discover_lease *lease;
    discover_set *set;
    discover_snapshot *now;

    signal(SIGPIPE, SIG_DFL);
    sigpipe_kills();
    client = open_client(url_of(argc, argv));
    alarm(600);
    OK(discover_registration_set_ttl_ms(registration, 60000, NULL));
    lease = enter(client, registration);
    set = services(client, "web");
    discover_snapshot_free(await_online(set, 1));
    puts("up");
    fflush(stdout);

    while (!told_to_end()) {
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
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    return 0;
}
