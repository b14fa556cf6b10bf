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

#ifndef DISCOVER_H
#define DISCOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The major number of this header's version. */
#define DISCOVER_VERSION_MAJOR 0
/** The minor number of this header's version. */
#define DISCOVER_VERSION_MINOR 1
/** The patch number of this header's version. */
#define DISCOVER_VERSION_PATCH 0

/** Whether this header is of version major.minor.patch or later. */
#define DISCOVER_VERSION_AT_LEAST(major, minor, patch) \
    (DISCOVER_VERSION_NUMBER >= (major) * 1000000 + (minor) * 1000 + (patch))

/** The version as one number, for comparing: 1.2.3 is 1002003. */
#define DISCOVER_VERSION_NUMBER \
    (DISCOVER_VERSION_MAJOR * 1000000 + DISCOVER_VERSION_MINOR * 1000 + DISCOVER_VERSION_PATCH)

/** Success. */
#define DISCOVER_OK 0
/** A bug in libdiscover or in a backend. */
#define DISCOVER_ERR_INTERNAL 1
/** An argument, option or name is not acceptable. */
#define DISCOVER_ERR_INVALID_ARGUMENT 2
/** This build, store or layout cannot do that. */
#define DISCOVER_ERR_UNSUPPORTED 3
/** The store cannot be reached or cannot answer now. Retriable. */
#define DISCOVER_ERR_UNAVAILABLE 4
/** The deadline passed before the call finished. Retriable. */
#define DISCOVER_ERR_TIMEOUT 5
/** The store refused the credentials or denied access. */
#define DISCOVER_ERR_PERMISSION_DENIED 6
/** The named object does not exist. */
#define DISCOVER_ERR_NOT_FOUND 7
/** The store no longer holds this registration. Retriable. */
#define DISCOVER_ERR_LEASE_LOST 8
/** Another owner registered this instance id. */
#define DISCOVER_ERR_REPLACED 9
/** The client, lease or subscription was closed. */
#define DISCOVER_ERR_CLOSED 10
/** The call is not allowed inside a callback. Retriable. */
#define DISCOVER_ERR_BUSY 11
/** The client belongs to the parent process; open a new one in this process. */
#define DISCOVER_ERR_FORKED 12
/** Out of memory, descriptors, threads or space. Retriable. */
#define DISCOVER_ERR_RESOURCE 13


/**
 * A timeout that never comes.
 */
#define DISCOVER_NO_TIMEOUT UINT32_MAX

/**
 * The instance is present, as far as is known.
 */
#define DISCOVER_STANDING_LIVE 1

/**
 * The registry has not heard of the instance for a whole TTL, so others may not see it. It is being
 * put back.
 */
#define DISCOVER_STANDING_LAPSED 2

/**
 * Another owner has taken over the id. It is left alone.
 */
#define DISCOVER_STANDING_REPLACED 3

/**
 * Unregistered.
 */
#define DISCOVER_STANDING_RELEASED 4

/**
 * Nothing received yet.
 */
#define DISCOVER_STATE_PENDING 1

/**
 * As the registry has it.
 */
#define DISCOVER_STATE_CURRENT 2

/**
 * The registry is lost for the moment; this is how it was.
 */
#define DISCOVER_STATE_STALE 3

/**
 * The registry told so as it happened: unregistered, or its TTL ran out.
 */
#define DISCOVER_DEPARTURE_REMOVED 1

/**
 * It was not there any more when the registry could be read again.
 */
#define DISCOVER_DEPARTURE_MISSING 2

/**
 * An instance came online.
 */
#define DISCOVER_EVENT_UP 1

/**
 * An instance changed its attributes or tags.
 */
#define DISCOVER_EVENT_UPDATE 2

/**
 * An instance went; it is told as it was last seen.
 */
#define DISCOVER_EVENT_DOWN 3

/**
 * Another instance is the oldest now, or there is none.
 */
#define DISCOVER_EVENT_LEADER 4

/**
 * The whole state has been told; what follows are changes. Once for each listener.
 */
#define DISCOVER_EVENT_CURRENT 5

/**
 * The registry is lost for the moment. The set is kept as it was.
 */
#define DISCOVER_EVENT_STALE 6

/**
 * The registry is back, and what changed meanwhile has been told.
 */
#define DISCOVER_EVENT_FRESH 7

/**
 * The registry answers, or has not been asked yet.
 */
#define DISCOVER_CONNECTION_CONNECTED 1

/**
 * It does not. Sets are kept as they were, registrations live on in the registry for their TTL.
 */
#define DISCOVER_CONNECTION_SUSPENDED 2

/**
 * It has not for the TTL that the URL says, so registrations may be gone; they are put back as soon as
 * it does. Sets are still kept.
 */
#define DISCOVER_CONNECTION_LOST 3

/**
 * Something is wrong with the library itself.
 */
#define DISCOVER_LEVEL_ERROR 1

/**
 * Something is wrong, and the library is dealing with it.
 */
#define DISCOVER_LEVEL_WARN 2

/**
 * What one wants to have read afterwards.
 */
#define DISCOVER_LEVEL_INFO 3

/**
 * What helps to find a fault.
 */
#define DISCOVER_LEVEL_DEBUG 4

/**
 * Everything.
 */
#define DISCOVER_LEVEL_TRACE 5

/**
 * A connection to a registry. It has two threads of its own: one works, one runs your callbacks.
 *
 * Release: discover_client_close(). Threads: any number at once.
 */
typedef struct discover_client discover_client;

/**
 * What a program asks for in a line of text: "redis.master[prod,stats];6379/tcp". It has a service, by
 * its name or by a path that ends with it; the tags that its instances must have; the port at which the
 * program wants to reach it; and the protocol, "tcp" unless it says "udp". It never changes.
 *
 * Owned ones come from discover_descriptor_parse(). Borrowed ones, which are const, belong to a
 * discover_descriptors. Each function but those that return a status takes NULL, and then returns NULL
 * or 0.
 *
 * Release: discover_descriptor_free(). Threads: any number at once.
 */
typedef struct discover_descriptor discover_descriptor;

/**
 * The descriptors of an environment, in the order of their names.
 *
 * Release: discover_descriptors_free(). Threads: any number at once.
 */
typedef struct discover_descriptors discover_descriptors;

/**
 * Why a call failed: a status to act on, and a message to read.
 *
 * Release: discover_error_free(). Threads: one at a time.
 */
typedef struct discover_error discover_error;

/**
 * One piece of news about a set.
 *
 * It lives until the callback that is told it returns, and what is borrowed from it as long.
 * Threads: the callback only.
 */
typedef struct discover_event discover_event;

/**
 * The events of a set, for a program that has a loop of its own (poll, epoll, libuv, GLib...): wait
 * until the descriptor is readable, then drain.
 *
 * Release: discover_feed_cancel(). Threads: one at a time.
 */
typedef struct discover_feed discover_feed;

/**
 * What an instance says as a host of etcd-discovery: where the public finds it and where the others in
 * its network do, with which ports and credentials. It never changes. What it does not say is "", 0 or
 * false.
 *
 * Owned ones come from discover_host_of(). Borrowed ones, which are const, belong to a discover_service.
 * Each function but those that return a status takes NULL, and then returns NULL, 0 or false.
 *
 * Release: discover_host_free(). Threads: any number at once.
 */
typedef struct discover_host discover_host;

/**
 * One running copy of a service, as others see it. It never changes; a change makes a new one.
 *
 * Owned ones come from discover_set_pick(), discover_lease_instance() and discover_instance_clone(). Borrowed ones, which are
 * const, belong to a snapshot or an event; a clone outlives it. All strings are NUL-terminated UTF-8,
 * and borrowed until the instance is released, or what it was borrowed from; one that holds a NUL ends
 * there. Each function takes NULL, and then returns NULL or 0.
 *
 * Release: discover_instance_free(). Threads: any number at once.
 */
typedef struct discover_instance discover_instance;

/**
 * A registration that is kept alive until it is released, its client is closed or the process dies.
 *
 * Release: discover_lease_release(). Threads: any number at once; release once.
 */
typedef struct discover_lease discover_lease;

/**
 * What a program asks for: "I am an instance of this service, and here I am". A setter that fails
 * changes nothing.
 *
 * Release: discover_registration_free(). Threads: one at a time.
 */
typedef struct discover_registration discover_registration;

/**
 * The instances of a set as the hosts of a service of etcd-discovery: those that were online when it was
 * asked for. It never changes. Each function but those that return a status takes NULL, and then returns
 * NULL, 0 or false.
 *
 * Release: discover_service_free(). Threads: any number at once.
 */
typedef struct discover_service discover_service;

/**
 * The live set of the instances of one service, or of those that match a filter. Reading it never
 * asks the network and never waits. Losing the registry does not empty it: it stays as it was, and
 * says that it is stale.
 *
 * Release: discover_set_release(). Threads: any number at once.
 */
typedef struct discover_set discover_set;

/**
 * The whole truth of one moment: it never changes, and stays for as long as it is held, also when
 * the client is closed.
 *
 * Release: discover_snapshot_free(). Threads: any number at once.
 */
typedef struct discover_snapshot discover_snapshot;

/**
 * A callback that is told the events of a set, or how a connection or a registration fares.
 *
 * Release: discover_subscription_cancel(). Threads: any number at once; release once.
 */
typedef struct discover_subscription discover_subscription;

/**
 * How a call ended: DISCOVER_OK, or a number of DISCOVER_ERR_... .
 *
 * Numbers never change and are never used again. A later version may bring new ones, so treat a
 * number that you do not know as a failure.
 */
typedef int32_t discover_status;

/**
 * Is told an event, which it may look at until it returns.
 */
typedef void (*discover_event_fn)(const discover_event *event, void *user_data);

/**
 * Is told that user_data will not be used again.
 */
typedef void (*discover_destroy_fn)(void *user_data);

/**
 * Is told how something fares: state is one of the numbers that the function which was given this
 * speaks of, and reason says why it is a bad one, else it is NULL; look at it until you return.
 */
typedef void (*discover_state_fn)(int32_t state, const discover_error *reason, void *user_data);

/**
 * Is told a record: its level (one of DISCOVER_LEVEL_...), the part of the library that it comes from,
 * and its text. Both are borrowed until it returns.
 */
typedef void (*discover_log_fn)(int32_t level, const char *target, const char *text, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is running, as DISCOVER_VERSION_NUMBER has that of this header.
 *
 * Threads: from any.
 */
uint32_t discover_version_number(void);

/**
 * The same as text: "1.2.3".
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_version_string(void);

/**
 * The name of a status: "ok", "timeout", "lease_lost", ...; "unknown" for any other number.
 *
 * status  one of DISCOVER_OK and DISCOVER_ERR_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_status_name(discover_status status);

/**
 * Whether the same call may succeed later, its arguments unchanged.
 *
 * status  one of DISCOVER_OK and DISCOVER_ERR_...
 *
 * Threads: from any.
 */
bool discover_status_is_retriable(discover_status status);

/**
 * The status that the call returned; DISCOVER_OK for NULL.
 *
 * error  [in, borrowed, optional]
 */
discover_status discover_error_status(const discover_error *error);

/**
 * What was wrong, where, what would be right, and the causes after colons; "" for NULL. It never
 * holds a password or token.
 *
 * error  [in, borrowed, optional]
 *
 * Returns [borrowed until the error is released].
 */
const char *discover_error_message(const discover_error *error);

/**
 * Whether the same call may succeed later, its arguments unchanged; false for NULL.
 *
 * error  [in, borrowed, optional]
 */
bool discover_error_is_retriable(const discover_error *error);

/**
 * Releases an error.
 *
 * error  [in, taken, optional]
 */
void discover_error_free(discover_error *error);

/**
 * Opens a client for the registry at url, and starts its threads. Fails if the registry does not
 * answer within the URL's connect_timeout (5 seconds by default), unless the URL says lazy=true.
 *
 * url    [in, borrowed, optional]  where the registry is: "local://", "etcd://host:2379?ttl=10s";
 *                                  NULL for the environment's DISCOVER_URL, else "local://"
 * out    [out, owned]              the client; NULL on failure. Release: discover_client_close()
 * error  [out, owned, optional]    why it failed. Release: discover_error_free()
 */
discover_status discover_client_open(const char *url,
                                     discover_client **out,
                                     discover_error **error);

/**
 * Where the registry is, secrets hidden; NULL for NULL.
 *
 * client  [in, borrowed]
 *
 * Returns [borrowed until the client is closed].
 */
const char *discover_client_url(const discover_client *client);

/**
 * Registers an instance and keeps it alive until the lease is released, the client is closed or the
 * process dies. When it returns DISCOVER_OK, others see the instance.
 *
 * client        [in, borrowed]
 * registration  [in, borrowed]          may be changed and used again
 * timeout_ms                            when to give up, or DISCOVER_NO_TIMEOUT for the URL's
 *                                       connect_timeout
 * out           [out, owned]            the lease; NULL on failure. Release: discover_lease_release()
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_client_register(const discover_client *client,
                                         const discover_registration *registration,
                                         uint32_t timeout_ms,
                                         discover_lease **out,
                                         discover_error **error);

/**
 * The live set of the instances of a service. It never waits: the set fills by itself, and says
 * whether it has. All sets of one service share one watch.
 *
 * client   [in, borrowed]
 * service  [in, borrowed]          1 to 128 of A-Z a-z 0-9 . _ -
 * out      [out, owned]            the set; NULL on failure. Release: discover_set_release()
 * error    [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_client_services(const discover_client *client,
                                         const char *service,
                                         discover_set **out,
                                         discover_error **error);

/**
 * Closes a client: ends calls that are waiting in other threads (with DISCOVER_ERR_CLOSED), releases
 * all leases, waits for callbacks, runs every destroy, and ends both threads. What was made by the
 * client stays valid: each still needs its own release, and sets and snapshots can still be read.
 *
 * The client is gone whatever the status, also after DISCOVER_ERR_TIMEOUT (a callback was still
 * running, or the registry did not answer: what could not be released goes with its TTL) and after
 * DISCOVER_ERR_FORKED. The one exception is DISCOVER_ERR_BUSY, inside one of the client's own
 * callbacks: it is then as open as before.
 *
 * client      [in, taken, optional]   no other call may be made with it from now on; NULL does nothing
 * timeout_ms                          how long each of these steps may take, or DISCOVER_NO_TIMEOUT
 * error       [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_client_close(discover_client *client,
                                      uint32_t timeout_ms,
                                      discover_error **error);

/**
 * Describes an instance of a service on this machine.
 *
 * service  [in, borrowed]          1 to 128 of A-Z a-z 0-9 . _ -
 * port                             1 to 65535; any other is refused
 * out      [out, owned]            the registration; NULL on failure.
 *                                  Release: discover_registration_free()
 * error    [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_new(const char *service,
                                          int64_t port,
                                          discover_registration **out,
                                          discover_error **error);

/**
 * Sets the host that others should use: a name or an IP address. By default it is this machine's own
 * address as the registry sees it.
 *
 * registration  [in, borrowed]
 * host          [in, borrowed]
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_set_host(discover_registration *registration,
                                               const char *host,
                                               discover_error **error);

/**
 * Sets the id, which is unique within the service. By default it is the address, host:port, and some
 * ways to write a registry know no other.
 *
 * registration  [in, borrowed]
 * id            [in, borrowed]
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_set_id(discover_registration *registration,
                                             const char *id,
                                             discover_error **error);

/**
 * Sets one attribute, in place of any of that name. "weight" (0 to 65535) has a meaning to
 * discover_set_pick(), "zone" to discover_instance_zone().
 *
 * registration  [in, borrowed]
 * name          [in, borrowed]
 * value         [in, borrowed]
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_set_attribute(discover_registration *registration,
                                                    const char *name,
                                                    const char *value,
                                                    discover_error **error);

/**
 * Adds a tag after those that are there.
 *
 * registration  [in, borrowed]
 * tag           [in, borrowed]
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_add_tag(discover_registration *registration,
                                              const char *tag,
                                              discover_error **error);

/**
 * Sets how long the instance outlives its last heartbeat: one second to 24 hours. By default it is
 * the URL's ttl, 10 seconds.
 *
 * registration  [in, borrowed]
 * ttl_ms                                in milliseconds
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_set_ttl_ms(discover_registration *registration,
                                                 uint32_t ttl_ms,
                                                 discover_error **error);

/**
 * Has the program keep the instance alive by itself: discover_lease_heartbeat() must then be called
 * within each TTL, else the instance goes. By default the library does it.
 *
 * registration  [in, borrowed]
 * error         [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_registration_set_heartbeat_manual(discover_registration *registration,
                                                           discover_error **error);

/**
 * Releases a registration. Leases made from it are not touched.
 *
 * registration  [in, taken, optional]
 */
void discover_registration_free(discover_registration *registration);

/**
 * The name of a standing: "live", "lapsed", "replaced", "released"; "unknown" for any other number.
 *
 * standing  one of DISCOVER_STANDING_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_standing_name(int32_t standing);

/**
 * Says "I am alive" now. The library does it by itself, unless the registration was set to manual
 * heartbeats; then this must happen within each TTL. An instance that had lapsed is put back.
 *
 * lease       [in, borrowed]
 * timeout_ms                          when to stop waiting, or DISCOVER_NO_TIMEOUT;
 *                                     the library goes on
 * error       [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_lease_heartbeat(const discover_lease *lease,
                                         uint32_t timeout_ms,
                                         discover_error **error);

/**
 * Replaces all attributes. When it fails, the old ones hold; after DISCOVER_ERR_TIMEOUT it is not
 * known which.
 *
 * lease       [in, borrowed]
 * names       [in, borrowed, optional]  count names; may be NULL if count is 0
 * values      [in, borrowed, optional]  count values, in the order of the names
 * count                                 how many
 * timeout_ms                            when to stop waiting, or DISCOVER_NO_TIMEOUT
 * error       [out, owned, optional]    why it failed. Release: discover_error_free()
 */
discover_status discover_lease_update(const discover_lease *lease,
                                      const char *const *names,
                                      const char *const *values,
                                      size_t count,
                                      uint32_t timeout_ms,
                                      discover_error **error);

/**
 * Takes the instance away; others see it go at once. Doing it again is no error. The lease still needs
 * its release.
 *
 * lease       [in, borrowed]
 * timeout_ms                          when to stop waiting, or DISCOVER_NO_TIMEOUT;
 *                                     the library goes on
 * error       [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_lease_unregister(const discover_lease *lease,
                                          uint32_t timeout_ms,
                                          discover_error **error);

/**
 * The service; NULL for NULL.
 *
 * lease  [in, borrowed]
 *
 * Returns [borrowed until the lease is released].
 */
const char *discover_lease_service(const discover_lease *lease);

/**
 * The id under which others see the instance; NULL for NULL.
 *
 * lease  [in, borrowed]
 *
 * Returns [borrowed until the lease is released].
 */
const char *discover_lease_id(const discover_lease *lease);

/**
 * The address under which others see the instance: host:port, IPv6 in brackets; NULL for NULL.
 *
 * lease  [in, borrowed]
 *
 * Returns [borrowed until the lease is released].
 */
const char *discover_lease_address(const discover_lease *lease);

/**
 * The instance as others see it, but for when it came online. Its attributes are those registered or
 * updated, with what was taken over since from what the service says to all of its registrations (with
 * layout=scalingo the credentials); discover_lease_on_standing() tells that. NULL for NULL and in a
 * forked child.
 *
 * lease  [in, borrowed]
 *
 * Returns [owned]. Release: discover_instance_free()
 */
discover_instance *discover_lease_instance(const discover_lease *lease);

/**
 * How the registration stands: one of DISCOVER_STANDING_...; 0 for NULL and in a forked child.
 *
 * lease   [in, borrowed]
 * reason  [out, owned, optional]  why it is lapsed or replaced, else NULL.
 *                                 Release: discover_error_free()
 */
int32_t discover_lease_standing(const discover_lease *lease, discover_error **reason);

/**
 * Unregisters, without waiting for the registry, and releases the lease.
 *
 * lease  [in, taken, optional]
 */
void discover_lease_release(discover_lease *lease);

/**
 * The name of a state: "pending", "current", "stale"; "unknown" for any other number.
 *
 * state  one of DISCOVER_STATE_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_state_name(int32_t state);

/**
 * The service; NULL for NULL.
 *
 * set  [in, borrowed]
 *
 * Returns [borrowed until the set is released].
 */
const char *discover_set_service(const discover_set *set);

/**
 * How fresh the set is now: one of DISCOVER_STATE_...; 0 for NULL. A snapshot tells why and since when.
 *
 * set  [in, borrowed]
 */
int32_t discover_set_state(const discover_set *set);

/**
 * The set of those that have all these attributes, with these values, and all these tags. Filters of
 * a filtered set add up.
 *
 * set              [in, borrowed]
 * names            [in, borrowed, optional]  names of attributes; may be NULL if there are none
 * values           [in, borrowed, optional]  their values, in the order of the names
 * attribute_count                            how many
 * tags             [in, borrowed, optional]  tags; may be NULL if there are none
 * tag_count                                  how many
 * out              [out, owned]              the narrower set; NULL on failure.
 *                                            Release: discover_set_release()
 * error            [out, owned, optional]    why it failed. Release: discover_error_free()
 */
discover_status discover_set_filter(const discover_set *set,
                                    const char *const *names,
                                    const char *const *values,
                                    size_t attribute_count,
                                    const char *const *tags,
                                    size_t tag_count,
                                    discover_set **out,
                                    discover_error **error);

/**
 * What the set is now, for as long as it is held. Nothing is copied.
 *
 * set  [in, borrowed]
 *
 * Returns [owned], NULL for NULL. Release: discover_snapshot_free()
 */
discover_snapshot *discover_set_take_snapshot(const discover_set *set);

/**
 * Those online as the hosts of a service of etcd-discovery: with URLs, ports by scheme, and shards.
 *
 * set  [in, borrowed]
 *
 * Returns [owned], NULL for NULL. Release: discover_service_free()
 */
discover_service *discover_set_hosts(const discover_set *set);

/**
 * Waits until at least count instances are online. With count 0 it waits until the set has been
 * received at all.
 *
 * set         [in, borrowed]
 * count                               how many are enough
 * timeout_ms                          when to give up, or DISCOVER_NO_TIMEOUT
 * out         [out, owned]            the set as it then was; NULL on failure.
 *                                     Release: discover_snapshot_free()
 * error       [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_set_wait(const discover_set *set,
                                  size_t count,
                                  uint32_t timeout_ms,
                                  discover_snapshot **out,
                                  discover_error **error);

/**
 * Picks one of those online. It never waits, and allocates nothing.
 *
 *   "round_robin"  one after the other, oldest first
 *   "random"       any, all alike
 *   "weighted"     any, in proportion to the weights
 *   "p2c"          the less busy, for its weight, of two at random; discover_set_done() says when the
 *                  call to it is over
 *   "hash"         the same one for the same key, with as few moves as possible when the set changes
 *
 * set     [in, borrowed]
 * policy  [in, borrowed]            one of the names above
 * key     [in, borrowed, optional]  what "hash" goes by; the others take NULL
 * out     [out, owned]              the instance; NULL on failure, and when nobody is online, which is
 *                                   none. Release: discover_instance_free()
 * error   [out, owned, optional]    why it failed. Release: discover_error_free()
 */
discover_status discover_set_pick(const discover_set *set,
                                  const char *policy,
                                  const char *key,
                                  discover_instance **out,
                                  discover_error **error);

/**
 * Says that the call to an instance picked by "p2c" is over.
 *
 * set       [in, borrowed]  NULL does nothing
 * instance  [in, borrowed]  NULL does nothing
 */
void discover_set_done(const discover_set *set, const discover_instance *instance);

/**
 * Has each event of the set handed to on_event, on the client's callback thread: first the whole
 * state, then DISCOVER_EVENT_CURRENT, then every change. Whoever is slow may miss states in between,
 * never the last one.
 *
 * set        [in, borrowed]
 * on_event                           called with each event; must not throw or longjmp
 * user_data  [in, taken, optional]   handed to on_event, and to destroy in the end
 * destroy                            called exactly once, whatever the result: on failure before the
 *                                    call returns, otherwise on the callback thread after the last
 *                                    event; may be NULL
 * out        [out, owned]            the subscription; NULL on failure.
 *                                    Release: discover_subscription_cancel()
 * error      [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_set_subscribe(const discover_set *set,
                                       discover_event_fn on_event,
                                       void *user_data,
                                       discover_destroy_fn destroy,
                                       discover_subscription **out,
                                       discover_error **error);

/**
 * Opens a feed of the set's events, the same as discover_set_subscribe() tells, to be fetched by a
 * program that has a loop of its own.
 *
 * set    [in, borrowed]
 * out    [out, owned]            the feed; NULL on failure. Release: discover_feed_cancel()
 * error  [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_set_feed(const discover_set *set,
                                  discover_feed **out,
                                  discover_error **error);

/**
 * Releases a set. Its subscriptions and feeds live on until they are released themselves.
 *
 * set  [in, taken, optional]
 */
void discover_set_release(discover_set *set);

/**
 * The name of a departure: "removed", "missing"; "unknown" for any other number.
 *
 * departure  one of DISCOVER_DEPARTURE_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_departure_name(int32_t departure);

/**
 * How many instances are online; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
size_t discover_snapshot_online_count(const discover_snapshot *snapshot);

/**
 * One of those online, oldest first; NULL from discover_snapshot_online_count() on.
 *
 * snapshot  [in, borrowed]
 * index                     counted from 0
 *
 * Returns [borrowed until the snapshot is released].
 */
const discover_instance *discover_snapshot_online(const discover_snapshot *snapshot, size_t index);

/**
 * How many of those recently gone are remembered; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
size_t discover_snapshot_offline_count(const discover_snapshot *snapshot);

/**
 * One of those recently gone, as it was last seen, in the order in which they went; NULL from
 * discover_snapshot_offline_count() on.
 *
 * snapshot  [in, borrowed]
 * index                     counted from 0
 *
 * Returns [borrowed until the snapshot is released].
 */
const discover_instance *discover_snapshot_offline(const discover_snapshot *snapshot, size_t index);

/**
 * When its going was noticed, in milliseconds since 1970 UTC; 0 where discover_snapshot_offline()
 * is NULL.
 *
 * snapshot  [in, borrowed]
 * index                     counted from 0
 */
int64_t discover_snapshot_offline_since_ms(const discover_snapshot *snapshot, size_t index);

/**
 * How its going was noticed: one of DISCOVER_DEPARTURE_...; 0 where discover_snapshot_offline() is
 * NULL.
 *
 * snapshot  [in, borrowed]
 * index                     counted from 0
 */
int32_t discover_snapshot_offline_departure(const discover_snapshot *snapshot, size_t index);

/**
 * The leader, which is the oldest instance online; NULL if there is none.
 *
 * snapshot  [in, borrowed]
 *
 * Returns [borrowed until the snapshot is released].
 */
const discover_instance *discover_snapshot_leader(const discover_snapshot *snapshot);

/**
 * A number that grows with each change of the set, so that two snapshots are quickly compared; 0 for
 * NULL.
 *
 * snapshot  [in, borrowed]
 */
uint64_t discover_snapshot_version(const discover_snapshot *snapshot);

/**
 * The registry's own revision; 0 before the first, where the registry has none, and for NULL. Never
 * lower within an epoch.
 *
 * snapshot  [in, borrowed]
 */
uint64_t discover_snapshot_revision(const discover_snapshot *snapshot);

/**
 * Which history of the registry the revision belongs to: grows when the registry turns out to be
 * another than before, restored from a backup for instance; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
uint64_t discover_snapshot_epoch(const discover_snapshot *snapshot);

/**
 * How many records of the service could not be read, and were left out; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
size_t discover_snapshot_invalid_count(const discover_snapshot *snapshot);

/**
 * Whether the set was ever received; false for NULL. Before that, nobody being online means nothing.
 *
 * snapshot  [in, borrowed]
 */
bool discover_snapshot_is_ready(const discover_snapshot *snapshot);

/**
 * Whether this is what the registry has, as far as anybody can know; false for NULL.
 *
 * snapshot  [in, borrowed]
 */
bool discover_snapshot_is_current(const discover_snapshot *snapshot);

/**
 * Why the registry is lost; NULL if it is not.
 *
 * snapshot  [in, borrowed]
 *
 * Returns [owned]. Release: discover_error_free()
 */
discover_error *discover_snapshot_take_fault(const discover_snapshot *snapshot);

/**
 * Since when the registry is lost, in milliseconds since 1970 UTC; 0 if it is not.
 *
 * snapshot  [in, borrowed]
 */
int64_t discover_snapshot_fault_since_ms(const discover_snapshot *snapshot);

/**
 * Releases a snapshot, and with it the instances borrowed from it.
 *
 * snapshot  [in, taken, optional]
 */
void discover_snapshot_free(discover_snapshot *snapshot);

/**
 * The service it is an instance of.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_service(const discover_instance *instance);

/**
 * Unique within the service.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_id(const discover_instance *instance);

/**
 * A host name or an IP address, without brackets.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_host(const discover_instance *instance);

/**
 * 1 to 65535.
 *
 * instance  [in, borrowed]
 */
uint16_t discover_instance_port(const discover_instance *instance);

/**
 * host:port, IPv6 in brackets.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_address(const discover_instance *instance);

/**
 * The value of an attribute; NULL if there is none of that name.
 *
 * instance  [in, borrowed]
 * name      [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_attribute(const discover_instance *instance, const char *name);

/**
 * How many attributes it has.
 *
 * instance  [in, borrowed]
 */
size_t discover_instance_attribute_count(const discover_instance *instance);

/**
 * The name of an attribute, in the order of the names; NULL from discover_instance_attribute_count()
 * on.
 *
 * instance  [in, borrowed]
 * index                     counted from 0
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_attribute_name(const discover_instance *instance,
                                             size_t index);

/**
 * The value of an attribute, in the order of the names; NULL from
 * discover_instance_attribute_count() on.
 *
 * instance  [in, borrowed]
 * index                     counted from 0
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_attribute_value(const discover_instance *instance, size_t index);

/**
 * How many tags it has.
 *
 * instance  [in, borrowed]
 */
size_t discover_instance_tag_count(const discover_instance *instance);

/**
 * A tag, in the order given; NULL from discover_instance_tag_count() on.
 *
 * instance  [in, borrowed]
 * index                     counted from 0
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_tag(const discover_instance *instance, size_t index);

/**
 * In how many layouts it is in the registry; 0 where the backend knows no layouts.
 *
 * instance  [in, borrowed]
 */
size_t discover_instance_layout_count(const discover_instance *instance);

/**
 * The name of a layout in whose form it is in the registry, in the order of the URL; NULL from
 * discover_instance_layout_count() on.
 *
 * instance  [in, borrowed]
 * index                     counted from 0
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_layout(const discover_instance *instance, size_t index);

/**
 * The registry's revision at which it came online. The lowest in a set is the leader.
 *
 * instance  [in, borrowed]
 */
uint64_t discover_instance_created(const discover_instance *instance);

/**
 * From its attribute "weight"; 1 without it.
 *
 * instance  [in, borrowed]
 */
uint32_t discover_instance_weight(const discover_instance *instance);

/**
 * From its attribute "zone"; NULL without it.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_zone(const discover_instance *instance);

/**
 * Whether the registry may have lost it by mistake: it vanished together with many others. It is picked
 * last, is no leader while another one can be, and goes unless it is back in time; false for NULL.
 *
 * instance  [in, borrowed]
 */
bool discover_instance_is_suspect(const discover_instance *instance);

/**
 * Keeps an instance beyond what it was borrowed from. Nothing is copied.
 *
 * instance  [in, borrowed]
 *
 * Returns [owned]. Release: discover_instance_free()
 */
discover_instance *discover_instance_clone(const discover_instance *instance);

/**
 * Releases an instance that is owned.
 *
 * instance  [in, taken, optional]
 */
void discover_instance_free(discover_instance *instance);

/**
 * The name of a kind of event: "up", "update", "down", "leader", "current", "stale", "fresh";
 * "unknown" for any other number.
 *
 * kind  one of DISCOVER_EVENT_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_event_kind_name(int32_t kind);

/**
 * What happened: one of DISCOVER_EVENT_...; 0 for NULL. A later version may bring new kinds, so pass over
 * a number that you do not know.
 *
 * event  [in, borrowed]
 */
int32_t discover_event_kind(const discover_event *event);

/**
 * The instance that the event is about: for up, update, down and leader. NULL if it is about none, as
 * when there is no leader any more. discover_instance_clone() keeps it.
 *
 * event  [in, borrowed]
 *
 * Returns [borrowed until the callback returns].
 */
const discover_instance *discover_event_instance(const discover_event *event);

/**
 * Why the registry is lost: for stale; else NULL.
 *
 * event  [in, borrowed]
 *
 * Returns [borrowed until the callback returns].
 */
const discover_error *discover_event_error(const discover_event *event);

/**
 * Ends a subscription and releases it. It returns at once, from any thread, from inside the callback
 * too. Called from inside, no further event follows. Called from elsewhere, one may be under way, so
 * release what the callback uses in destroy, which tells that the last is over.
 *
 * subscription  [in, taken, optional]
 */
void discover_subscription_cancel(discover_subscription *subscription);

/**
 * The name of the state of a connection: "connected", "suspended", "lost"; "unknown" for any other
 * number.
 *
 * connection  one of DISCOVER_CONNECTION_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_connection_name(int32_t connection);

/**
 * How the connection to the registry fares now: one of DISCOVER_CONNECTION_...; 0 for NULL and in a
 * forked child. It never waits.
 *
 * client  [in, borrowed]
 * reason  [out, owned, optional]  why it is suspended or lost, else NULL.
 *                                 Release: discover_error_free()
 */
int32_t discover_client_connection(const discover_client *client, discover_error **reason);

/**
 * Has on_state told how the connection fares, one of DISCOVER_CONNECTION_...: first how it does now,
 * then each change, on the client's callback thread. Whoever is slow may miss states in between, never
 * the last one.
 *
 * client     [in, borrowed]
 * on_state                           called with each state; must not throw or longjmp
 * user_data  [in, taken, optional]   handed to on_state, and to destroy in the end
 * destroy                            called exactly once, whatever the result: on failure before the
 *                                    call returns, otherwise on the callback thread after the last
 *                                    state; may be NULL
 * out        [out, owned]            the subscription; NULL on failure.
 *                                    Release: discover_subscription_cancel()
 * error      [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_client_on_connection(const discover_client *client,
                                              discover_state_fn on_state,
                                              void *user_data,
                                              discover_destroy_fn destroy,
                                              discover_subscription **out,
                                              discover_error **error);

/**
 * Has on_state told how the registration stands, one of DISCOVER_STANDING_...: first how it does now,
 * then each change, on the client's callback thread; and the same again when other attributes were
 * taken over, see discover_lease_instance(). Whoever is slow may miss standings in between, never the
 * last one; DISCOVER_STANDING_RELEASED is the last, unless the client is closed before.
 *
 * lease      [in, borrowed]
 * on_state                           called with each standing; must not throw or longjmp
 * user_data  [in, taken, optional]   handed to on_state, and to destroy in the end
 * destroy                            called exactly once, whatever the result: on failure before the
 *                                    call returns, otherwise on the callback thread after the last
 *                                    standing; may be NULL
 * out        [out, owned]            the subscription; NULL on failure.
 *                                    Release: discover_subscription_cancel()
 * error      [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_lease_on_standing(const discover_lease *lease,
                                           discover_state_fn on_state,
                                           void *user_data,
                                           discover_destroy_fn destroy,
                                           discover_subscription **out,
                                           discover_error **error);

/**
 * How many counters a client has.
 *
 * Threads: from any.
 */
size_t discover_metric_count(void);

/**
 * The name of a counter; NULL from discover_metric_count() on. All but the last only grow.
 *
 *   "reconnects"  connections to the registry made after the first
 *   "relists"     whole lists read after the first of each service
 *   "resyncs"     times the registry turned out to have another history than before: restored, or wiped
 *   "duplicates"  changes that the registry sent again, and that were dropped
 *   "mismatches"  comparisons with a list that showed that a change had not been told
 *   "invalid"     records that could not be read, each time one came
 *   "restored"    registrations put back after they were lost
 *   "lag_ms"      how old what the sets show may be at most, in milliseconds: since the registry last
 *                 gave a sign of life; 0 where nothing can be lost on the way, and while nothing is
 *                 followed
 *
 * A later version may bring new ones, and moves none.
 *
 * index  counted from 0
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_metric_name(size_t index);

/**
 * The value of a counter of a client, since it was opened. It never waits.
 *
 * client  [in, borrowed]
 * name    [in, borrowed]          one of discover_metric_name()
 * value   [out]                   0 on failure
 * error   [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_client_metric(const discover_client *client,
                                       const char *name,
                                       uint64_t *value,
                                       discover_error **error);

/**
 * A descriptor that is readable when there may be something to drain, and when the client has been
 * closed. Only wait for it; do not read, write or close it. It is closed by discover_feed_cancel(), so
 * take it out of your loop before. -1 for NULL.
 *
 * feed  [in, borrowed]
 */
int discover_feed_fd(const discover_feed *feed);

/**
 * Hands the events since the last drain to on_event, in this call and on this thread: the same events
 * and the same function as with discover_set_subscribe(), so that one handler serves both. It never
 * waits; there may be none. It turns the descriptor off, until there is more.
 *
 * DISCOVER_ERR_CLOSED says that the client was closed, and nothing will ever follow.
 *
 * feed       [in, borrowed]            not to be used by on_event
 * on_event                             called with each event; must not throw or longjmp
 * user_data  [in, borrowed, optional]  handed to on_event
 * error      [out, owned, optional]    why it failed. Release: discover_error_free()
 */
discover_status discover_feed_drain(discover_feed *feed,
                                    discover_event_fn on_event,
                                    void *user_data,
                                    discover_error **error);

/**
 * Ends a feed, closes its descriptor and releases it.
 *
 * feed  [in, taken, optional]
 */
void discover_feed_cancel(discover_feed *feed);

/**
 * What an instance says as a host, whichever the layout.
 *
 * instance  [in, borrowed]
 *
 * Returns [owned], NULL for NULL. Release: discover_host_free()
 */
discover_host *discover_host_of(const discover_instance *instance);

/**
 * The service.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_service_name(const discover_host *host);

/**
 * Unique within the service: the id of the instance.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_uuid(const discover_host *host);

/**
 * Where the public finds it; without a public address the private one.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_hostname(const discover_host *host);

/**
 * Where the others in its network find it.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_private_hostname(const discover_host *host);

/**
 * Of the credentials, which all public hosts of a service share.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_user(const discover_host *host);

/**
 * Of the credentials, as discover_host_user().
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_password(const discover_host *host);

/**
 * The shard that it serves.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_shard(const discover_host *host);

/**
 * Whether the public finds it.
 *
 * host  [in, borrowed]
 */
bool discover_host_is_public(const discover_host *host);

/**
 * Whether it must not be missing.
 *
 * host  [in, borrowed]
 */
bool discover_host_is_critical(const discover_host *host);

/**
 * Its public port for a scheme; 0 where it has none.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]  as in "http"
 */
uint16_t discover_host_port(const discover_host *host, const char *scheme);

/**
 * Its private port for a scheme; 0 where it has none.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]  as in "http"
 */
uint16_t discover_host_private_port(const discover_host *host, const char *scheme);

/**
 * How many public ports it has.
 *
 * host  [in, borrowed]
 */
size_t discover_host_port_count(const discover_host *host);

/**
 * The scheme of a public port, in the order of the schemes; NULL from discover_host_port_count() on.
 *
 * host   [in, borrowed]
 * index                  counted from 0
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_port_scheme(const discover_host *host,
                                      size_t index);

/**
 * How many private ports it has.
 *
 * host  [in, borrowed]
 */
size_t discover_host_private_port_count(const discover_host *host);

/**
 * The scheme of a private port, in the order of the schemes; NULL from discover_host_private_port_count() on.
 *
 * host   [in, borrowed]
 * index                  counted from 0
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_host_private_port_scheme(const discover_host *host,
                                              size_t index);

/**
 * Where the public finds it: "scheme://user:password@host:port" and the path.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]         as in "https"; "" for http, or else https, whichever there is
 * path    [in, borrowed]         what follows the port, as in "/status"; may be ""
 * out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
 * error   [out, owned, optional] why it failed. Release: discover_error_free()
 */
discover_status discover_host_url(const discover_host *host,
                                  const char *scheme,
                                  const char *path,
                                  char **out,
                                  discover_error **error);

/**
 * The same within its network.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]         as in "https"; "" for http, or else https, whichever there is
 * path    [in, borrowed]         what follows the port, as in "/status"; may be ""
 * out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
 * error   [out, owned, optional] why it failed. Release: discover_error_free()
 */
discover_status discover_host_private_url(const discover_host *host,
                                          const char *scheme,
                                          const char *path,
                                          char **out,
                                          discover_error **error);

/**
 * Releases a host that is owned.
 *
 * host  [in, taken, optional]
 */
void discover_host_free(discover_host *host);

/**
 * Releases a string that is owned.
 *
 * string  [in, taken, optional]
 *
 * Threads: from any.
 */
void discover_string_free(char *string);

/**
 * What it is called.
 *
 * service  [in, borrowed]
 *
 * Returns [borrowed until the service is released].
 */
const char *discover_service_name(const discover_service *service);

/**
 * Whether the public finds it: any host is public.
 *
 * service  [in, borrowed]
 */
bool discover_service_is_public(const discover_service *service);

/**
 * Whether it must not be missing: any host is critical.
 *
 * service  [in, borrowed]
 */
bool discover_service_is_critical(const discover_service *service);

/**
 * How many hosts it has.
 *
 * service  [in, borrowed]
 */
size_t discover_service_host_count(const discover_service *service);

/**
 * A host, oldest first: the first is the leader. NULL from discover_service_host_count() on.
 *
 * service  [in, borrowed]
 * index                    counted from 0
 *
 * Returns [borrowed until the service is released].
 */
const discover_host *discover_service_host(const discover_service *service, size_t index);

/**
 * Any host at random, of those that are fit for calls; NULL if there is none.
 *
 * service  [in, borrowed]
 *
 * Returns [borrowed until the service is released].
 */
const discover_host *discover_service_one(const discover_service *service);

/**
 * The same with the hosts of one shard alone.
 *
 * service  [in, borrowed]
 * shard    [in, borrowed]         its name
 * out      [out, owned]           the narrower service; NULL on failure. Release:
 *                                 discover_service_free()
 * error    [out, owned, optional] why it failed. Release: discover_error_free()
 */
discover_status discover_service_shard(const discover_service *service,
                                       const char *shard,
                                       discover_service **out,
                                       discover_error **error);

/**
 * Where it is found: at the public address that the last of its public hosts brought; where there is
 * none, or it is that of one shard, at that of any one host. DISCOVER_ERR_NOT_FOUND without a host.
 *
 * service  [in, borrowed]
 * scheme   [in, borrowed]         as in "https"; "" for http, or else https, whichever there is
 * path     [in, borrowed]         what follows the port, as in "/status"; may be ""
 * out      [out, owned]           the URL; NULL on failure. Release: discover_string_free()
 * error    [out, owned, optional] why it failed. Release: discover_error_free()
 */
discover_status discover_service_url(const discover_service *service,
                                     const char *scheme,
                                     const char *path,
                                     char **out,
                                     discover_error **error);

/**
 * Releases a service.
 *
 * service  [in, taken, optional]
 */
void discover_service_free(discover_service *service);

/**
 * Reads a descriptor. The error tells the column, counted from 1, and what is expected there.
 *
 * text   [in, borrowed]          as in "redis.master[prod,stats];6379/tcp"
 * out    [out, owned]            the descriptor; NULL on failure. Release: discover_descriptor_free()
 * error  [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_descriptor_parse(const char *text,
                                          discover_descriptor **out,
                                          discover_error **error);

/**
 * The name of the service, for discover_client_services(): the last part of the path, if there is one.
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_service(const discover_descriptor *descriptor);

/**
 * The whole path, as in "/services/prod/redis.master"; NULL where there is just a name.
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_path(const discover_descriptor *descriptor);

/**
 * How many tags it has.
 *
 * descriptor  [in, borrowed]
 */
size_t discover_descriptor_tag_count(const discover_descriptor *descriptor);

/**
 * A tag, for discover_set_filter(), in the order given; NULL from discover_descriptor_tag_count() on.
 *
 * descriptor  [in, borrowed]
 * index                       counted from 0
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_tag(const discover_descriptor *descriptor,
                                    size_t index);

/**
 * 1 to 65535: where the program wants to reach the service, which is not where an instance listens.
 *
 * descriptor  [in, borrowed]
 */
uint16_t discover_descriptor_port(const discover_descriptor *descriptor);

/**
 * "tcp" or "udp".
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_protocol(const discover_descriptor *descriptor);

/**
 * The descriptor as a text that reads as the same, with its protocol.
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_format(const discover_descriptor *descriptor);

/**
 * Releases a descriptor that is owned.
 *
 * descriptor  [in, taken, optional]
 */
void discover_descriptor_free(discover_descriptor *descriptor);

/**
 * The descriptors among the variables of this process: those whose names begin with a prefix. With
 * "BACKEND_", the variable BACKEND_REDIS=redis.master;6379 is the descriptor called REDIS. One that
 * cannot be read is passed over; the log names its variable, and what is wrong.
 *
 * prefix  [in, borrowed]          not empty
 * out     [out, owned]            the descriptors; NULL on failure. Release: discover_descriptors_free()
 * error   [out, owned, optional]  why it failed. Release: discover_error_free()
 */
discover_status discover_descriptors_from_env(const char *prefix,
                                              discover_descriptors **out,
                                              discover_error **error);

/**
 * The same for variables that the program has from elsewhere: those of a container, for instance. Where
 * a variable is there twice, the last one counts.
 *
 * prefix  [in, borrowed]            not empty
 * names   [in, borrowed, optional]  of the variables; NULL if there are none
 * values  [in, borrowed, optional]  their values, in the same order; NULL if there are none
 * count                             how many there are
 * out     [out, owned]              the descriptors; NULL on failure. Release:
 *                                   discover_descriptors_free()
 * error   [out, owned, optional]    why it failed. Release: discover_error_free()
 */
discover_status discover_descriptors_from_pairs(const char *prefix,
                                                const char *const *names,
                                                const char *const *values,
                                                size_t count,
                                                discover_descriptors **out,
                                                discover_error **error);

/**
 * How many descriptors there are.
 *
 * descriptors  [in, borrowed]
 */
size_t discover_descriptors_count(const discover_descriptors *descriptors);

/**
 * What a descriptor is called: the name of its variable, without the prefix. NULL from
 * discover_descriptors_count() on.
 *
 * descriptors  [in, borrowed]
 * index                        counted from 0
 *
 * Returns [borrowed until the descriptors are released].
 */
const char *discover_descriptors_name(const discover_descriptors *descriptors, size_t index);

/**
 * A descriptor, in the order of the names; NULL from discover_descriptors_count() on.
 *
 * descriptors  [in, borrowed]
 * index                        counted from 0
 *
 * Returns [borrowed until the descriptors are released].
 */
const discover_descriptor *discover_descriptors_get(const discover_descriptors *descriptors,
                                                    size_t index);

/**
 * Releases the descriptors of an environment, each of them.
 *
 * descriptors  [in, taken, optional]
 */
void discover_descriptors_free(discover_descriptors *descriptors);

/**
 * The name of a level: "error", "warn", "info", "debug", "trace"; "unknown" for any other number.
 *
 * level  one of DISCOVER_LEVEL_...
 *
 * Returns [borrowed, for ever].
 *
 * Threads: from any.
 */
const char *discover_level_name(int32_t level);

/**
 * Has the library's log records of this level and graver handed to on_record, in place of any function
 * before, or to nobody. There is one log for the whole process. When it returns DISCOVER_OK, the
 * function before has had its last call and its destroy, unless this is called from inside it.
 *
 * level                              one of DISCOVER_LEVEL_...
 * on_record                          called on a thread of its own, one record at a time; must not
 *                                    throw or longjmp; NULL for no log. If it is too slow, records
 *                                    are dropped
 * user_data  [in, taken, optional]   handed to on_record, and to destroy in the end
 * destroy                            called exactly once, whatever the result: on failure, or without
 *                                    on_record, before the call returns; otherwise on the thread of
 *                                    on_record after its last call; may be NULL
 * error      [out, owned, optional]  why it failed. Release: discover_error_free()
 *
 * Threads: from any.
 */
discover_status discover_log_set(int32_t level,
                                 discover_log_fn on_record,
                                 void *user_data,
                                 discover_destroy_fn destroy,
                                 discover_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DISCOVER_H */
