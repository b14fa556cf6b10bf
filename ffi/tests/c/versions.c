/* The header and the library have the same version in every form. */
#include "harness.h"

#if !DISCOVER_VERSION_AT_LEAST(0, 1, 0) || DISCOVER_VERSION_AT_LEAST(999, 0, 0)
#error "the version cannot be compared"
#endif

int main(void) {
    char text[32];

    CHECK(DISCOVER_VERSION_NUMBER
          == DISCOVER_VERSION_MAJOR * 1000000 + DISCOVER_VERSION_MINOR * 1000 + DISCOVER_VERSION_PATCH);
    CHECK(discover_version_number() == DISCOVER_VERSION_NUMBER);
    snprintf(text, sizeof text, "%d.%d.%d", DISCOVER_VERSION_MAJOR, DISCOVER_VERSION_MINOR,
             DISCOVER_VERSION_PATCH);
    SAME_TEXT(discover_version_string(), text);
    CHECK(DISCOVER_VERSION_AT_LEAST(DISCOVER_VERSION_MAJOR, DISCOVER_VERSION_MINOR, DISCOVER_VERSION_PATCH));
    CHECK(!DISCOVER_VERSION_AT_LEAST(DISCOVER_VERSION_MAJOR, DISCOVER_VERSION_MINOR,
                                     DISCOVER_VERSION_PATCH + 1));
    return 0;
}
