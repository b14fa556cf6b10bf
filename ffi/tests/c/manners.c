/* A guest in somebody's process: no descriptor of the library's goes to a program that it starts, and how
 * it takes signals is left alone. */
#include "usage.h"

#include <fcntl.h>

#define MANY 1024

/* What `ls` finds open when it is started from here. */
static int inherited(void) {
    FILE *ls = popen("ls /proc/self/fd | wc -l", "r");
    int count;

    CHECK(ls != NULL && fscanf(ls, "%d", &count) == 1);
    CHECK(pclose(ls) == 0);
    return count;
}

static void is_close_on_exec(const char *was_open) {
    int opened = 0;

    for (int fd = 0; fd < MANY; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || was_open[fd]) continue;
        opened++;
        if (!(flags & FD_CLOEXEC)) {
            fprintf(stderr, "descriptor %d would be inherited\n", fd);
            exit(1);
        }
    }
    /* There is something to be close-on-exec at all. */
    CHECK(opened >= 3);
}

static void on_record(int32_t level, const char *target, const char *text, void *user_data) {
    (void)level, (void)target, (void)text, (void)user_data;
}

static void *nothing(void *user_data) {
    return user_data;
}

/* The C library itself takes a signal, for its own use, when it starts the first thread. */
static void start_a_thread(void) {
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv) {
    static const char *const lines[] = {"SigBlk", "SigIgn", "SigCgt"};
    enum { LINES = sizeof lines / sizeof *lines };
    char before[LINES][256], was_open[MANY];
    const char *url = url_of(argc, argv);
    int children_had = inherited(), leaky[2];
    struct ear ear = NEW_EAR;
    discover_client *client;
    discover_lease *lease;
    discover_set *set;
    discover_subscription *subscription;
    discover_feed *feed;

    start_a_thread();
    for (int fd = 0; fd < MANY; fd++) was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    for (int i = 0; i < LINES; i++) strcpy(before[i], status_line(lines[i]));

    OK(discover_log_set(DISCOVER_LEVEL_TRACE, on_record, NULL, NULL, NULL));
    client = open_client(url);
    lease = enter(client, describe("web", 7001));
    set = services(client, "web");
    subscription = subscribe(set, &ear);
    OK(discover_set_feed(set, &feed, NULL));
    await_heard(&ear, "current\n");

    is_close_on_exec(was_open);
    CHECK(inherited() == children_had);
    for (int i = 0; i < LINES; i++) SAME(status_line(lines[i]), before[i]);

    /* Were one inherited, it would be seen. */
    CHECK(pipe(leaky) == 0);
    CHECK(inherited() == children_had + 2);

    OK(discover_client_close(client, PATIENCE_MS, NULL));
    for (int i = 0; i < LINES; i++) SAME(status_line(lines[i]), before[i]);
    OK(discover_log_set(DISCOVER_LEVEL_ERROR, NULL, NULL, NULL, NULL));
    discover_feed_cancel(feed);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    discover_lease_release(lease);
    return 0;
}
