import type { NativeLease } from './binding';
import * as check from './check';
import { asyncDispose } from './dispose';
import type { Doorbell } from './doorbell';
import { type DiscoverError, type Failure, call, discoverError, settled } from './errors';
import { parseConditions } from './news';
import { Subscription } from './subscription';
import type { Condition, Standing } from './types';

/**
 * A registration that is kept alive: until it is unregistered, its client is closed, or this process
 * ends. The client holds it, so a program may let go of it.
 */
export class Lease {
  readonly #native: NativeLease;
  readonly #doorbell: Doorbell;
  readonly #released: (lease: Lease) => void;

  /** @internal */
  constructor(native: NativeLease, doorbell: Doorbell, released: (lease: Lease) => void) {
    this.#native = native;
    this.#doorbell = doorbell;
    this.#released = released;
  }

  /** The id under which others see the instance. */
  get id(): string {
    return this.#native.id;
  }

  /** The address under which others see the instance. */
  get address(): string {
    return this.#native.address;
  }

  /** The service. */
  get service(): string {
    return this.#native.service;
  }

  /**
   * The attributes that others see: those registered or updated, with what was taken over since from what
   * the service says to all of its registrations, as with `layout=scalingo` the credentials.
   */
  get attributes(): Readonly<Record<string, string>> {
    return Object.freeze(call(() => this.#native.attributes));
  }

  /** How it stands now. */
  get standing(): Standing {
    return call(() => this.#native.standing) as Standing;
  }

  /** Why it is `lapsed` or `replaced`. */
  get error(): DiscoverError | null {
    const text = call(() => this.#native.error);
    return text === null ? null : discoverError(JSON.parse(text) as Failure);
  }

  /**
   * Has `callback` called with how it stands: first now, then at each change, and again when other
   * attributes were taken over; latest wins. `released` is the last, and ends the subscription.
   */
  onStanding(callback: (condition: Condition<Standing>) => void): Subscription {
    check.callback('callback', callback);
    const tell = (condition: Condition<Standing>): void => {
      if (condition.state === 'released') {
        subscription.cancel();
      }
      callback(condition);
    };
    const told = { parse: parseConditions<Standing>, tell };
    const subscription = new Subscription(this.#doorbell, (number) => this.#native.standings(number), told);
    return subscription;
  }

  /**
   * Says "I am alive" now. With `heartbeat: 'manual'` this must happen within each ttl. One that has
   * lapsed is registered again.
   *
   * Rejects with `ERR_DISCOVER_UNAVAILABLE`, `_TIMEOUT`, `_REPLACED` or `_CLOSED`.
   */
  async heartbeat(): Promise<void> {
    await settled(() => this.#native.heartbeat());
  }

  /**
   * Replaces all attributes: those that are not given are gone. When it fails, the old ones hold.
   *
   * Rejects with `ERR_DISCOVER_INVALID_ARGUMENT`, `_UNAVAILABLE`, `_TIMEOUT`, `_REPLACED` or `_CLOSED`.
   */
  async update(attributes: Readonly<Record<string, string>>): Promise<void> {
    const checked = check.attributes('attributes', attributes);
    await settled(() => this.#native.update(checked));
  }

  /**
   * Takes the instance away; others see it go at once. Doing it again is no error.
   *
   * Rejects with `ERR_DISCOVER_UNAVAILABLE` or `_TIMEOUT`: the instance then goes with its ttl.
   */
  async unregister(): Promise<void> {
    this.#released(this);
    await settled(() => this.#native.unregister());
  }

  /** Unregisters. */
  [asyncDispose](): Promise<void> {
    return this.unregister();
  }
}
