/* Tells the story of story.txt in C: story URL. */
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

#define PATIENCE_S 30
#define PATIENCE_MS (PATIENCE_S * 1000)
#define MAX_WORDS 16
#define MAX_TEXT 1024

/* What was heard and not yet told, first come first. */
struct heard {
    char text[MAX_TEXT];
    struct heard *next;
};

struct ear {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct heard *first;
};

struct teller {
    char *program;
    const char *url;
    discover_client *client;
    discover_set *set;
    discover_subscription *subscription;
    discover_lease *lease;
    pid_t member;
    struct ear ear;
};

static void give_up(const char *format, ...) {
    va_list arguments;

    fputs("story: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void check(discover_status status, discover_error **error) {
    if (status != DISCOVER_OK) give_up("%s", discover_error_message(*error));
}

static void append(char *text, const char *format, ...) {
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, MAX_TEXT - length, format, arguments);
    va_end(arguments);
}

static void describe(const discover_event *event, char *text) {
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

/* The callback: runs on the client's own thread. */
static void on_event(const discover_event *event, void *user_data) {
    struct ear *ear = user_data;
    struct heard *heard = calloc(1, sizeof *heard);
    struct heard **last;

    if (heard == NULL) give_up("out of memory");
    describe(event, heard->text);
    pthread_mutex_lock(&ear->lock);
    for (last = &ear->first; *last != NULL; last = &(*last)->next) {}
    *last = heard;
    pthread_cond_signal(&ear->changed);
    pthread_mutex_unlock(&ear->lock);
}

/* Prints the next event, if one comes in time. */
static int tell_next(struct ear *ear, int patience_s) {
    struct timespec deadline;
    struct heard *heard;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += patience_s;
    pthread_mutex_lock(&ear->lock);
    while (ear->first == NULL
           && pthread_cond_timedwait(&ear->changed, &ear->lock, &deadline) != ETIMEDOUT) {}
    heard = ear->first;
    if (heard != NULL) ear->first = heard->next;
    pthread_mutex_unlock(&ear->lock);
    if (heard == NULL) return 0;
    puts(heard->text);
    free(heard);
    return 1;
}

static discover_lease *register_at(discover_client *client, const char *service, char *address,
                                   char **attributes) {
    char *port = strrchr(address, ':');
    discover_registration *registration;
    discover_lease *lease;
    discover_error *error;

    if (port == NULL) give_up("%s has no port", address);
    *port = '\0';
    check(discover_registration_new(service, atol(port + 1), &registration, &error), &error);
    check(discover_registration_set_host(registration, address, &error), &error);
    for (; *attributes != NULL; attributes++) {
        const char *name = strtok(*attributes, "=");
        const char *value = strtok(NULL, "");
        check(discover_registration_set_attribute(registration, name, value, &error), &error);
    }
    check(discover_client_register(client, registration, PATIENCE_MS, &lease, &error), &error);
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
    check(discover_lease_update(lease, names, values, count, PATIENCE_MS, &error), &error);
}

/* Starts this program once more, as a member, and waits until that is registered. */
static pid_t spawn(struct teller *teller, char *service, char *address) {
    char *arguments[] = {teller->program, (char *)teller->url, "member", service, address, NULL};
    char line[16] = "";
    int ends[2];
    FILE *said;
    pid_t pid;

    if (pipe(ends) != 0 || (pid = fork()) < 0) give_up("%s", strerror(errno));
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execv(teller->program, arguments);
        _exit(1);
    }
    close(ends[1]);
    said = fdopen(ends[0], "r");
    if (said == NULL || fgets(line, sizeof line, said) == NULL || strcmp(line, "ready\n") != 0) {
        give_up("the member is not ready");
    }
    fclose(said);
    return pid;
}

static void step(struct teller *t, char **words) {
    discover_error *error;
    const char *verb = words[0];

    if (strcmp(verb, "open") == 0) {
        check(discover_client_open(t->url, &t->client, &error), &error);
    } else if (strcmp(verb, "watch") == 0) {
        check(discover_client_services(t->client, words[1], &t->set, &error), &error);
        check(discover_set_subscribe(t->set, on_event, &t->ear, NULL, &t->subscription, &error), &error);
    } else if (strcmp(verb, "register") == 0) {
        t->lease = register_at(t->client, words[1], words[2], words + 3);
    } else if (strcmp(verb, "update") == 0) {
        update(t->lease, words + 1);
    } else if (strcmp(verb, "unregister") == 0) {
        check(discover_lease_unregister(t->lease, PATIENCE_MS, &error), &error);
    } else if (strcmp(verb, "spawn") == 0) {
        t->member = spawn(t, words[1], words[2]);
    } else if (strcmp(verb, "kill") == 0) {
        kill(t->member, SIGKILL);
        waitpid(t->member, NULL, 0);
    } else if (strcmp(verb, "close") == 0) {
        check(discover_client_close(t->client, PATIENCE_MS, &error), &error);
    } else if (strcmp(verb, "hear") == 0) {
        if (!tell_next(&t->ear, PATIENCE_S)) give_up("nothing heard");
    } else if (strcmp(verb, "silence") == 0) {
        if (!tell_next(&t->ear, 0)) puts("silence");
        while (tell_next(&t->ear, 0)) {}
    } else {
        give_up("no such step: %s", verb);
    }
}

static void tell(struct teller *teller) {
    const char *path = getenv("STORY") != NULL ? getenv("STORY") : "tests/story/story.txt";
    FILE *story = fopen(path, "r");
    char line[MAX_TEXT];

    if (story == NULL) give_up("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, story) != NULL) {
        char *words[MAX_WORDS + 1] = {NULL};
        char **first = words;
        size_t count = 0;
        char *word = strtok(line, " \n");

        for (; word != NULL && count < MAX_WORDS; word = strtok(NULL, " \n")) words[count++] = word;
        if (count == 0 || words[0][0] == '#') continue;
        if (strcmp(words[0], "+") == 0) {
            if (strncmp(teller->url, "memory:", 7) == 0) continue;
            first++;
        }
        step(teller, first);
        fflush(stdout);
    }
    fclose(story);
    discover_subscription_cancel(teller->subscription);
    discover_lease_release(teller->lease);
    discover_set_release(teller->set);
}

static void be_member(const char *url, const char *service, char *address) {
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
    struct teller teller = {.ear = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL}};

    if (argc == 5 && strcmp(argv[2], "member") == 0) be_member(argv[1], argv[3], argv[4]);
    if (argc != 2) give_up("usage: story URL");
    teller.program = argv[0];
    teller.url = argv[1];
    tell(&teller);
    return 0;
}
