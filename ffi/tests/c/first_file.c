/* The first of two source files that include the header. */
#include <discover.h>

unsigned other_version(void);

int main(void) {
    return other_version() == discover_version_number() ? DISCOVER_OK : DISCOVER_ERR_INTERNAL;
}
