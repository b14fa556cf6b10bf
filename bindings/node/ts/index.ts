/**
 * Client library for service discovery. Begin with {@link connect}.
 *
 * **Times** are milliseconds; a point in time is a `Date`.
 *
 * **Errors.** Every failing call throws a {@link DiscoverError} or rejects with it; a program decides by
 * `code` or `retriable`. An asynchronous call also rejects if an argument is wrong. After `close`, calls fail
 * with `ERR_DISCOVER_CLOSED`, and data that was read stays readable. In a forked child process, calls fail
 * with `ERR_DISCOVER_FORKED`; open a client there.
 *
 * **Threads.** Callbacks run one at a time on the event loop of the thread that called `connect`. No call
 * blocks the event loop. Each worker opens a client of its own.
 *
 * @packageDocumentation
 */

export { Client, connect } from './client';
export { Descriptor } from './descriptor';
export { DiscoverError, type ErrorCode } from './errors';
export { Lease } from './lease';
export * as scalingo from './scalingo';
export { ServiceSet } from './set';
export { Subscription } from './subscription';
export type {
  CloseOptions,
  ConnectionState,
  ConnectionStatus,
  DiscoverEvent,
  FilterOptions,
  Instance,
  LeaseStatus,
  Metrics,
  OfflineInstance,
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
