/* The other of two files of a program that both include the header, this one twice. */
#include <discover.h>
#include <discover.h>

unsigned other_version(void);

unsigned other_version(void) {
    return discover_version_number();
}
