/*
 * libdiscover: service discovery for C programs.
 *
 * A program registers instances of its services, and follows other services as live sets in memory. One URL
 * selects the registry and its kind. "local://", the default, needs no server.
 *
 *     discover_client *client;
 *     discover_set *web;
 *     discover_snapshot *now;
 *     discover_client_open(NULL, &client, NULL);
 *     discover_client_services(client, "web", &web, NULL);
 *     if (discover_set_wait(web, 1, 2000, &now, NULL) == DISCOVER_OK) {
 *         puts(discover_instance_address(discover_snapshot_online(now, 0)));
 *         discover_snapshot_free(now);
 *     }
 *     discover_set_release(web);
 *     discover_client_close(client, 5000, NULL);
 *
 * Linking. The library is named discover: `cc program.c $(pkg-config --cflags --libs discover)`. CMake
 * finds it as the package libdiscover. The header is C99 and C++17; discover.hpp wraps it for C++ with
 * destructors and exceptions. Within one version of the shared library's name (its soname) nothing is
 * removed or changed.
 *
 * Names. A function is discover_NOUN_VERB, and its first argument is the noun. All object types are
 * opaque and used only through pointers.
 *
 * Ownership. The description of each pointer begins with its ownership in brackets:
 *
 *     [in, borrowed]        you keep it; the library reads it during the call only
 *     [in, taken]           you give it to the library
 *     [out, owned]          you receive it and release it with the function named
 *     [out]                 you keep it; the library writes a number to it
 *     [borrowed until ...]  the library keeps it; you may read it until then
 *
 * "optional" means that the argument may be NULL. Any other NULL fails with
 * DISCOVER_ERR_INVALID_ARGUMENT; functions that return no status return NULL, 0 or nothing. Every type
 * has one function that releases it, which accepts NULL. Never free() what the library returned. Strings
 * that you pass are NUL-terminated UTF-8 and are copied during the call.
 *
 * Handles. The library cannot recognize a stale handle: an object that was released, a client that was
 * closed, or an event after its callback. Using or releasing one is undefined behavior, which Valgrind and
 * AddressSanitizer find. The library does detect two cases: a lease, set or feed whose client is closed
 * returns DISCOVER_ERR_CLOSED, and an object of the parent process returns DISCOVER_ERR_FORKED.
 *
 * Errors. A call that can fail returns a discover_status; DISCOVER_OK is 0. If you pass an error pointer,
 * it is set to NULL or to an object with the message, which you release. A failed call changes nothing
 * and sets its outputs to NULL. Every call can return DISCOVER_ERR_INVALID_ARGUMENT for NULL or malformed
 * UTF-8, and DISCOVER_ERR_INTERNAL for a bug in the library, which never crashes the program. Every call
 * that uses a client or an object of it can return DISCOVER_ERR_FORKED in a forked child process. The
 * comments of functions list the other errors.
 *
 * Threads. A `const` first argument means that the call may run at the same time as other such calls on
 * the same object. The comment of each type ends with its thread rules. Calls that block have a timeout.
 *
 * Callbacks. The client's callback thread runs them one at a time, and never inside one of your calls. A
 * slow callback delays the client's other callbacks, and nothing else. A callback may make every call
 * except discover_client_close(), which fails with DISCOVER_ERR_BUSY. A callback has user_data and a
 * destroy function, which is called exactly once, after the last use of user_data, whatever the result.
 *
 * Fork. A forked child process cannot use its parent's objects: calls return DISCOVER_ERR_FORKED at once,
 * functions without a status return their value for NULL, and releasing an object only frees memory. Names
 * and URLs stay readable, as do snapshots and instances that were read before the fork. The child may open
 * its own client. The parent is not affected.
 *
 * Resources. Without threads, descriptors or memory for a large allocation, a call returns
 * DISCOVER_ERR_RESOURCE and the sets stay unchanged. If a small allocation fails, the process aborts.
 *
 * Exit. When a process exits or crashes, its registrations disappear: at once on local://, elsewhere
 * after their TTL. discover_client_close() unregisters them at once everywhere.
 */
