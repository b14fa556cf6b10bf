/** Decoding of the native module's JSON into the frozen objects of the public API. */

import { type Failure, discoverError } from './errors';
import type {
  ConnectionState,
  ConnectionStatus,
  DiscoverEvent,
  Instance,
  LeaseStatus,
  OfflineInstance,
  Standing,
  Status,
} from './types';

/** The change of a set since the previous `NativeFeed.read`. */
export interface SetUpdate {
  status: Status;
  /** Null if the offline instances are the same as before. */
  offline: readonly OfflineInstance[] | null;
  /** The indices of the instances that `pick` may choose among those online; null if all are. */
  eligible: readonly number[] | null;
  events: DiscoverEvent[];
}

/** The notifications of one drain. */
export interface Drained<T> {
  items: T[];
  /** Whether the feed has more to drain without ringing again. */
  more: boolean;
}

/** Decodes the result of `NativeFeed.drain`. */
export function parseEvents(text: string): Drained<DiscoverEvent> {
  const { events, shared, more } = JSON.parse(text) as RawEvents & { more: boolean };
  shared.forEach(freezeSharedFields);
  return { items: events.map((raw) => decodeEvent(raw, shared)), more };
}

/** Decodes the result of `NativeStateFeed.drain` of a connection. */
export function parseConnectionStatuses(text: string): Drained<ConnectionStatus> {
  const { states, more } = JSON.parse(text) as RawStates<ConnectionState>;
  return { items: states.map(decodeConnectionStatus), more };
}

/** Decodes the result of `NativeStateFeed.drain` of a lease. */
export function parseLeaseStatuses(text: string): Drained<LeaseStatus> {
  const { states, more } = JSON.parse(text) as RawStates<Standing>;
  return { items: states.map(decodeLeaseStatus), more };
}

/** Decodes the result of `NativeClient.connection`. */
export function parseConnectionStatus(text: string): ConnectionStatus {
  return decodeConnectionStatus(JSON.parse(text) as RawState<ConnectionState>);
}

/** Decodes the result of `NativeFeed.read`. */
export function parseSetUpdate(text: string): SetUpdate {
  const { status, offline, eligible, events, shared } = JSON.parse(text) as RawSetUpdate;
  shared.forEach(freezeSharedFields);
  return {
    status: Object.freeze({
      ...status,
      error: status.error && discoverError(status.error),
      since: status.since === null ? null : new Date(status.since),
    }),
    offline: offline && Object.freeze(offline.map((raw) => decodeOfflineInstance(raw, shared))),
    eligible,
    events: events.map((raw) => decodeEvent(raw, shared)),
  };
}

interface RawState<S> {
  state: S;
  error: Failure | null;
}

interface RawStates<S> {
  states: RawState<S>[];
  more: boolean;
}

/** The fields that many instances have in common. The message contains each combination once. */
type SharedFields = Pick<Instance, 'service' | 'attributes' | 'tags' | 'layouts' | 'zone'>;

/** An instance without its shared fields; `attributes` is the index of these in `shared`. */
type RawInstance = { -readonly [K in keyof Instance]: Instance[K] | null };

interface RawEvent {
  kind: DiscoverEvent['kind'];
  instance?: RawInstance | null;
  error?: Failure;
}

interface RawEvents {
  events: RawEvent[];
  shared: SharedFields[];
}

interface RawSetUpdate extends RawEvents {
  status: Omit<Status, 'error' | 'since'> & { error: Failure | null; since: number | null };
  offline: { instance: RawInstance; at: number; reason: OfflineInstance['reason'] }[] | null;
  eligible: number[] | null;
}

function decodeConnectionStatus({ state, error }: RawState<ConnectionState>): ConnectionStatus {
  return Object.freeze({ state, error: error && discoverError(error) });
}

function decodeLeaseStatus({ state, error }: RawState<Standing>): LeaseStatus {
  return Object.freeze({ standing: state, error: error && discoverError(error) });
}

/** Completes the parsed object in place: copies of a hundred thousand instances would cost memory and time. */
function decodeEvent(raw: RawEvent, shared: readonly SharedFields[]): DiscoverEvent {
  if (raw.instance) {
    completeInstance(raw.instance, shared);
  }
  const event = raw.error ? { ...raw, error: discoverError(raw.error) } : raw;
  return Object.freeze(event) as DiscoverEvent;
}

function decodeOfflineInstance(
  raw: NonNullable<RawSetUpdate['offline']>[number],
  shared: readonly SharedFields[],
): OfflineInstance {
  const { instance, at, reason } = raw;
  return Object.freeze({ instance: completeInstance(instance, shared), at: new Date(at), reason });
}

function completeInstance(raw: RawInstance, shared: readonly SharedFields[]): Instance {
  const { service, attributes, tags, layouts, zone } = shared[Number(raw.attributes)] as SharedFields;
  raw.service = service;
  raw.id ??= raw.address;
  raw.attributes = attributes;
  raw.tags = tags;
  raw.layouts = layouts;
  raw.zone = zone;
  return Object.freeze(raw) as Instance;
}

function freezeSharedFields({ attributes, tags, layouts }: SharedFields): void {
  Object.freeze(attributes);
  Object.freeze(tags);
  Object.freeze(layouts);
}
