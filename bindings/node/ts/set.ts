import type { NativeSet } from './binding';
import { type Drained, parseEvents } from './decode';
import type { Doorbell, OpenFeed } from './doorbell';
import { AbortError, call, callAsync } from './errors';
import type { SetCache } from './set_cache';
import { Subscription } from './subscription';
import type {
  DiscoverEvent,
  FilterOptions,
  Instance,
  OfflineInstance,
  Policy,
  Snapshot,
  Status,
  WaitOptions,
  WatchOptions,
} from './types';
import * as validate from './validate';
import { Watch } from './watch';

/**
 * The live set of a service's instances, or of those that match a filter. Iterating the set yields the
 * instances online.
 *
 * Reading the set uses memory only: it neither blocks nor sends a request. Within one turn of the event loop
 * the contents stay the same, unless `pick` with a policy other than `round_robin` chooses a newer instance.
 * After the client is closed, the set keeps its last contents.
 */
export class ServiceSet implements Iterable<Instance> {
  readonly #native: NativeSet;
  readonly #doorbell: Doorbell;
  #openedCache: SetCache | null = null;
  #nextTurn = 0;

  /** @internal */
  constructor(native: NativeSet, doorbell: Doorbell) {
    this.#native = native;
    this.#doorbell = doorbell;
  }

  /** The cache of the set. The first read opens it, because many sets are only subscribed to. */
  get #cache(): SetCache {
    this.#openedCache ??= this.#doorbell.openCache(this.#native);
    return this.#openedCache;
  }

  /** @internal */
  static nativeOf(set: ServiceSet): NativeSet {
    return set.#native;
  }

  /** The name of the service. */
  get service(): string {
    return this.#native.service;
  }

  /**
   * Returns the instances online.
   *
   * @returns The instances, oldest first: the same frozen array until one of them changes.
   */
  online(): readonly Instance[] {
    return this.#cache.online;
  }

  /**
   * Returns the instances that recently went offline.
   *
   * @returns The instances in the order in which they went offline; at most 64.
   */
  offline(): readonly OfflineInstance[] {
    return this.#cache.offline;
  }

  /**
   * Returns the leader: the oldest instance online.
   *
   * @returns The leader, or `null` if no instance is online.
   */
  leader(): Instance | null {
    return this.#cache.leader;
  }

  /**
   * Returns the contents and the freshness of the set at this moment.
   *
   * @returns A frozen snapshot.
   */
  snapshot(): Snapshot {
    return this.#cache.snapshot;
  }

  /**
   * Returns the freshness of the set.
   *
   * @returns A frozen status.
   */
  status(): Status {
    return this.#cache.status;
  }

  /**
   * Iterates the instances that are online now, oldest first.
   *
   * @returns An iterator of {@link ServiceSet.online}.
   */
  [Symbol.iterator](): Iterator<Instance> {
    return this.online()[Symbol.iterator]();
  }

  /**
   * Creates a set of those instances that match a filter.
   *
   * @param filter - The attributes and tags that an instance must have.
   * @returns A live set of the matching instances.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` or `ERR_DISCOVER_CLOSED`
   */
  filter(filter: FilterOptions): ServiceSet {
    const checked = validate.options('filter', filter, 'attributes', 'tags');
    const attributes = validate.optional(validate.attributes, 'attributes', checked.attributes) ?? {};
    const tags = validate.optional(validate.strings, 'tags', checked.tags) ?? [];
    return new ServiceSet(
      call(() => this.#native.filter(attributes, tags)),
      this.#doorbell,
    );
  }

  /**
   * Chooses an instance for a call.
   *
   * @param policy - The policy; by default `round_robin`.
   * @param key - The key of the policy `hash`, which requires it.
   * @returns An instance, or `null` if no instance is available.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  pick(policy?: Policy, key?: string): Instance | null {
    if ((policy === undefined || policy === 'round_robin') && key === undefined) {
      // Computed here: a native call would cost many times the work.
      const { eligible } = this.#cache;
      const index = this.#nextTurn < eligible.length ? this.#nextTurn : 0;
      this.#nextTurn = index + 1;
      return eligible[index] ?? null;
    }
    const policyName = validate.optional(validate.string, 'policy', policy);
    const hashKey = validate.optional(validate.string, 'key', key);
    for (;;) {
      const picked = call(() => this.#native.pick(policyName, hashKey));
      if (picked === null) {
        return null;
      }
      const instance = this.#cache.get(picked) ?? this.#cache.refreshed().get(picked);
      if (instance) {
        return instance;
      }
      // The picked instance went offline between the two reads: pick another.
    }
  }

  /**
   * Ends a call to an instance picked with the policy `p2c`, which counts the calls in progress.
   *
   * @param instance - The instance that `pick` returned.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  done(instance: Instance): void {
    const { created, id } = instance;
    this.#native.done(validate.integer('instance.created', created), validate.string('instance.id', id));
  }

  /**
   * Waits until at least `count` instances are online. A count of 0 waits for the first view from the store.
   *
   * @param count - The number of instances, 0 to 4294967295.
   * @param options - The time limit, which is required, and a signal to cancel the wait.
   * @returns The instances online, oldest first.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`, `_TIMEOUT` or `_CLOSED`; an `AbortError`
   * if the signal is aborted
   */
  async wait(count: number, options: WaitOptions): Promise<readonly Instance[]> {
    const wanted = validate.uint32('count', count);
    const checked = validate.options('options', options, 'timeout', 'signal');
    const timeout = validate.milliseconds('timeout', checked.timeout);
    const signal = validate.optional(validate.abortSignal, 'signal', checked.signal);
    if (signal?.aborted) {
      throw new AbortError(signal);
    }
    const wait = call(() => this.#native.wait(wanted, timeout));
    const abort = (): void => wait.abort();
    signal?.addEventListener('abort', abort);
    try {
      await callAsync(() => wait.promise());
    } catch (error) {
      throw signal?.aborted ? new AbortError(signal) : error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    return this.#cache.refreshed().online;
  }

  /**
   * Subscribes a callback to the events of the set. The callback receives the full state, then `current`,
   * then every change. A slow subscriber may miss intermediate states, but never the last one.
   *
   * @param callback - Called on the event loop with each event.
   * @returns The subscription, which keeps the process alive until it ends.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` or `ERR_DISCOVER_CLOSED`
   */
  subscribe(callback: (event: DiscoverEvent) => void): Subscription {
    validate.callback('callback', callback);
    return new Subscription(this.#doorbell, this.#openFeed, { parse: this.#parse, deliver: callback });
  }

  /**
   * Returns the events of the set as an async iterable, for `for await`. It yields the full state, then
   * `current`, then every change.
   *
   * @param options - A signal to end the watch.
   * @returns A watch. Its first `next` rejects with `ERR_DISCOVER_CLOSED` if the client is closed.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  watch(options: WatchOptions = {}): Watch {
    const checked = validate.options('options', options, 'signal');
    const signal = validate.optional(validate.abortSignal, 'signal', checked.signal);
    return new Watch(this.#doorbell, this.#openFeed, this.#parse, signal);
  }

  readonly #openFeed: OpenFeed = (feedId) => this.#native.feed(feedId);

  /** Invalidates the cache first, so that the set is at least as new as the delivered event. */
  readonly #parse = (text: string): Drained<DiscoverEvent> => {
    this.#openedCache?.invalidate();
    return parseEvents(text);
  };
}
