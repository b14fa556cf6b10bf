/* Measures the time to load a library: load LIBRARY. */
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv) {
    struct timespec began, ended;

    if (argc < 2) return 2;
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (dlopen(argv[1], RTLD_NOW) == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("{\"load\":%f}\n", (ended.tv_sec - began.tv_sec) * 1e6 + (ended.tv_nsec - began.tv_nsec) / 1e3);
    return 0;
}
