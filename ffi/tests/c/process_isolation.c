/* The library inside another program: child programs inherit none of its descriptors, and it does not change
 * signal handling. */
#include "process_usage.h"

#include <fcntl.h>

#define MAX_DESCRIPTORS 1024

/* The number of descriptors that a child program inherits. */
static int count_inherited(void) {
    FILE *ls = popen("ls /proc/self/fd | wc -l", "r");
    int count;

    CHECK(ls != NULL && fscanf(ls, "%d", &count) == 1);
    CHECK(pclose(ls) == 0);
    return count;
}

static void check_close_on_exec(const char *was_open) {
    int opened = 0;

    for (int fd = 0; fd < MAX_DESCRIPTORS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || was_open[fd]) continue;
        opened++;
        if (!(flags & FD_CLOEXEC)) {
            fprintf(stderr, "descriptor %d would be inherited\n", fd);
            exit(1);
        }
    }
    /* The check has something to check. */
    CHECK(opened >= 3);
}

static void on_record(int32_t level, const char *target, const char *text, void *user_data) {
    (void)level, (void)target, (void)text, (void)user_data;
}

static void *do_nothing(void *user_data) {
    return user_data;
}

/* The C library itself changes a signal handler when it starts the first thread. */
static void start_a_thread(void) {
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, do_nothing, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv) {
    static const char *const lines[] = {"SigBlk", "SigIgn", "SigCgt"};
    enum { LINES = sizeof lines / sizeof *lines };
    char before[LINES][256], was_open[MAX_DESCRIPTORS];
    const char *url = test_url(argc, argv);
    int inherited_before = count_inherited(), leaky[2];
    struct observer observer = NEW_OBSERVER;
    discover_client *client;
    discover_lease *lease;
    discover_set *set;
    discover_subscription *subscription;
    discover_feed *feed;

    start_a_thread();
    for (int fd = 0; fd < MAX_DESCRIPTORS; fd++) was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    for (int i = 0; i < LINES; i++) strcpy(before[i], status_line(lines[i]));

    OK(discover_log_set(DISCOVER_LEVEL_TRACE, on_record, NULL, NULL, NULL));
    client = open_client(url);
    lease = register_instance(client, new_registration("web", 7001));
    set = open_set(client, "web");
    subscription = subscribe(set, &observer);
    OK(discover_set_feed(set, &feed, NULL));
    await_events(&observer, "current\n");

    check_close_on_exec(was_open);
    CHECK(count_inherited() == inherited_before);
    for (int i = 0; i < LINES; i++) SAME_TEXT(status_line(lines[i]), before[i]);

    /* An inherited descriptor would be noticed. */
    CHECK(pipe(leaky) == 0);
    CHECK(count_inherited() == inherited_before + 2);

    OK(discover_client_close(client, TIMEOUT_MS, NULL));
    for (int i = 0; i < LINES; i++) SAME_TEXT(status_line(lines[i]), before[i]);
    OK(discover_log_set(DISCOVER_LEVEL_ERROR, NULL, NULL, NULL, NULL));
    discover_feed_cancel(feed);
    discover_subscription_cancel(subscription);
    discover_set_release(set);
    discover_lease_release(lease);
    return 0;
}
