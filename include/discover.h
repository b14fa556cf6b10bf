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

#ifndef DISCOVER_H
#define DISCOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The major version number of this header. */
#define DISCOVER_VERSION_MAJOR 0
/** The minor version number of this header. */
#define DISCOVER_VERSION_MINOR 1
/** The patch version number of this header. */
#define DISCOVER_VERSION_PATCH 0

/** True if the version of this header is major.minor.patch or later. */
#define DISCOVER_VERSION_AT_LEAST(major, minor, patch) \
    (DISCOVER_VERSION_NUMBER >= (major) * 1000000 + (minor) * 1000 + (patch))

/** The version as one comparable number: 1.2.3 is 1002003. */
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
 * No timeout: the call blocks until it has a result, or as the function states.
 */
#define DISCOVER_NO_TIMEOUT UINT32_MAX

/**
 * The instance is registered, as far as the client knows.
 */
#define DISCOVER_STANDING_LIVE 1

/**
 * The registry has not received a heartbeat for a whole TTL, so other clients may not see the instance.
 * The library is restoring it.
 */
#define DISCOVER_STANDING_LAPSED 2

/**
 * Another owner has registered the same id. The library does not restore the instance.
 */
#define DISCOVER_STANDING_REPLACED 3

/**
 * The instance is unregistered.
 */
#define DISCOVER_STANDING_RELEASED 4

/**
 * No data has been received yet.
 */
#define DISCOVER_STATE_PENDING 1

/**
 * The set matches the registry.
 */
#define DISCOVER_STATE_CURRENT 2

/**
 * The connection to the registry is lost; the set shows its last known contents.
 */
#define DISCOVER_STATE_STALE 3

/**
 * The registry reported the removal as it happened: the instance was unregistered, or its TTL expired.
 */
#define DISCOVER_OFFLINE_REASON_REMOVED 1

/**
 * The instance was missing when the registry could be read again after a loss of the connection.
 */
#define DISCOVER_OFFLINE_REASON_MISSING 2

/**
 * An instance came online.
 */
#define DISCOVER_EVENT_UP 1

/**
 * An instance changed its attributes or tags.
 */
#define DISCOVER_EVENT_UPDATE 2

/**
 * An instance went offline. The event carries its last known state.
 */
#define DISCOVER_EVENT_DOWN 3

/**
 * The leader, which is the oldest instance online, changed, or the last instance went offline.
 */
#define DISCOVER_EVENT_LEADER 4

/**
 * The initial state is complete; every later event is a change. Emitted once for each subscription.
 */
#define DISCOVER_EVENT_CURRENT 5

/**
 * The connection to the registry is lost. The set keeps its last contents.
 */
#define DISCOVER_EVENT_STALE 6

/**
 * The connection to the registry is restored, and all changes since its loss have been emitted.
 */
#define DISCOVER_EVENT_FRESH 7

/**
 * The registry is responding, or has not been contacted yet.
 */
#define DISCOVER_CONNECTION_CONNECTED 1

/**
 * The registry is not responding. Sets keep their last contents; registrations remain in the registry
 * until their TTL expires.
 */
#define DISCOVER_CONNECTION_SUSPENDED 2

/**
 * The registry has not responded for the URL's ttl, so registrations may have expired. They are restored
 * as soon as the registry responds. Sets keep their last contents.
 */
#define DISCOVER_CONNECTION_LOST 3

/**
 * A fault of the library itself.
 */
#define DISCOVER_LEVEL_ERROR 1

/**
 * A problem that the library is handling.
 */
#define DISCOVER_LEVEL_WARN 2

/**
 * Normal operation: connections and registrations.
 */
#define DISCOVER_LEVEL_INFO 3

/**
 * Details for finding a fault.
 */
#define DISCOVER_LEVEL_DEBUG 4

/**
 * Everything.
 */
#define DISCOVER_LEVEL_TRACE 5

/**
 * A connection to one registry.
 *
 * A client starts two threads: one for I/O and timers, one that runs callbacks.
 *
 * Release: discover_client_close(). Threads: any number at once.
 */
typedef struct discover_client discover_client;

/**
 * A service reference in one line of text, for example "redis.master[prod,stats];6379/tcp".
 *
 * A descriptor consists of a service, given by its name or by a path that ends with it; the tags that
 * instances must have; the port at which the program wants to reach the service; and the protocol, "tcp"
 * by default or "udp". It is immutable.
 *
 * Owned descriptors come from discover_descriptor_parse(). Borrowed ones, which are const, belong to a
 * discover_descriptors. Functions that return no status accept NULL and then return NULL or 0.
 *
 * Release: discover_descriptor_free(). Threads: any number at once.
 */
typedef struct discover_descriptor discover_descriptor;

/**
 * The descriptors found in a set of environment variables, ordered by name.
 *
 * Release: discover_descriptors_free(). Threads: any number at once.
 */
typedef struct discover_descriptors discover_descriptors;

/**
 * A failure: a status for the program and a message for people.
 *
 * Release: discover_error_free(). Threads: one at a time.
 */
typedef struct discover_error discover_error;

/**
 * One change of a set.
 *
 * An event, and everything borrowed from it, is valid until the callback that received it returns.
 *
 * Threads: the callback only.
 */
typedef struct discover_event discover_event;

/**
 * The events of a set for a program with its own event loop (poll, epoll, libuv, GLib). The program waits
 * until the feed's file descriptor is readable and then drains the feed.
 *
 * Release: discover_feed_cancel(). Threads: one at a time.
 */
typedef struct discover_feed discover_feed;

/**
 * One running copy of a service, as other clients see it. It is immutable; a change creates a new
 * instance object.
 *
 * Owned instances come from discover_set_pick(), discover_lease_instance() and discover_instance_clone().
 * Borrowed ones, which are const, belong to a snapshot or an event; a clone outlives it. All strings are
 * NUL-terminated UTF-8 and valid until the instance, or the object it was borrowed from, is released. A
 * string that contains a NUL ends there. Each function accepts NULL and then returns NULL or 0.
 *
 * Release: discover_instance_free(). Threads: any number at once.
 */
typedef struct discover_instance discover_instance;

/**
 * A registration that the library keeps alive until it is released, its client is closed or the process
 * exits.
 *
 * Release: discover_lease_release(). Threads: any number at once; release once.
 */
typedef struct discover_lease discover_lease;

/**
 * The instance that a program wants to register. A setter that fails changes nothing.
 *
 * Release: discover_registration_free(). Threads: one at a time.
 */
typedef struct discover_registration discover_registration;

/**
 * An instance in the terms of Scalingo's etcd-discovery: its public and private addresses, ports and
 * credentials. It is immutable. Fields that the instance does not set are "", 0 or false.
 *
 * Owned hosts come from discover_scalingo_host_from_instance(). Borrowed ones, which are const, belong to
 * a discover_scalingo_service. Functions that return no status accept NULL and then return NULL, 0 or
 * false.
 *
 * Release: discover_scalingo_host_free(). Threads: any number at once.
 */
typedef struct discover_scalingo_host discover_scalingo_host;

/**
 * The instances of a set as the hosts of a service of Scalingo's etcd-discovery. It holds the hosts that
 * were online when it was created, and is immutable. Functions that return no status accept NULL and then
 * return NULL, 0 or false.
 *
 * Release: discover_scalingo_service_free(). Threads: any number at once.
 */
typedef struct discover_scalingo_service discover_scalingo_service;

/**
 * The live set of the instances of one service, optionally restricted by a filter.
 *
 * Reading a set uses memory only: it never accesses the network and never blocks. If the connection to
 * the registry is lost, the set keeps its last contents and becomes stale. In a forked child the set of the
 * parent cannot be read, except for its name.
 *
 * Release: discover_set_release(). Threads: any number at once.
 */
typedef struct discover_set discover_set;

/**
 * The contents of a set at one moment. A snapshot is immutable and stays valid until it is released, even
 * after the client is closed.
 *
 * Release: discover_snapshot_free(). Threads: any number at once.
 */
typedef struct discover_snapshot discover_snapshot;

/**
 * A callback subscribed to the events of a set, or to the state of a connection or a registration.
 *
 * Release: discover_subscription_cancel(). Threads: any number at once; release once.
 */
typedef struct discover_subscription discover_subscription;

/**
 * The result of a call: DISCOVER_OK or one of DISCOVER_ERR_...
 *
 * Numbers never change and are never reused. A later version may add numbers, so treat an unknown number
 * as a failure.
 */
typedef int32_t discover_status;

/**
 * A callback for the events of a set. The event is borrowed until the callback returns.
 */
typedef void (*discover_event_fn)(const discover_event *event, void *user_data);

/**
 * A callback that releases user_data, which the library does not use afterwards.
 */
typedef void (*discover_destroy_fn)(void *user_data);

/**
 * A callback for the state of a connection or of a registration.
 *
 * state is one of DISCOVER_CONNECTION_... or DISCOVER_STANDING_..., depending on the function that took
 * the callback. reason is the error behind a bad state, else NULL; it is borrowed until the callback
 * returns.
 */
typedef void (*discover_state_fn)(int32_t state, const discover_error *reason, void *user_data);

/**
 * A callback for log records: the level (one of DISCOVER_LEVEL_...), the part of the library that logs,
 * and the text. Both strings are borrowed until the callback returns.
 */
typedef void (*discover_log_fn)(int32_t level, const char *target, const char *text, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of the loaded library in the form of DISCOVER_VERSION_NUMBER, which is the version
 * of the header.
 *
 * Threads: from any.
 */
uint32_t discover_version_number(void);

/**
 * Returns the version of the loaded library as text, for example "1.2.3".
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_version_string(void);

/**
 * Returns the name of a status: "ok", "timeout", "lease_lost" and so on; "unknown" for any other number.
 *
 * status  one of DISCOVER_OK and DISCOVER_ERR_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_status_name(discover_status status);

/**
 * Returns true if the same call with the same arguments may succeed later.
 *
 * status  one of DISCOVER_OK and DISCOVER_ERR_...
 *
 * Threads: from any.
 */
bool discover_status_is_retriable(discover_status status);

/**
 * Returns the status of the failed call; DISCOVER_OK for NULL.
 *
 * error  [in, borrowed, optional]
 */
discover_status discover_error_status(const discover_error *error);

/**
 * Returns the message: the operation, the object and the cause, with underlying causes after colons; ""
 * for NULL. It never contains a password or token.
 *
 * error  [in, borrowed, optional]
 *
 * Returns [borrowed until the error is released].
 */
const char *discover_error_message(const discover_error *error);

/**
 * Returns true if the same call with the same arguments may succeed later; false for NULL.
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
 * Opens a client for the registry at a URL and starts its threads.
 *
 * The call blocks until the registry answers, at most for the URL's connect_timeout (5 seconds by
 * default, at most 1 hour). With lazy=true in the URL it returns without contacting the registry.
 *
 * url    [in, borrowed, optional]  the registry, for example "local://" or "etcd://host:2379?ttl=10s";
 *                                  NULL for the environment variable DISCOVER_URL, else "local://"
 * out    [out, owned]              the client; NULL on failure. Release: discover_client_close()
 * error  [out, owned, optional]    the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed URL, DISCOVER_ERR_UNSUPPORTED for a backend that
 * this build does not contain, DISCOVER_ERR_UNAVAILABLE or DISCOVER_ERR_TIMEOUT if the registry does not
 * answer, DISCOVER_ERR_PERMISSION_DENIED if it rejects the login, DISCOVER_ERR_RESOURCE if threads or
 * descriptors are exhausted.
 */
discover_status discover_client_open(const char *url,
                                     discover_client **out,
                                     discover_error **error);

/**
 * Returns the URL of the registry, with its secrets masked; NULL for NULL.
 *
 * client  [in, borrowed]
 *
 * Returns [borrowed until the client is closed].
 */
const char *discover_client_url(const discover_client *client);

/**
 * Registers an instance and keeps it alive until the lease is released, the client is closed or the
 * process exits. When the call returns DISCOVER_OK, other clients see the instance.
 *
 * client        [in, borrowed]
 * registration  [in, borrowed]          the instance; it may be changed and used again afterwards
 * timeout_ms                            how long to retry, in milliseconds; DISCOVER_NO_TIMEOUT for the
 *                                       URL's connect_timeout
 * out           [out, owned]            the lease; NULL on failure. Release: discover_lease_release()
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT if the registry's layout cannot represent the instance,
 * DISCOVER_ERR_UNAVAILABLE or DISCOVER_ERR_TIMEOUT if the registry does not answer in time,
 * DISCOVER_ERR_PERMISSION_DENIED if it refuses the write, DISCOVER_ERR_CLOSED if another thread closes the
 * client during the call.
 */
discover_status discover_client_register(const discover_client *client,
                                         const discover_registration *registration,
                                         uint32_t timeout_ms,
                                         discover_lease **out,
                                         discover_error **error);

/**
 * Opens the live set of the instances of a service.
 *
 * The call does not block: the set is filled in the background, and discover_set_state() reports when it
 * is current. All sets of one service share one watch.
 *
 * client   [in, borrowed]
 * service  [in, borrowed]          the service name: 1 to 128 characters of A-Z a-z 0-9 . _ -
 * out      [out, owned]            the set; NULL on failure. Release: discover_set_release()
 * error    [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed service name.
 */
discover_status discover_client_services(const discover_client *client,
                                         const char *service,
                                         discover_set **out,
                                         discover_error **error);

/**
 * Closes a client: ends calls that block in other threads (with DISCOVER_ERR_CLOSED), releases all
 * leases, waits for callbacks, calls every destroy function and ends both threads.
 *
 * Objects that the client created stay valid. Each still needs its own release, and sets and snapshots
 * can still be read.
 *
 * The client is released whatever the status, including DISCOVER_ERR_TIMEOUT and DISCOVER_ERR_FORKED. The
 * only exception is DISCOVER_ERR_BUSY, which leaves the client open.
 *
 * client      [in, taken, optional]   the client, not to be used by any later call; NULL does nothing
 * timeout_ms                          how long each of these steps may take, in milliseconds, or
 *                                     DISCOVER_NO_TIMEOUT
 * error       [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_BUSY inside one of the client's own callbacks, DISCOVER_ERR_TIMEOUT if a callback
 * was still running or the registry did not answer (leases that could not be released expire with their
 * TTL).
 */
discover_status discover_client_close(discover_client *client,
                                      uint32_t timeout_ms,
                                      discover_error **error);

/**
 * Creates a registration for an instance of a service on this machine.
 *
 * service  [in, borrowed]          the service name: 1 to 128 characters of A-Z a-z 0-9 . _ -
 * port                             1 to 65535
 * out      [out, owned]            the registration; NULL on failure.
 *                                  Release: discover_registration_free()
 * error    [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed service name or a port out of range.
 */
discover_status discover_registration_new(const char *service,
                                          int64_t port,
                                          discover_registration **out,
                                          discover_error **error);

/**
 * Sets the host name or IP address of the instance. The default is this machine's own address as the
 * registry sees it.
 *
 * registration  [in, borrowed]
 * host          [in, borrowed]
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed host.
 */
discover_status discover_registration_set_host(discover_registration *registration,
                                               const char *host,
                                               discover_error **error);

/**
 * Sets the id of the instance, which is unique within the service. The default is the address, host:port;
 * some layouts support no other id.
 *
 * registration  [in, borrowed]
 * id            [in, borrowed]
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed id.
 */
discover_status discover_registration_set_id(discover_registration *registration,
                                             const char *id,
                                             discover_error **error);

/**
 * Sets one attribute, replacing any attribute of the same name.
 *
 * Two names have a meaning: discover_set_pick() uses "weight" (0 to 65535), and discover_instance_zone()
 * returns "zone".
 *
 * registration  [in, borrowed]
 * name          [in, borrowed]
 * value         [in, borrowed]
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a name or value that is not acceptable.
 */
discover_status discover_registration_set_attribute(discover_registration *registration,
                                                    const char *name,
                                                    const char *value,
                                                    discover_error **error);

/**
 * Appends a tag.
 *
 * registration  [in, borrowed]
 * tag           [in, borrowed]
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a malformed tag.
 */
discover_status discover_registration_add_tag(discover_registration *registration,
                                              const char *tag,
                                              discover_error **error);

/**
 * Sets the time to live: how long the instance stays online after its last heartbeat. The default is the
 * URL's ttl, 10 seconds.
 *
 * registration  [in, borrowed]
 * ttl_ms                                in milliseconds: 1000 (1 second) to 86400000 (24 hours)
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for a time out of range.
 */
discover_status discover_registration_set_ttl_ms(discover_registration *registration,
                                                 uint32_t ttl_ms,
                                                 discover_error **error);

/**
 * Switches to manual heartbeats: the program calls discover_lease_heartbeat() within each TTL, else the
 * instance goes offline. By default the library sends the heartbeats.
 *
 * registration  [in, borrowed]
 * error         [out, owned, optional]  the failure. Release: discover_error_free()
 */
discover_status discover_registration_set_heartbeat_manual(discover_registration *registration,
                                                           discover_error **error);

/**
 * Releases a registration. Leases made from it are not affected.
 *
 * registration  [in, taken, optional]
 */
void discover_registration_free(discover_registration *registration);

/**
 * Returns the name of a standing: "live", "lapsed", "replaced", "released"; "unknown" for any other
 * number.
 *
 * standing  one of DISCOVER_STANDING_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_standing_name(int32_t standing);

/**
 * Sends a heartbeat now. A lapsed instance is restored.
 *
 * The library sends heartbeats by itself, unless the registration was set to manual heartbeats; then this
 * function must be called within each TTL.
 *
 * lease       [in, borrowed]
 * timeout_ms                          how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT; the
 *                                     heartbeat continues in the background afterwards
 * error       [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_TIMEOUT or DISCOVER_ERR_UNAVAILABLE if the registry does not answer,
 * DISCOVER_ERR_REPLACED if another owner has registered the id, DISCOVER_ERR_CLOSED if the lease is
 * unregistered or its client is closed.
 */
discover_status discover_lease_heartbeat(const discover_lease *lease,
                                         uint32_t timeout_ms,
                                         discover_error **error);

/**
 * Replaces all attributes of the instance.
 *
 * On failure the old attributes stay in effect; after DISCOVER_ERR_TIMEOUT either may be in effect.
 *
 * lease       [in, borrowed]
 * names       [in, borrowed, optional]  count names; may be NULL if count is 0
 * values      [in, borrowed, optional]  count values, in the order of names; may be NULL if count is 0
 * count                                 the number of attributes
 * timeout_ms                            how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT
 * error       [out, owned, optional]    the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for an attribute that is not acceptable, DISCOVER_ERR_TIMEOUT or
 * DISCOVER_ERR_UNAVAILABLE if the registry does not answer, DISCOVER_ERR_CLOSED if the lease is
 * unregistered or its client is closed.
 */
discover_status discover_lease_update(const discover_lease *lease,
                                      const char *const *names,
                                      const char *const *values,
                                      size_t count,
                                      uint32_t timeout_ms,
                                      discover_error **error);

/**
 * Unregisters the instance; other clients see it go offline at once. A call that fails is repeated in the background
 * until the registry confirms it; a further call tries again at once, and succeeds if the instance is not registered
 * any more. The lease still needs its release.
 *
 * lease       [in, borrowed]
 * timeout_ms                          how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT; the
 *                                     call continues in the background afterwards
 * error       [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_TIMEOUT or DISCOVER_ERR_UNAVAILABLE if the registry does not answer,
 * DISCOVER_ERR_CLOSED if the client is closed.
 */
discover_status discover_lease_unregister(const discover_lease *lease,
                                          uint32_t timeout_ms,
                                          discover_error **error);

/**
 * Returns the service name; NULL for NULL.
 *
 * lease  [in, borrowed]
 *
 * Returns [borrowed until the lease is released].
 */
const char *discover_lease_service(const discover_lease *lease);

/**
 * Returns the id of the registered instance; NULL for NULL.
 *
 * lease  [in, borrowed]
 *
 * Returns [borrowed until the lease is released].
 */
const char *discover_lease_id(const discover_lease *lease);

/**
 * Returns the address of the registered instance as host:port, with IPv6 in brackets; NULL for NULL.
 *
 * lease  [in, borrowed]
 *
 * Returns [borrowed until the lease is released].
 */
const char *discover_lease_address(const discover_lease *lease);

/**
 * Returns the instance as other clients see it, except for the revision at which it came online; NULL for
 * NULL and in a forked child.
 *
 * Its attributes are those last registered or updated, merged with attributes that all registrations of
 * the service share (the credentials with layout=scalingo). discover_lease_on_standing() reports when
 * shared attributes change.
 *
 * lease  [in, borrowed]
 *
 * Returns [owned]. Release: discover_instance_free()
 */
discover_instance *discover_lease_instance(const discover_lease *lease);

/**
 * Returns the current standing of the registration: one of DISCOVER_STANDING_...; 0 for NULL and in a
 * forked child. The call does not block.
 *
 * lease   [in, borrowed]
 * reason  [out, owned, optional]  why the registration is lapsed or replaced, else NULL.
 *                                 Release: discover_error_free()
 */
int32_t discover_lease_standing(const discover_lease *lease,
                                discover_error **reason);

/**
 * Unregisters the instance in the background and releases the lease. The call does not block.
 *
 * lease  [in, taken, optional]
 */
void discover_lease_release(discover_lease *lease);

/**
 * Returns the name of a set state: "pending", "current", "stale"; "unknown" for any other number.
 *
 * state  one of DISCOVER_STATE_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_state_name(int32_t state);

/**
 * Returns the service name; NULL for NULL.
 *
 * set  [in, borrowed]
 *
 * Returns [borrowed until the set is released].
 */
const char *discover_set_service(const discover_set *set);

/**
 * Returns the state of the set: one of DISCOVER_STATE_...; 0 for NULL and in a forked child. A snapshot has the
 * cause and the start of staleness.
 *
 * set  [in, borrowed]
 */
int32_t discover_set_state(const discover_set *set);

/**
 * Opens the set of the instances that have all given attributes, with these values, and all given tags.
 * Filters of a filtered set are combined.
 *
 * set              [in, borrowed]
 * names            [in, borrowed, optional]  attribute names; may be NULL if attribute_count is 0
 * values           [in, borrowed, optional]  their values, in the order of names; may be NULL if
 *                                            attribute_count is 0
 * attribute_count                            the number of attributes
 * tags             [in, borrowed, optional]  tags; may be NULL if tag_count is 0
 * tag_count                                  the number of tags
 * out              [out, owned]              the narrower set; NULL on failure.
 *                                            Release: discover_set_release()
 * error            [out, owned, optional]    the failure. Release: discover_error_free()
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
 * Returns a snapshot of the current contents of a set. No data is copied.
 *
 * set  [in, borrowed]
 *
 * Returns [owned], NULL for NULL and in a forked child. Release: discover_snapshot_free()
 */
discover_snapshot *discover_set_take_snapshot(const discover_set *set);

/**
 * Blocks until at least count instances are online. With count 0 it blocks until the first data is
 * received.
 *
 * set         [in, borrowed]
 * count                               the minimum number of instances
 * timeout_ms                          how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT
 * out         [out, owned]            a snapshot taken when the call ends; NULL on failure.
 *                                     Release: discover_snapshot_free()
 * error       [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_TIMEOUT if there were too few instances in time, DISCOVER_ERR_CLOSED if the client
 * is closed.
 */
discover_status discover_set_wait(const discover_set *set,
                                  size_t count,
                                  uint32_t timeout_ms,
                                  discover_snapshot **out,
                                  discover_error **error);

/**
 * Picks an instance that is online according to a load-balancing policy. The call does not block and
 * allocates no memory.
 *
 * Instances of weight 0 are picked only if all candidates have weight 0. Apart from that, "round_robin" and "random"
 * do not regard weights.
 *
 *   "round_robin"  each instance in turn, oldest first
 *   "random"       any, with equal probability
 *   "weighted"     any, with a probability in proportion to its weight
 *   "p2c"          of two random instances the less busy one for its weight (power of two choices);
 *                  discover_set_done() reports the end of the call to it
 *   "hash"         the same instance for the same key, with as few moves as possible when the set
 *                  changes
 *
 * set     [in, borrowed]
 * policy  [in, borrowed]            one of the names above
 * key     [in, borrowed, optional]  the key of "hash"; NULL for the other policies
 * out     [out, owned]              the instance; NULL on failure, and with DISCOVER_OK if there is no
 *                                   candidate. Release: discover_instance_free()
 * error   [out, owned, optional]    the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for an unknown policy, "hash" without a key, or a key with
 * another policy.
 */
discover_status discover_set_pick(const discover_set *set,
                                  const char *policy,
                                  const char *key,
                                  discover_instance **out,
                                  discover_error **error);

/**
 * Reports that the call to an instance picked by "p2c" is over.
 *
 * set       [in, borrowed]  NULL does nothing
 * instance  [in, borrowed]  NULL does nothing
 */
void discover_set_done(const discover_set *set, const discover_instance *instance);

/**
 * Subscribes a callback to the events of a set.
 *
 * The callback receives the full state first, then DISCOVER_EVENT_CURRENT, then every change. A slow
 * callback may miss intermediate states, but never the latest one.
 *
 * set        [in, borrowed]
 * on_event                           called with each event on the callback thread; must not throw or
 *                                    longjmp
 * user_data  [in, taken, optional]   passed to on_event, and finally to destroy
 * destroy                            called exactly once, whatever the result: on failure before the
 *                                    call returns, otherwise on the callback thread after the last
 *                                    event; may be NULL
 * out        [out, owned]            the subscription; NULL on failure.
 *                                    Release: discover_subscription_cancel()
 * error      [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_CLOSED if the client is closed.
 */
discover_status discover_set_subscribe(const discover_set *set,
                                       discover_event_fn on_event,
                                       void *user_data,
                                       discover_destroy_fn destroy,
                                       discover_subscription **out,
                                       discover_error **error);

/**
 * Opens a feed of the events of a set, for a program with its own event loop. The events are those of
 * discover_set_subscribe().
 *
 * set    [in, borrowed]
 * out    [out, owned]            the feed; NULL on failure. Release: discover_feed_cancel()
 * error  [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_CLOSED if the client is closed, DISCOVER_ERR_RESOURCE if there is no file
 * descriptor left.
 */
discover_status discover_set_feed(const discover_set *set,
                                  discover_feed **out,
                                  discover_error **error);

/**
 * Releases a set. Its subscriptions and feeds stay active until they are released themselves.
 *
 * set  [in, taken, optional]
 */
void discover_set_release(discover_set *set);

/**
 * Returns the name of an offline reason: "removed", "missing"; "unknown" for any other number.
 *
 * reason  one of DISCOVER_OFFLINE_REASON_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_offline_reason_name(int32_t reason);

/**
 * Returns the number of instances online; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
size_t discover_snapshot_online_count(const discover_snapshot *snapshot);

/**
 * Returns an instance that is online, oldest first; NULL if the index is out of range.
 *
 * snapshot  [in, borrowed]
 * index                     from 0 to discover_snapshot_online_count() - 1
 *
 * Returns [borrowed until the snapshot is released].
 */
const discover_instance *discover_snapshot_online(const discover_snapshot *snapshot, size_t index);

/**
 * Returns the number of instances that recently went offline; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
size_t discover_snapshot_offline_count(const discover_snapshot *snapshot);

/**
 * Returns the last known state of an instance that recently went offline, in the order of going offline;
 * NULL if the index is out of range.
 *
 * snapshot  [in, borrowed]
 * index                     from 0 to discover_snapshot_offline_count() - 1
 *
 * Returns [borrowed until the snapshot is released].
 */
const discover_instance *discover_snapshot_offline(const discover_snapshot *snapshot,
                                                   size_t index);

/**
 * Returns when the client noticed that an instance went offline, in milliseconds since 1970 UTC; 0 if the
 * index is out of range.
 *
 * snapshot  [in, borrowed]
 * index                     from 0 to discover_snapshot_offline_count() - 1
 */
int64_t discover_snapshot_offline_at_ms(const discover_snapshot *snapshot,
                                        size_t index);

/**
 * Returns how the client noticed that an instance went offline: one of DISCOVER_OFFLINE_REASON_...; 0 if
 * the index is out of range.
 *
 * snapshot  [in, borrowed]
 * index                     from 0 to discover_snapshot_offline_count() - 1
 */
int32_t discover_snapshot_offline_reason(const discover_snapshot *snapshot,
                                         size_t index);

/**
 * Returns the leader, which is the oldest instance online; NULL if there is none.
 *
 * snapshot  [in, borrowed]
 *
 * Returns [borrowed until the snapshot is released].
 */
const discover_instance *discover_snapshot_leader(const discover_snapshot *snapshot);

/**
 * Returns the version of the set, which grows with each change, so that two snapshots can be compared
 * quickly; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
uint64_t discover_snapshot_version(const discover_snapshot *snapshot);

/**
 * Returns the registry's own revision, which never decreases within an epoch; 0 before the first read, for
 * registries without revisions, and for NULL.
 *
 * snapshot  [in, borrowed]
 */
uint64_t discover_snapshot_revision(const discover_snapshot *snapshot);

/**
 * Returns the epoch of the registry, to which the revision belongs; 0 for NULL. The epoch grows when the
 * registry has another history than before, for example after it was restored from a backup.
 *
 * snapshot  [in, borrowed]
 */
uint64_t discover_snapshot_epoch(const discover_snapshot *snapshot);

/**
 * Returns the number of malformed records of the service, which are left out of the set; 0 for NULL.
 *
 * snapshot  [in, borrowed]
 */
size_t discover_snapshot_invalid_count(const discover_snapshot *snapshot);

/**
 * Returns true if the set has been received at least once; false for NULL. Before that, an empty set means
 * nothing.
 *
 * snapshot  [in, borrowed]
 */
bool discover_snapshot_is_ready(const discover_snapshot *snapshot);

/**
 * Returns true if the snapshot matches the registry, as far as the client knows; false for NULL.
 *
 * snapshot  [in, borrowed]
 */
bool discover_snapshot_is_current(const discover_snapshot *snapshot);

/**
 * Returns why the connection to the registry is lost; NULL if it is not lost.
 *
 * snapshot  [in, borrowed]
 *
 * Returns [owned]. Release: discover_error_free()
 */
discover_error *discover_snapshot_take_fault(const discover_snapshot *snapshot);

/**
 * Returns since when the connection to the registry is lost, in milliseconds since 1970 UTC; 0 if it is
 * not lost.
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
 * Returns the service name.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_service(const discover_instance *instance);

/**
 * Returns the id, which is unique within the service.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_id(const discover_instance *instance);

/**
 * Returns the host name or IP address, without brackets.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_host(const discover_instance *instance);

/**
 * Returns the port, 1 to 65535.
 *
 * instance  [in, borrowed]
 */
uint16_t discover_instance_port(const discover_instance *instance);

/**
 * Returns the address as host:port, with IPv6 in brackets.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_address(const discover_instance *instance);

/**
 * Returns the value of an attribute; NULL if the instance has no attribute of that name.
 *
 * instance  [in, borrowed]
 * name      [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_attribute(const discover_instance *instance, const char *name);

/**
 * Returns the number of attributes.
 *
 * instance  [in, borrowed]
 */
size_t discover_instance_attribute_count(const discover_instance *instance);

/**
 * Returns the name of an attribute, ordered by name; NULL if the index is out of range.
 *
 * instance  [in, borrowed]
 * index                     from 0 to discover_instance_attribute_count() - 1
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_attribute_name(const discover_instance *instance, size_t index);

/**
 * Returns the value of an attribute, ordered by name; NULL if the index is out of range.
 *
 * instance  [in, borrowed]
 * index                     from 0 to discover_instance_attribute_count() - 1
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_attribute_value(const discover_instance *instance, size_t index);

/**
 * Returns the number of tags.
 *
 * instance  [in, borrowed]
 */
size_t discover_instance_tag_count(const discover_instance *instance);

/**
 * Returns a tag, in the order of the registration; NULL if the index is out of range.
 *
 * instance  [in, borrowed]
 * index                     from 0 to discover_instance_tag_count() - 1
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_tag(const discover_instance *instance, size_t index);

/**
 * Returns the number of layouts in which the registry stores the instance; 0 for backends without
 * layouts.
 *
 * instance  [in, borrowed]
 */
size_t discover_instance_layout_count(const discover_instance *instance);

/**
 * Returns the name of a layout in which the registry stores the instance, in the order of the URL; NULL
 * if the index is out of range.
 *
 * instance  [in, borrowed]
 * index                     from 0 to discover_instance_layout_count() - 1
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_layout(const discover_instance *instance,
                                     size_t index);

/**
 * Returns the registry revision at which the instance came online. The instance with the lowest revision
 * in a set is the leader.
 *
 * instance  [in, borrowed]
 */
uint64_t discover_instance_created(const discover_instance *instance);

/**
 * Returns the weight, from the attribute "weight"; 1 if it is not set.
 *
 * instance  [in, borrowed]
 */
uint32_t discover_instance_weight(const discover_instance *instance);

/**
 * Returns the zone, from the attribute "zone"; NULL if it is not set.
 *
 * instance  [in, borrowed]
 *
 * Returns [borrowed until the instance is released].
 */
const char *discover_instance_zone(const discover_instance *instance);

/**
 * Returns true if the registry may have lost the instance by mistake, because it vanished together with
 * many others; false for NULL.
 *
 * A suspect instance is picked last and is leader only if there is no other candidate. It goes offline
 * unless it reappears in time.
 *
 * instance  [in, borrowed]
 */
bool discover_instance_is_suspect(const discover_instance *instance);

/**
 * Adds a reference to an instance, so that it outlives the object it was borrowed from. No data is copied.
 *
 * instance  [in, borrowed]
 *
 * Returns [owned]. Release: discover_instance_free()
 */
discover_instance *discover_instance_clone(const discover_instance *instance);

/**
 * Releases an owned instance.
 *
 * instance  [in, taken, optional]
 */
void discover_instance_free(discover_instance *instance);

/**
 * Returns the name of an event kind: "up", "update", "down", "leader", "current", "stale", "fresh";
 * "unknown" for any other number.
 *
 * kind  one of DISCOVER_EVENT_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_event_kind_name(int32_t kind);

/**
 * Returns the kind of an event: one of DISCOVER_EVENT_...; 0 for NULL. A later version may add kinds, so
 * ignore unknown numbers.
 *
 * event  [in, borrowed]
 */
int32_t discover_event_kind(const discover_event *event);

/**
 * Returns the instance of an up, update, down or leader event; NULL for other kinds and for a leader event
 * without a leader. discover_instance_clone() keeps the instance longer than the event.
 *
 * event  [in, borrowed]
 *
 * Returns [borrowed until the callback returns].
 */
const discover_instance *discover_event_instance(const discover_event *event);

/**
 * Returns the cause of a stale event; NULL for other kinds.
 *
 * event  [in, borrowed]
 *
 * Returns [borrowed until the callback returns].
 */
const discover_error *discover_event_error(const discover_event *event);

/**
 * Ends a subscription and releases it. The call returns at once, from any thread, including from inside
 * the callback.
 *
 * When called inside the callback, no further call follows. When called elsewhere, one call may still be
 * running, so release the callback's resources in destroy, which is called after the last one.
 *
 * subscription  [in, taken, optional]
 */
void discover_subscription_cancel(discover_subscription *subscription);

/**
 * Returns the name of a connection state: "connected", "suspended", "lost"; "unknown" for any other
 * number.
 *
 * connection  one of DISCOVER_CONNECTION_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_connection_name(int32_t connection);

/**
 * Returns the current state of the connection to the registry: one of DISCOVER_CONNECTION_...; 0 for NULL
 * and in a forked child. The call does not block.
 *
 * client  [in, borrowed]
 * reason  [out, owned, optional]  why the connection is suspended or lost, else NULL.
 *                                 Release: discover_error_free()
 */
int32_t discover_client_connection(const discover_client *client,
                                   discover_error **reason);

/**
 * Subscribes a callback to the state of the connection: one of DISCOVER_CONNECTION_...
 *
 * The callback receives the current state first and then each change. A slow callback may miss
 * intermediate states, but never the latest one.
 *
 * client     [in, borrowed]
 * on_state                           called with each state on the callback thread; must not throw or
 *                                    longjmp
 * user_data  [in, taken, optional]   passed to on_state, and finally to destroy
 * destroy                            called exactly once, whatever the result: on failure before the
 *                                    call returns, otherwise on the callback thread after the last
 *                                    state; may be NULL
 * out        [out, owned]            the subscription; NULL on failure.
 *                                    Release: discover_subscription_cancel()
 * error      [out, owned, optional]  the failure. Release: discover_error_free()
 */
discover_status discover_client_on_connection(const discover_client *client,
                                              discover_state_fn on_state,
                                              void *user_data,
                                              discover_destroy_fn destroy,
                                              discover_subscription **out,
                                              discover_error **error);

/**
 * Subscribes a callback to the standing of a registration: one of DISCOVER_STANDING_...
 *
 * The callback receives the current standing first and then each change. It is called again with the same
 * standing when the lease adopts other attributes, see discover_lease_instance(). A slow callback may
 * miss intermediate standings, but never the latest one. DISCOVER_STANDING_RELEASED is the last standing,
 * unless the client is closed first.
 *
 * lease      [in, borrowed]
 * on_state                           called with each standing on the callback thread; must not throw
 *                                    or longjmp
 * user_data  [in, taken, optional]   passed to on_state, and finally to destroy
 * destroy                            called exactly once, whatever the result: on failure before the
 *                                    call returns, otherwise on the callback thread after the last
 *                                    standing; may be NULL
 * out        [out, owned]            the subscription; NULL on failure.
 *                                    Release: discover_subscription_cancel()
 * error      [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_CLOSED if the client is closed.
 */
discover_status discover_lease_on_standing(const discover_lease *lease,
                                           discover_state_fn on_state,
                                           void *user_data,
                                           discover_destroy_fn destroy,
                                           discover_subscription **out,
                                           discover_error **error);

/**
 * Returns the number of counters of a client.
 *
 * Threads: from any.
 */
size_t discover_metric_count(void);

/**
 * Returns the name of a counter; NULL if the index is out of range. All counters except lag_ms only grow.
 *
 *   "reconnects"  connections to the registry after the first one
 *   "relists"     complete reads of a service after the first one of each service
 *   "resyncs"     detected changes of the registry's history: it was restored or wiped
 *   "duplicates"  changes that the registry sent again and that were dropped
 *   "mismatches"  comparisons with a complete read that revealed a missed change
 *   "invalid"     malformed records, counted each time one was received
 *   "restored"    registrations restored after they were lost
 *   "lag_ms"      maximum age of what the sets show, in milliseconds: the time since the registry last
 *                 sent a progress response; 0 for registries that cannot lose a change, and while
 *                 nothing is watched
 *
 * A later version may add counters and never renumbers them.
 *
 * index  from 0 to discover_metric_count() - 1
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_metric_name(size_t index);

/**
 * Reads the value of a counter since the client was opened. The call does not block.
 *
 * client  [in, borrowed]
 * name    [in, borrowed]          one of discover_metric_name()
 * value   [out]                   the value; 0 on failure
 * error   [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for an unknown name.
 */
discover_status discover_client_metric(const discover_client *client,
                                       const char *name,
                                       uint64_t *value,
                                       discover_error **error);

/**
 * Returns a file descriptor that is readable when events may be pending and when the client has been
 * closed; -1 for NULL.
 *
 * Only poll the descriptor; do not read, write or close it. discover_feed_cancel() closes it, so remove
 * it from the event loop first.
 *
 * feed  [in, borrowed]
 */
int discover_feed_fd(const discover_feed *feed);

/**
 * Passes the events since the last drain to on_event, within this call and on this thread.
 *
 * The events are those of discover_set_subscribe(), so one handler can serve both. The call does not
 * block; there may be no events. It makes the file descriptor unreadable until there are more events.
 *
 * feed       [in, borrowed]            not to be used by on_event
 * on_event                             called with each event; must not throw or longjmp
 * user_data  [in, borrowed, optional]  passed to on_event
 * error      [out, owned, optional]    the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_CLOSED if the client is closed; no event will follow.
 */
discover_status discover_feed_drain(discover_feed *feed,
                                    discover_event_fn on_event,
                                    void *user_data,
                                    discover_error **error);

/**
 * Ends a feed, closes its file descriptor and releases the feed.
 *
 * feed  [in, taken, optional]
 */
void discover_feed_cancel(discover_feed *feed);

/**
 * Converts an instance of any layout to a host.
 *
 * instance  [in, borrowed]
 *
 * Returns [owned], NULL for NULL. Release: discover_scalingo_host_free()
 */
discover_scalingo_host *discover_scalingo_host_from_instance(const discover_instance *instance);

/**
 * Returns the service name.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_service_name(const discover_scalingo_host *host);

/**
 * Returns the id of the instance, which is unique within the service.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_uuid(const discover_scalingo_host *host);

/**
 * Returns the public host name; without a public address the private one.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_hostname(const discover_scalingo_host *host);

/**
 * Returns the host name within the private network.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_private_hostname(const discover_scalingo_host *host);

/**
 * Returns the user name of the credentials, which all public hosts of a service share.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_user(const discover_scalingo_host *host);

/**
 * Returns the password of the credentials, which all public hosts of a service share.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_password(const discover_scalingo_host *host);

/**
 * Returns the name of the shard that the host serves.
 *
 * host  [in, borrowed]
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_shard(const discover_scalingo_host *host);

/**
 * Returns true if the host is reachable from the public network.
 *
 * host  [in, borrowed]
 */
bool discover_scalingo_host_is_public(const discover_scalingo_host *host);

/**
 * Returns true if the host is marked critical, which means that the service needs it.
 *
 * host  [in, borrowed]
 */
bool discover_scalingo_host_is_critical(const discover_scalingo_host *host);

/**
 * Returns the public port for a scheme; 0 if there is none.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]  for example "http"
 */
uint16_t discover_scalingo_host_port(const discover_scalingo_host *host, const char *scheme);

/**
 * Returns the private port for a scheme; 0 if there is none.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]  for example "http"
 */
uint16_t discover_scalingo_host_private_port(const discover_scalingo_host *host,
                                             const char *scheme);

/**
 * Returns the number of public ports.
 *
 * host  [in, borrowed]
 */
size_t discover_scalingo_host_port_count(const discover_scalingo_host *host);

/**
 * Returns the scheme of a public port, ordered by scheme; NULL if the index is out of range.
 *
 * host   [in, borrowed]
 * index                  from 0 to discover_scalingo_host_port_count() - 1
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_port_scheme(const discover_scalingo_host *host, size_t index);

/**
 * Returns the number of private ports.
 *
 * host  [in, borrowed]
 */
size_t discover_scalingo_host_private_port_count(const discover_scalingo_host *host);

/**
 * Returns the scheme of a private port, ordered by scheme; NULL if the index is out of range.
 *
 * host   [in, borrowed]
 * index                  from 0 to discover_scalingo_host_private_port_count() - 1
 *
 * Returns [borrowed until the host is released].
 */
const char *discover_scalingo_host_private_port_scheme(const discover_scalingo_host *host,
                                                       size_t index);

/**
 * Formats the public URL of a host: "scheme://user:password@host:port" and the path.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]         for example "https"; "" for http if the host has it, else https
 * path    [in, borrowed]         appended after the port, for example "/status"; may be ""
 * out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
 * error   [out, owned, optional] the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT if the host has no port for the scheme.
 */
discover_status discover_scalingo_host_url(const discover_scalingo_host *host,
                                           const char *scheme,
                                           const char *path,
                                           char **out,
                                           discover_error **error);

/**
 * Formats the URL of a host within the private network: "scheme://user:password@host:port" and the path.
 *
 * host    [in, borrowed]
 * scheme  [in, borrowed]         for example "https"; "" for http if the host has it, else https
 * path    [in, borrowed]         appended after the port, for example "/status"; may be ""
 * out     [out, owned]           the URL; NULL on failure. Release: discover_string_free()
 * error   [out, owned, optional] the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT if the host has no private port for the scheme.
 */
discover_status discover_scalingo_host_private_url(const discover_scalingo_host *host,
                                                   const char *scheme,
                                                   const char *path,
                                                   char **out,
                                                   discover_error **error);

/**
 * Releases an owned host.
 *
 * host  [in, taken, optional]
 */
void discover_scalingo_host_free(discover_scalingo_host *host);

/**
 * Releases an owned string.
 *
 * string  [in, taken, optional]
 *
 * Threads: from any.
 */
void discover_string_free(char *string);

/**
 * Converts the instances of a set that are online to a service with hosts, which have URLs, ports by
 * scheme, and shards.
 *
 * set  [in, borrowed]
 *
 * Returns [owned], NULL for NULL and in a forked child. Release: discover_scalingo_service_free()
 */
discover_scalingo_service *discover_scalingo_service_from_set(const discover_set *set);

/**
 * Returns the service name.
 *
 * service  [in, borrowed]
 *
 * Returns [borrowed until the service is released].
 */
const char *discover_scalingo_service_name(const discover_scalingo_service *service);

/**
 * Returns true if at least one host is public.
 *
 * service  [in, borrowed]
 */
bool discover_scalingo_service_is_public(const discover_scalingo_service *service);

/**
 * Returns true if at least one host is marked critical.
 *
 * service  [in, borrowed]
 */
bool discover_scalingo_service_is_critical(const discover_scalingo_service *service);

/**
 * Returns the number of hosts.
 *
 * service  [in, borrowed]
 */
size_t discover_scalingo_service_host_count(const discover_scalingo_service *service);

/**
 * Returns a host, oldest first; NULL if the index is out of range. The first host is the leader.
 *
 * service  [in, borrowed]
 * index                    from 0 to discover_scalingo_service_host_count() - 1
 *
 * Returns [borrowed until the service is released].
 */
const discover_scalingo_host *discover_scalingo_service_host(const discover_scalingo_service *service,
                                                             size_t index);

/**
 * Returns a random healthy host; NULL if there is none.
 *
 * A host qualifies unless its instance reports that it takes no calls. Suspect and degraded hosts are
 * returned only if there is no other.
 *
 * service  [in, borrowed]
 *
 * Returns [borrowed until the service is released].
 */
const discover_scalingo_host *discover_scalingo_service_one(const discover_scalingo_service *service);

/**
 * Creates a service with only the hosts of one shard.
 *
 * service  [in, borrowed]
 * shard    [in, borrowed]         the shard name
 * out      [out, owned]           the narrower service, possibly empty; NULL on failure.
 *                                 Release: discover_scalingo_service_free()
 * error    [out, owned, optional] the failure. Release: discover_error_free()
 */
discover_status discover_scalingo_service_shard(const discover_scalingo_service *service,
                                                const char *shard,
                                                discover_scalingo_service **out,
                                                discover_error **error);

/**
 * Formats the URL of a service: the public URL of its newest public host. Without a public host, and for
 * a service narrowed to one shard, it is the URL of a random healthy host.
 *
 * service  [in, borrowed]
 * scheme   [in, borrowed]         for example "https"; "" for http if the host has it, else https
 * path     [in, borrowed]         appended after the port, for example "/status"; may be ""
 * out      [out, owned]           the URL; NULL on failure. Release: discover_string_free()
 * error    [out, owned, optional] the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_NOT_FOUND if no host qualifies, DISCOVER_ERR_INVALID_ARGUMENT if the host has no
 * port for the scheme.
 */
discover_status discover_scalingo_service_url(const discover_scalingo_service *service,
                                              const char *scheme,
                                              const char *path,
                                              char **out,
                                              discover_error **error);

/**
 * Releases a service.
 *
 * service  [in, taken, optional]
 */
void discover_scalingo_service_free(discover_scalingo_service *service);

/**
 * Parses a descriptor.
 *
 * text   [in, borrowed]          for example "redis.master[prod,stats];6379/tcp"
 * out    [out, owned]            the descriptor; NULL on failure. Release: discover_descriptor_free()
 * error  [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for malformed text; the message names the column, counted from 1,
 * and what is expected there.
 */
discover_status discover_descriptor_parse(const char *text,
                                          discover_descriptor **out,
                                          discover_error **error);

/**
 * Returns the service name, for discover_client_services(): the last part of the path, if there is a path.
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_service(const discover_descriptor *descriptor);

/**
 * Returns the whole path, for example "/services/prod/redis.master"; NULL if the descriptor has only a
 * name.
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_path(const discover_descriptor *descriptor);

/**
 * Returns the number of tags.
 *
 * descriptor  [in, borrowed]
 */
size_t discover_descriptor_tag_count(const discover_descriptor *descriptor);

/**
 * Returns a tag, in the order of the text, for discover_set_filter(); NULL if the index is out of range.
 *
 * descriptor  [in, borrowed]
 * index                       from 0 to discover_descriptor_tag_count() - 1
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_tag(const discover_descriptor *descriptor,
                                    size_t index);

/**
 * Returns the port at which the program wants to reach the service, 1 to 65535. It is not the port of any
 * instance.
 *
 * descriptor  [in, borrowed]
 */
uint16_t discover_descriptor_port(const discover_descriptor *descriptor);

/**
 * Returns the protocol: "tcp" or "udp".
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_protocol(const discover_descriptor *descriptor);

/**
 * Returns the descriptor as text, with its protocol. Parsing this text gives an equal descriptor.
 *
 * descriptor  [in, borrowed]
 *
 * Returns [borrowed until the descriptor is released].
 */
const char *discover_descriptor_format(const discover_descriptor *descriptor);

/**
 * Releases an owned descriptor.
 *
 * descriptor  [in, taken, optional]
 */
void discover_descriptor_free(discover_descriptor *descriptor);

/**
 * Parses the descriptors in the environment variables of this process whose names begin with a prefix.
 *
 * With the prefix "BACKEND_", the variable BACKEND_REDIS=redis.master;6379 is the descriptor named REDIS.
 * A malformed variable is skipped and logged with its name and the cause.
 *
 * prefix  [in, borrowed]          not empty
 * out     [out, owned]            the descriptors; NULL on failure. Release: discover_descriptors_free()
 * error   [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for an empty prefix.
 */
discover_status discover_descriptors_from_env(const char *prefix,
                                              discover_descriptors **out,
                                              discover_error **error);

/**
 * Parses the descriptors in variables that the caller passes, for example those of a container, as
 * discover_descriptors_from_env() does. If a variable occurs twice, the last one counts.
 *
 * prefix  [in, borrowed]            not empty
 * names   [in, borrowed, optional]  the names of the variables; may be NULL if count is 0
 * values  [in, borrowed, optional]  their values, in the order of names; may be NULL if count is 0
 * count                             the number of variables
 * out     [out, owned]              the descriptors; NULL on failure. Release:
 *                                   discover_descriptors_free()
 * error   [out, owned, optional]    the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for an empty prefix.
 */
discover_status discover_descriptors_from_pairs(const char *prefix,
                                                const char *const *names,
                                                const char *const *values,
                                                size_t count,
                                                discover_descriptors **out,
                                                discover_error **error);

/**
 * Returns the number of descriptors.
 *
 * descriptors  [in, borrowed]
 */
size_t discover_descriptors_count(const discover_descriptors *descriptors);

/**
 * Returns the name of a descriptor, which is the name of its variable without the prefix; NULL if the
 * index is out of range.
 *
 * descriptors  [in, borrowed]
 * index                        from 0 to discover_descriptors_count() - 1
 *
 * Returns [borrowed until the descriptors are released].
 */
const char *discover_descriptors_name(const discover_descriptors *descriptors,
                                      size_t index);

/**
 * Returns a descriptor, ordered by name; NULL if the index is out of range.
 *
 * descriptors  [in, borrowed]
 * index                        from 0 to discover_descriptors_count() - 1
 *
 * Returns [borrowed until the descriptors are released].
 */
const discover_descriptor *discover_descriptors_get(const discover_descriptors *descriptors,
                                                    size_t index);

/**
 * Releases the list and all its descriptors.
 *
 * descriptors  [in, taken, optional]
 */
void discover_descriptors_free(discover_descriptors *descriptors);

/**
 * Returns the name of a log level: "error", "warn", "info", "debug", "trace"; "unknown" for any other
 * number.
 *
 * level  one of DISCOVER_LEVEL_...
 *
 * Returns [borrowed, never released].
 *
 * Threads: from any.
 */
const char *discover_level_name(int32_t level);

/**
 * Sets the log callback of the process, replacing any previous one. It receives the records of this level
 * and of more severe ones.
 *
 * When the call returns DISCOVER_OK, the previous callback has returned from its last call and its destroy
 * function has been called, unless discover_log_set() is called from inside that callback.
 *
 * level                              one of DISCOVER_LEVEL_...
 * on_record                          called on a thread of its own, one record at a time; must not
 *                                    throw or longjmp; NULL for no log. If it is too slow, records
 *                                    are dropped
 * user_data  [in, taken, optional]   passed to on_record, and finally to destroy
 * destroy                            called exactly once, whatever the result: on failure, or without
 *                                    on_record, before the call returns; otherwise on the thread of
 *                                    on_record after its last call; may be NULL
 * error      [out, owned, optional]  the failure. Release: discover_error_free()
 *
 * Errors: DISCOVER_ERR_INVALID_ARGUMENT for an unknown level, DISCOVER_ERR_RESOURCE if the log thread
 * cannot be started.
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
