/* The resources that this process uses, from the kernel and the C library. */
#ifndef PROCESS_USAGE_H
#define PROCESS_USAGE_H

#include "harness.h"

#include <dirent.h>
#include <malloc.h>

static inline int count_entries(const char *folder) {
    DIR *dir = opendir(folder);
    int count = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL) count++;
    closedir(dir);
    return count;
}

static inline int count_threads(void) {
    return count_entries("/proc/self/task");
}

static inline int count_descriptors(void) {
    return count_entries("/proc/self/fd");
}

/* The value of a line of /proc/self/status. */
static inline const char *status_line(const char *name) {
    static char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    size_t length = strlen(name);
    int found = 0;

    CHECK(file != NULL);
    while (!found && fgets(line, sizeof line, file) != NULL) found = strncmp(line, name, length) == 0;
    fclose(file);
    CHECK(found);
    return line + length + 1;
}

/* Resident memory, in KiB. */
static inline long resident_kib(void) {
    return atol(status_line("VmRSS"));
}

/* Memory allocated by malloc and not freed, in KiB, in all threads. */
static inline long allocated_kib(void) {
    struct mallinfo2 now = mallinfo2();
    return (long)((now.uordblks + now.hblkhd) / 1024);
}

/* The number of rounds: `full` in a soak test, a tenth of it in the ordinary test run. */
static inline int rounds(int full) {
    return getenv("DISCOVER_SOAK") ? full : full / 10;
}

#endif
