/* A feed in a loop of one's own: poll(2), then drain. */
#include "check.h"

#include <fcntl.h>
#include <poll.h>

static int is_readable(int fd, int within_ms) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready = poll(&one, 1, within_ms);

    CHECK(ready >= 0 && (one.revents & ~POLLIN) == 0);
    return ready;
}

/* The loop: until the text has been heard. */
static void hear(discover_feed *feed, struct ear *ear, const char *text) {
    while (strstr(ear->heard, text) == NULL) {
        CHECK(is_readable(discover_feed_fd(feed), PATIENCE_MS));
        OK(discover_feed_drain(feed, ear_hear, ear, NULL));
    }
    ear->heard[0] = '\0';
}

/* The descriptor may be readable once more than needed, but not for ever. */
static void hear_nothing(discover_feed *feed, struct ear *ear) {
    while (is_readable(discover_feed_fd(feed), 0)) OK(discover_feed_drain(feed, ear_hear, ear, NULL));
    SAME(ear->heard, "");
}

int main(int argc, char **argv) {
    discover_client *client = open_client(url_of(argc, argv));
    discover_set *set = services(client, "web");
    struct ear ear = NEW_EAR;
    discover_feed *feed;
    discover_lease *lease;
    int fd;

    OK(discover_set_feed(set, &feed, NULL));
    fd = discover_feed_fd(feed);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    hear(feed, &ear, "current\n");
    hear_nothing(feed, &ear);

    lease = enter(client, describe("web", 7001));
    hear(feed, &ear, "up 127.0.0.1:7001\nleader 127.0.0.1:7001\n");
    CHECK(pthread_equal(ear.listener, pthread_self()));
    hear_nothing(feed, &ear);
    OK(discover_lease_unregister(lease, PATIENCE_MS, NULL));
    hear(feed, &ear, "down 127.0.0.1:7001\nleader\n");

    /* A second listener begins with the whole state. */
    discover_lease_release(lease);
    lease = enter(client, describe("web", 7002));
    discover_feed_cancel(feed);
    OK(discover_set_feed(set, &feed, NULL));
    hear(feed, &ear, "up 127.0.0.1:7002\nleader 127.0.0.1:7002\ncurrent\n");

    /* Closing wakes the loop, and says so for ever after. */
    fd = discover_feed_fd(feed);
    OK(discover_client_close(client, PATIENCE_MS, NULL));
    for (int i = 0; i < 2; i++) {
        CHECK(is_readable(fd, 0));
        FAILS(DISCOVER_ERR_CLOSED, "closed", discover_feed_drain(feed, ear_hear, &ear, &error));
    }
    SAME(ear.heard, "");
    discover_feed_cancel(feed);
    CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);

    discover_lease_release(lease);
    discover_set_release(set);
    return 0;
}
