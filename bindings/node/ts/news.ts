/** From the native module's JSON to the frozen objects that people see. */

import { type Failure, discoverError } from './errors';
import type { Condition, OfflineInstance, DiscoverEvent, Instance, Status } from './types';

/** What `NativeFeed.read` gives. */
export interface Reading {
  status: Status;
  /** Null where they are the same as before. */
  offline: readonly OfflineInstance[] | null;
  /** The places among those online of those to choose from; null if these are all. */
  able: readonly number[] | null;
  events: DiscoverEvent[];
}

/** What was drained at once. */
export interface Drained<T> {
  items: T[];
  /** Whether there is more to be drained without another ring. */
  more: boolean;
}

/** What `NativeFeed.drain` gives. */
export function parseEvents(text: string): Drained<DiscoverEvent> {
  const { events, words, more } = JSON.parse(text) as RawNews & { more: boolean };
  words.forEach(freezeWords);
  return { items: events.map((raw) => event(raw, words)), more };
}

/** What `NativeStates.drain` gives. */
export function parseConditions<S extends string>(text: string): Drained<Condition<S>> {
  const { conditions, more } = JSON.parse(text) as { conditions: RawCondition<S>[]; more: boolean };
  return { items: conditions.map(condition), more };
}

/** What `NativeClient.connection` gives. */
export function parseCondition<S extends string>(text: string): Condition<S> {
  return condition(JSON.parse(text) as RawCondition<S>);
}

export function parseReading(text: string): Reading {
  const { status, offline, able, events, words } = JSON.parse(text) as RawReading;
  words.forEach(freezeWords);
  return {
    status: Object.freeze({
      ...status,
      error: status.error && discoverError(status.error),
      since: status.since === null ? null : new Date(status.since),
    }),
    offline: offline && Object.freeze(offline.map((raw) => departed(raw, words))),
    able,
    events: events.map((raw) => event(raw, words)),
  };
}

interface RawCondition<S extends string> {
  state: S;
  error: Failure | null;
}

/** What instances say alike, told once for all of them. */
type Words = Pick<Instance, 'service' | 'attributes' | 'tags' | 'layouts' | 'zone'>;

/** An instance with what is told once for many still to be put in; `attributes` says where that is. */
type RawInstance = { -readonly [K in keyof Instance]: Instance[K] | null };

interface RawEvent {
  kind: DiscoverEvent['kind'];
  instance?: RawInstance | null;
  error?: Failure;
}

interface RawNews {
  events: RawEvent[];
  words: Words[];
}

interface RawReading extends RawNews {
  status: Omit<Status, 'error' | 'since'> & { error: Failure | null; since: number | null };
  offline: { instance: RawInstance; at: number; reason: OfflineInstance['reason'] }[] | null;
  able: number[] | null;
}

function condition<S extends string>({ state, error }: RawCondition<S>): Condition<S> {
  return Object.freeze({ state, error: error && discoverError(error) });
}

/** The very object that was parsed: of a hundred thousand, a copy each is memory and time. */
function event(raw: RawEvent, words: readonly Words[]): DiscoverEvent {
  if (raw.instance) {
    complete(raw.instance, words);
  }
  const whole = raw.error ? { ...raw, error: discoverError(raw.error) } : raw;
  return Object.freeze(whole) as DiscoverEvent;
}

function departed(raw: NonNullable<RawReading['offline']>[number], words: readonly Words[]): OfflineInstance {
  const { instance, at, reason } = raw;
  return Object.freeze({ instance: complete(instance, words), at: new Date(at), reason });
}

function complete(raw: RawInstance, words: readonly Words[]): Instance {
  const { service, attributes, tags, layouts, zone } = words[Number(raw.attributes)] as Words;
  raw.service = service;
  raw.id ??= raw.address;
  raw.attributes = attributes;
  raw.tags = tags;
  raw.layouts = layouts;
  raw.zone = zone;
  return Object.freeze(raw) as Instance;
}

function freezeWords({ attributes, tags, layouts }: Words): void {
  Object.freeze(attributes);
  Object.freeze(tags);
  Object.freeze(layouts);
}
