/*
 * libdiscover: services find each other.
 *
 * A program registers what it is and where; others follow a service as a live, local set. Where the
 * registry is, and of which kind, is one URL. "local://", the default, needs no server at all.
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
 * Linking. The library is called discover: `cc program.c $(pkg-config --cflags --libs discover)`; for
 * CMake there is a package, libdiscover. The header is C99 and C++17; discover.hpp is the same for C++,
 * with destructors and exceptions. Within one number of the shared library's name nothing is removed
 * or changed.
 *
 * Names. A function is discover_NOUN_VERB, and its first argument is the noun. The twelve types are opaque
 * and only ever seen as pointers.
 *
 * Ownership. Each pointer has its word in brackets:
 *
 *     [in, borrowed]        yours; looked at during the call, and not afterwards
 *     [in, taken]           yours no longer
 *     [out, owned]          yours from now on, to be released by the function named
 *     [out]                 yours; a number is put there
 *     [borrowed until ...]  ours; look at it until then
 *
 * "optional" means that it may be NULL. Any other NULL is answered with DISCOVER_ERR_INVALID_ARGUMENT,
 * or, by functions that return no status, with NULL, 0 or nothing. Every type has one function that
 * releases it, and that takes NULL. Never free() what the library gave you. Strings given are
 * NUL-terminated UTF-8 and copied during the call.
 *
 * A handle is a pointer like any other: one that was released, a client that was closed, or an event
 * after its callback cannot be told from one that is good, and to use it, or to release it again, is
 * undefined. Valgrind and AddressSanitizer find such uses. What is told, by DISCOVER_ERR_CLOSED, is that
 * the client of a lease, set or feed has been closed, and by DISCOVER_ERR_FORKED that it is the parent's.
 *
 * Errors. A call that can fail returns a discover_status, and DISCOVER_OK is 0. If you pass an error
 * pointer, it is set to NULL or to an object that says more, which you release. A call that fails
 * takes nothing and leaves nothing: outputs are NULL. A bug in the library is
 * DISCOVER_ERR_INTERNAL, not a crash.
 *
 * Threads. A `const` first argument means that the call may be made at the same time as any other such
 * call on the same object. Each type's comment ends with what else is to be said. Calls that wait have
 * a timeout.
 *
 * Callbacks. They run on the client's one callback thread, never two at once, and never inside one of
 * your calls. A slow one delays the client's other callbacks, and nothing else. Inside one you may call
 * anything; only discover_client_close() is refused there, with DISCOVER_ERR_BUSY. A callback comes with
 * user_data and a destroy function, which is called exactly once, after the last use, whatever happens.
 *
 * Fork. What a parent opened is not for its forked child: calls there return DISCOVER_ERR_FORKED at
 * once, and releasing frees memory and touches nothing else. A child may open a client of its own. The
 * parent does not notice.
 *
 * Scarcity. Without threads, descriptors or room for something large, a call returns
 * DISCOVER_ERR_RESOURCE and the sets stay as they were. Where not even a few bytes can be had, the
 * process ends, as it does in most of its libraries.
 *
 * Leaving. A process that dies or exits is unregistered by the registry, at once on local://, elsewhere
 * after its TTL; discover_client_close() does it at once everywhere.
 */
