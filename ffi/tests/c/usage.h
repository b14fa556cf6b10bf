/* How much of the machine this process uses, as the kernel and the C library tell it. */
#ifndef USAGE_H
#define USAGE_H

#include "check.h"

#include <dirent.h>
#include <malloc.h>

static inline int entries(const char *folder) {
    DIR *dir = opendir(folder);
    int count = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL) count++;
    closedir(dir);
    return count;
}

static inline int threads(void) {
    return entries("/proc/self/task");
}

static inline int descriptors(void) {
    return entries("/proc/self/fd");
}

/* A line of /proc/self/status, without its name. */
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

/* Pages that are in memory, in KiB. */
static inline long resident_kib(void) {
    return atol(status_line("VmRSS"));
}

/* What malloc has given out and not got back, in KiB, to the byte and in all threads. */
static inline long allocated_kib(void) {
    struct mallinfo2 now = mallinfo2();
    return (long)((now.uordblks + now.hblkhd) / 1024);
}

/* So many rounds when the loop is run by itself, and a tenth of them beside all the other tests. */
static inline int rounds(int full) {
    return getenv("DISCOVER_SOAK") ? full : full / 10;
}

#endif
