/** Services find each other. Begin with `connect`. */

export { Client, connect } from './client';
export { DiscoverError, type ErrorCode } from './errors';
export { Lease } from './lease';
export { ServiceSet } from './set';
export { Subscription } from './subscription';
export type {
  CloseOptions,
  Condition,
  ConnectionState,
  Departed,
  DiscoverEvent,
  FilterOptions,
  Instance,
  Metrics,
  Policy,
  RegisterOptions,
  Snapshot,
  Standing,
  Status,
  WaitOptions,
  WatchOptions,
} from './types';
export { Watch } from './watch';
