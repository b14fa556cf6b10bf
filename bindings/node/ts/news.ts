/** From the native module's JSON to the frozen objects that people see. */

import { type Failure, discoverError } from './errors';
import type { Condition, Departed, DiscoverEvent, Instance, Status } from './types';

/** What `NativeFeed.read` gives. */
export interface Reading {
  status: Status;
  /** Null where they are the same as before. */
  offline: readonly Departed[] | null;
  /** The places among those online of those to choose from; null if these are all. */
  able: readonly number[] | null;
  events: DiscoverEvent[];
}

export function parseEvents(text: string): DiscoverEvent[] {
  return (JSON.parse(text) as RawEvent[]).map(event);
}

/** What `NativeStates.drain` gives. */
export function parseConditions<S extends string>(text: string): Condition<S>[] {
  return (JSON.parse(text) as RawCondition<S>[]).map(condition);
}

/** What `NativeClient.connection` gives. */
export function parseCondition<S extends string>(text: string): Condition<S> {
  return condition(JSON.parse(text) as RawCondition<S>);
}

export function parseReading(text: string): Reading {
  const { status, offline, able, events } = JSON.parse(text) as RawReading;
  return {
    status: Object.freeze({
      ...status,
      error: status.error && discoverError(status.error),
      since: status.since === null ? null : new Date(status.since),
    }),
    offline: offline && Object.freeze(offline.map(departed)),
    able,
    events: events.map(event),
  };
}

interface RawCondition<S extends string> {
  state: S;
  error: Failure | null;
}

interface RawEvent {
  kind: DiscoverEvent['kind'];
  instance?: Instance | null;
  error?: Failure;
}

interface RawReading {
  status: Omit<Status, 'error' | 'since'> & { error: Failure | null; since: number | null };
  offline: { instance: Instance; at: number; reason: Departed['reason'] }[] | null;
  able: number[] | null;
  events: RawEvent[];
}

function condition<S extends string>({ state, error }: RawCondition<S>): Condition<S> {
  return Object.freeze({ state, error: error && discoverError(error) });
}

/** The very object that was parsed: of a hundred thousand, a copy each is memory and time. */
function event(raw: RawEvent): DiscoverEvent {
  if (raw.instance) {
    freeze(raw.instance);
  }
  const whole = raw.error ? { ...raw, error: discoverError(raw.error) } : raw;
  return Object.freeze(whole) as DiscoverEvent;
}

function departed({ instance, at, reason }: NonNullable<RawReading['offline']>[number]): Departed {
  return Object.freeze({ instance: freeze(instance), at: new Date(at), reason });
}

function freeze(instance: Instance): Instance {
  Object.freeze(instance.attributes);
  Object.freeze(instance.tags);
  Object.freeze(instance.layouts);
  return Object.freeze(instance);
}
