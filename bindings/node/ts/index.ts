/**
 * Services find each other. Begin with {@link connect}.
 *
 * **Times** are milliseconds; a moment is a `Date`.
 *
 * **Errors** are all a {@link DiscoverError}; decide by its `code`, or by `retriable`. A call that takes
 * time rejects its promise, also when an argument is wrong. After `close` calls fail with
 * `ERR_DISCOVER_CLOSED`, and what was read can still be read. In a forked process they fail with
 * `ERR_DISCOVER_FORKED`; open a client there.
 *
 * **Threads.** All of it runs on the event loop of the thread that called `connect`: callbacks one at a
 * time, and nothing blocks. A worker opens a client of its own.
 *
 * @packageDocumentation
 */

export { Client, connect } from './client';
export { Descriptor } from './descriptor';
export { DiscoverError, type ErrorCode } from './errors';
export { Host, Service } from './host';
export { Lease } from './lease';
export { ServiceSet } from './set';
export { Subscription } from './subscription';
export type {
  CloseOptions,
  Condition,
  ConnectionState,
  OfflineInstance,
  DiscoverEvent,
  FilterOptions,
  Instance,
  Metrics,
  Policy,
  Protocol,
  RegisterOptions,
  Snapshot,
  Standing,
  Status,
  WaitOptions,
  WatchOptions,
} from './types';
export { Watch } from './watch';
