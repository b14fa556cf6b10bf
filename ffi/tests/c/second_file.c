/* The second of two source files that include the header; it includes it twice. */
#include <discover.h>
#include <discover.h>

unsigned other_version(void);

unsigned other_version(void) {
    return discover_version_number();
}
