/* Runs the scenario of story.txt in C and prints its trace: story URL. */
#include <discover.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S 30
#define TIMEOUT_MS (TIMEOUT_S * 1000)
#define MAX_WORDS 16
#define MAX_TEXT 1024

/* An event that was received and not yet printed. */
struct queued_event {
    char text[MAX_TEXT];
    struct queued_event *next;
};

struct event_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct queued_event *first;
};

struct runner {
    char *program;
    const char *url;
    discover_client *client;
    discover_set *set;
    discover_subscription *subscription;
    discover_lease *lease;
    pid_t member;
    struct event_queue queue;
};

static void fail(const char *format, ...) {
    va_list arguments;

    fputs("story: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void check(discover_status status, discover_error **error) {
    if (status != DISCOVER_OK) fail("%s", discover_error_message(*error));
}

static void append(char *text, const char *format, ...) {
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, MAX_TEXT - length, format, arguments);
    va_end(arguments);
}

static void format_event(const discover_event *event, char *text) {
    const discover_instance *instance = discover_event_instance(event);

    append(text, "%s", discover_event_kind_name(discover_event_kind(event)));
    if (instance != NULL) {
        append(text, " %s", discover_instance_address(instance));
        for (size_t i = 0; i < discover_instance_attribute_count(instance); i++) {
            append(text, " %s=%s", discover_instance_attribute_name(instance, i),
                   discover_instance_attribute_value(instance, i));
        }
    } else if (discover_event_kind(event) == DISCOVER_EVENT_LEADER) {
        append(text, " -");
    }
}

/* The callback. Runs on the client's callback thread. */
static void on_event(const discover_event *event, void *user_data) {
    struct event_queue *queue = user_data;
    struct queued_event *queued = calloc(1, sizeof *queued);
    struct queued_event **last;

    if (queued == NULL) fail("out of memory");
    format_event(event, queued->text);
    pthread_mutex_lock(&queue->lock);
    for (last = &queue->first; *last != NULL; last = &(*last)->next) {}
    *last = queued;
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

/* Prints the next event and returns 1; returns 0 if none arrives in time. */
static int print_next(struct event_queue *queue, int timeout_s) {
    struct timespec deadline;
    struct queued_event *queued;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += timeout_s;
    pthread_mutex_lock(&queue->lock);
    while (queue->first == NULL
           && pthread_cond_timedwait(&queue->changed, &queue->lock, &deadline) != ETIMEDOUT) {}
    queued = queue->first;
    if (queued != NULL) queue->first = queued->next;
    pthread_mutex_unlock(&queue->lock);
    if (queued == NULL) return 0;
    puts(queued->text);
    free(queued);
    return 1;
}

static discover_lease *register_at(discover_client *client, const char *service, char *address,
                                   char **attributes) {
    char *port = strrchr(address, ':');
    discover_registration *registration;
    discover_lease *lease;
    discover_error *error;

    if (port == NULL) fail("%s has no port", address);
    *port = '\0';
    check(discover_registration_new(service, atol(port + 1), &registration, &error), &error);
    check(discover_registration_set_host(registration, address, &error), &error);
    for (; *attributes != NULL; attributes++) {
        const char *name = strtok(*attributes, "=");
        const char *value = strtok(NULL, "");
        check(discover_registration_set_attribute(registration, name, value, &error), &error);
    }
    check(discover_client_register(client, registration, TIMEOUT_MS, &lease, &error), &error);
    discover_registration_free(registration);
    return lease;
}

static void update(discover_lease *lease, char **attributes) {
    const char *names[MAX_WORDS], *values[MAX_WORDS];
    size_t count = 0;
    discover_error *error;

    for (; attributes[count] != NULL; count++) {
        names[count] = strtok(attributes[count], "=");
        values[count] = strtok(NULL, "");
    }
    check(discover_lease_update(lease, names, values, count, TIMEOUT_MS, &error), &error);
}

/* Starts this program again as a member, and waits until the member is registered. */
static pid_t spawn(struct runner *runner, char *service, char *address) {
    char *arguments[] = {runner->program, (char *)runner->url, "member", service, address, NULL};
    char line[16] = "";
    int ends[2];
    FILE *output;
    pid_t pid;

    if (pipe(ends) != 0 || (pid = fork()) < 0) fail("%s", strerror(errno));
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execv(runner->program, arguments);
        _exit(1);
    }
    close(ends[1]);
    output = fdopen(ends[0], "r");
    if (output == NULL || fgets(line, sizeof line, output) == NULL || strcmp(line, "ready\n") != 0) {
        fail("the member is not ready");
    }
    fclose(output);
    return pid;
}

static void step(struct runner *t, char **words) {
    discover_error *error;
    const char *verb = words[0];

    if (strcmp(verb, "open") == 0) {
        check(discover_client_open(t->url, &t->client, &error), &error);
    } else if (strcmp(verb, "watch") == 0) {
        check(discover_client_services(t->client, words[1], &t->set, &error), &error);
        check(discover_set_subscribe(t->set, on_event, &t->queue, NULL, &t->subscription, &error), &error);
    } else if (strcmp(verb, "register") == 0) {
        t->lease = register_at(t->client, words[1], words[2], words + 3);
    } else if (strcmp(verb, "update") == 0) {
        update(t->lease, words + 1);
    } else if (strcmp(verb, "unregister") == 0) {
        check(discover_lease_unregister(t->lease, TIMEOUT_MS, &error), &error);
    } else if (strcmp(verb, "spawn") == 0) {
        t->member = spawn(t, words[1], words[2]);
    } else if (strcmp(verb, "kill") == 0) {
        kill(t->member, SIGKILL);
        waitpid(t->member, NULL, 0);
    } else if (strcmp(verb, "close") == 0) {
        check(discover_client_close(t->client, TIMEOUT_MS, &error), &error);
    } else if (strcmp(verb, "hear") == 0) {
        if (!print_next(&t->queue, TIMEOUT_S)) fail("no event received");
    } else if (strcmp(verb, "silence") == 0) {
        if (!print_next(&t->queue, 0)) puts("silence");
        while (print_next(&t->queue, 0)) {}
    } else {
        fail("no such step: %s", verb);
    }
}

static void run_scenario(struct runner *runner) {
    const char *path = getenv("STORY") != NULL ? getenv("STORY") : "tests/story/story.txt";
    FILE *story = fopen(path, "r");
    char line[MAX_TEXT];

    if (story == NULL) fail("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, story) != NULL) {
        char *words[MAX_WORDS + 1] = {NULL};
        char **first = words;
        size_t count = 0;
        char *word = strtok(line, " \n");

        for (; word != NULL && count < MAX_WORDS; word = strtok(NULL, " \n")) words[count++] = word;
        if (count == 0 || words[0][0] == '#') continue;
        if (strcmp(words[0], "+") == 0) {
            if (strncmp(runner->url, "memory:", 7) == 0) continue;
            first++;
        }
        step(runner, first);
        fflush(stdout);
    }
    fclose(story);
    discover_subscription_cancel(runner->subscription);
    discover_lease_release(runner->lease);
    discover_set_release(runner->set);
}

static void run_member(const char *url, const char *service, char *address) {
    char *no_attributes[] = {NULL};
    discover_client *client;
    discover_error *error;

    check(discover_client_open(url, &client, &error), &error);
    register_at(client, service, address, no_attributes);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}

int main(int argc, char **argv) {
    struct runner runner = {.queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL}};

    if (argc == 5 && strcmp(argv[2], "member") == 0) run_member(argv[1], argv[3], argv[4]);
    if (argc != 2) fail("usage: story URL");
    runner.program = argv[0];
    runner.url = argv[1];
    run_scenario(&runner);
    return 0;
}
