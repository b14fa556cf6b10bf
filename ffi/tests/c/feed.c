/* A feed in an event loop: poll(2), then drain. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>

static int is_readable(int fd, int within_ms) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready = poll(&one, 1, within_ms);

    CHECK(ready >= 0 && (one.revents & ~POLLIN) == 0);
    return ready;
}

/* Runs the event loop until the text was received. */
static void poll_until(discover_feed *feed, struct observer *observer, const char *text) {
    while (strstr(observer->received, text) == NULL) {
        CHECK(is_readable(discover_feed_fd(feed), TIMEOUT_MS));
        OK(discover_feed_drain(feed, observer_on_event, observer, NULL));
    }
    observer->received[0] = '\0';
}

/* Checks that no event follows. The descriptor may be readable once more than necessary. */
static void check_no_events(discover_feed *feed, struct observer *observer) {
    while (is_readable(discover_feed_fd(feed), 0)) {
        OK(discover_feed_drain(feed, observer_on_event, observer, NULL));
    }
    SAME_TEXT(observer->received, "");
}

int main(int argc, char **argv) {
    discover_client *client = open_client(test_url(argc, argv));
    discover_set *set = open_set(client, "web");
    struct observer observer = NEW_OBSERVER;
    discover_feed *feed;
    discover_lease *lease;
    int fd;

    OK(discover_set_feed(set, &feed, NULL));
    fd = discover_feed_fd(feed);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    poll_until(feed, &observer, "current\n");
    check_no_events(feed, &observer);

    lease = register_instance(client, new_registration("web", 7001));
    poll_until(feed, &observer, "up 127.0.0.1:7001\nleader 127.0.0.1:7001\n");
    CHECK(pthread_equal(observer.callback_thread, pthread_self()));
    check_no_events(feed, &observer);
    OK(discover_lease_unregister(lease, TIMEOUT_MS, NULL));
    poll_until(feed, &observer, "down 127.0.0.1:7001\nleader\n");

    /* A second feed begins with the full state. */
    discover_lease_release(lease);
    lease = register_instance(client, new_registration("web", 7002));
    discover_feed_cancel(feed);
    OK(discover_set_feed(set, &feed, NULL));
    poll_until(feed, &observer, "up 127.0.0.1:7002\nleader 127.0.0.1:7002\ncurrent\n");

    /* Closing makes the descriptor readable, and every later drain fails. */
    fd = discover_feed_fd(feed);
    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    for (int i = 0; i < 2; i++) {
        CHECK(is_readable(fd, 0));
        FAILS(DISCOVER_ERR_CLOSED, "closed", discover_feed_drain(feed, observer_on_event, &observer, &error));
    }
    SAME_TEXT(observer.received, "");
    discover_feed_cancel(feed);
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);

    discover_lease_release(lease);
    discover_set_release(set);
    return 0;
}
