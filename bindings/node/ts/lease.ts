import type { NativeLease } from './binding';
import { parseLeaseStatuses } from './decode';
import { asyncDispose } from './dispose';
import type { Doorbell } from './doorbell';
import { type DiscoverError, type Failure, call, callAsync, discoverError } from './errors';
import { Subscription } from './subscription';
import type { LeaseStatus, Standing } from './types';
import * as validate from './validate';

/**
 * A registration that the library keeps alive until it is unregistered, its client is closed or this process
 * ends. The client references its leases, so the program does not have to.
 */
export class Lease {
  readonly #native: NativeLease;
  readonly #doorbell: Doorbell;
  readonly #onUnregister: (lease: Lease) => void;

  /** @internal */
  constructor(native: NativeLease, doorbell: Doorbell, onUnregister: (lease: Lease) => void) {
    this.#native = native;
    this.#doorbell = doorbell;
    this.#onUnregister = onUnregister;
  }

  /** The id of the registered instance. */
  get id(): string {
    return this.#native.id;
  }

  /** The address of the registered instance, as `host:port`. */
  get address(): string {
    return this.#native.address;
  }

  /** The name of the service. */
  get service(): string {
    return this.#native.service;
  }

  /**
   * The attributes of the instance as the store has them: those of the last `register` or `update`, with the
   * attributes that all instances of the service share (credentials under `layout=scalingo`).
   *
   * @throws {@link DiscoverError} `ERR_DISCOVER_FORKED`
   */
  get attributes(): Readonly<Record<string, string>> {
    return Object.freeze(call(() => this.#native.attributes));
  }

  /**
   * The present standing of the lease.
   *
   * @throws {@link DiscoverError} `ERR_DISCOVER_FORKED`
   */
  get standing(): Standing {
    return call(() => this.#native.standing) as Standing;
  }

  /**
   * The reason why the lease is `lapsed` or `replaced`; `null` otherwise.
   *
   * @throws {@link DiscoverError} `ERR_DISCOVER_FORKED`
   */
  get error(): DiscoverError | null {
    const text = call(() => this.#native.error);
    return text === null ? null : discoverError(JSON.parse(text) as Failure);
  }

  /**
   * Subscribes to the standing of the lease. The callback receives the present status first, then every
   * change, and the status again when shared attributes changed. A slow subscriber receives only the latest
   * status. `released` is the last status and ends the subscription.
   *
   * @param callback - Called on the event loop with each status.
   * @returns The subscription, which keeps the process alive until it ends.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` or `ERR_DISCOVER_CLOSED`
   */
  onStanding(callback: (status: LeaseStatus) => void): Subscription {
    validate.callback('callback', callback);
    const deliver = (status: LeaseStatus): void => {
      if (status.standing === 'released') {
        subscription.cancel();
      }
      callback(status);
    };
    const receiver = { parse: parseLeaseStatuses, deliver };
    const subscription = new Subscription(this.#doorbell, (feedId) => this.#native.standings(feedId), receiver);
    return subscription;
  }

  /**
   * Sends a heartbeat now. A lease with `heartbeat: 'manual'` needs one at least once per TTL. A lapsed lease
   * is registered again.
   *
   * @returns A promise that resolves when the store has confirmed the heartbeat.
   * @throws {@link DiscoverError} `ERR_DISCOVER_UNAVAILABLE`, `_TIMEOUT`, `_REPLACED` or `_CLOSED`
   */
  async heartbeat(): Promise<void> {
    await callAsync(() => this.#native.heartbeat());
  }

  /**
   * Replaces all attributes of the instance. If the call fails, the previous attributes stay.
   *
   * @param attributes - The new attributes, by name. An attribute that is left out is removed.
   * @returns A promise that resolves when the store has the new attributes.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`, `_UNAVAILABLE`, `_TIMEOUT`, `_REPLACED` or
   * `_CLOSED`
   */
  async update(attributes: Readonly<Record<string, string>>): Promise<void> {
    const checked = validate.attributes('attributes', attributes);
    await callAsync(() => this.#native.update(checked));
  }

  /**
   * Unregisters the instance; subscribers see it go offline at once. A further call tries again at once, and succeeds if
   * the instance is not registered any more.
   *
   * @returns A promise that resolves when the store has removed the instance.
   * @throws {@link DiscoverError} `ERR_DISCOVER_UNAVAILABLE` or `_TIMEOUT`; the call is then repeated in the
   * background
   */
  async unregister(): Promise<void> {
    this.#onUnregister(this);
    await callAsync(() => this.#native.unregister());
  }

  /**
   * Unregisters the instance, for `await using`.
   *
   * @returns The promise of {@link Lease.unregister}.
   */
  [asyncDispose](): Promise<void> {
    return this.unregister();
  }
}
