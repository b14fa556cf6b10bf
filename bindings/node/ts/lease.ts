import type { NativeLease } from './binding';
import * as check from './check';
import { asyncDispose } from './dispose';
import { type DiscoverError, type Failure, call, discoverError, settled } from './errors';
import type { Standing } from './types';

/**
 * A registration that is kept alive: until it is unregistered, its client is closed, or this process
 * ends. The client holds it, so a program may let go of it.
 */
export class Lease {
  readonly #native: NativeLease;
  readonly #released: (lease: Lease) => void;

  /** @internal */
  constructor(native: NativeLease, released: (lease: Lease) => void) {
    this.#native = native;
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
