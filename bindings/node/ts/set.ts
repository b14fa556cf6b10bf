import type { NativeSet } from './binding';
import * as check from './check';
import type { Doorbell, OpenFeed } from './doorbell';
import { AbortError, call, settled } from './errors';
import { Service } from './host';
import { type Drained, parseEvents } from './news';
import { Subscription } from './subscription';
import type {
  OfflineInstance,
  DiscoverEvent,
  FilterOptions,
  Instance,
  Policy,
  Snapshot,
  Status,
  WaitOptions,
  WatchOptions,
} from './types';
import type { View } from './view';
import { Watch } from './watch';

/**
 * The live, local view of one service, or of those of its instances that match a filter. Iterating it
 * gives those online.
 *
 * Reading it never waits and never asks the network. Within one turn of the event loop it tells the
 * same, unless `pick` by another policy than `round_robin` meets an instance that is newer; after the
 * client is closed, what was last known.
 */
export class ServiceSet implements Iterable<Instance> {
  readonly #native: NativeSet;
  readonly #doorbell: Doorbell;
  #opened: View | null = null;
  #turn = 0;

  /** @internal */
  constructor(native: NativeSet, doorbell: Doorbell) {
    this.#native = native;
    this.#doorbell = doorbell;
  }

  /** Opened by the first who reads: many only listen. */
  get #view(): View {
    this.#opened ??= this.#doorbell.view(this.#native);
    return this.#opened;
  }

  /** The service. */
  get service(): string {
    return this.#native.service;
  }

  /** Those online, oldest first: the same frozen array until one of them changes. */
  online(): readonly Instance[] {
    return this.#view.online;
  }

  /** Those recently gone, with when and how. */
  offline(): readonly OfflineInstance[] {
    return this.#view.offline;
  }

  /** The oldest instance online. */
  leader(): Instance | null {
    return this.#view.leader;
  }

  /** Those online as the hosts of a service: with URLs, ports by scheme, and shards. */
  hosts(): Service {
    return new Service(this.#native.hosts());
  }

  /** All of it, as of one moment. */
  snapshot(): Snapshot {
    return this.#view.snapshot;
  }

  /** How fresh it is. */
  status(): Status {
    return this.#view.status;
  }

  /** Those online as of now, oldest first. */
  [Symbol.iterator](): Iterator<Instance> {
    return this.online()[Symbol.iterator]();
  }

  /** The set of those that have all these attributes, with these values, and all these tags. */
  filter(filter: FilterOptions): ServiceSet {
    const given = check.options('filter', filter, 'attributes', 'tags');
    const attributes = check.maybe(check.attributes, 'attributes', given.attributes) ?? {};
    const tags = check.maybe(check.texts, 'tags', given.tags) ?? [];
    return new ServiceSet(
      call(() => this.#native.filter(attributes, tags)),
      this.#doorbell,
    );
  }

  /**
   * One of those online, or null if there is none. By default one after the other.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT`.
   */
  pick(policy?: Policy, key?: string): Instance | null {
    if ((policy === undefined || policy === 'round_robin') && key === undefined) {
      // Not asked of the core: the call would cost many times what is done in it.
      const { choice } = this.#view;
      const at = this.#turn < choice.length ? this.#turn : 0;
      this.#turn = at + 1;
      return choice[at] ?? null;
    }
    const name = check.maybe(check.text, 'policy', policy);
    const hashed = check.maybe(check.text, 'key', key);
    for (;;) {
      const picked = call(() => this.#native.pick(name, hashed));
      if (picked === null) {
        return null;
      }
      const instance = this.#view.get(picked) ?? this.#view.anew.get(picked);
      if (instance) {
        return instance;
      }
      // It came and went between two looks; there may be another.
    }
  }

  /** Says that a call to an instance picked by `p2c` is over. */
  done(instance: Instance): void {
    const { created, id } = instance;
    this.#native.done(check.whole('instance.created', created), check.text('instance.id', id));
  }

  /**
   * Waits until at least `count` are online, and gives them, oldest first. With 0 it waits until the set
   * has been received at all.
   *
   * Rejects with `ERR_DISCOVER_TIMEOUT` or `_CLOSED`, or an `AbortError`.
   */
  async wait(count: number, options: WaitOptions): Promise<readonly Instance[]> {
    const wanted = check.count('count', count);
    const given = check.options('options', options, 'timeout', 'signal');
    const timeout = check.millis('timeout', given.timeout);
    const signal = check.maybe(check.signal, 'signal', given.signal);
    if (signal?.aborted) {
      throw new AbortError(signal);
    }
    const wait = call(() => this.#native.wait(wanted, timeout));
    const abort = (): void => wait.abort();
    signal?.addEventListener('abort', abort);
    try {
      await settled(() => wait.promise());
    } catch (error) {
      throw signal?.aborted ? new AbortError(signal) : error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    return this.#view.anew.online;
  }

  /**
   * Has `callback` called with each event: the whole state first, then `current`, then changes. Whoever is
   * slow may miss states in between, never the last.
   *
   * Throws `ERR_DISCOVER_CLOSED`.
   */
  subscribe(callback: (event: DiscoverEvent) => void): Subscription {
    check.callback('callback', callback);
    return new Subscription(this.#doorbell, this.#feed, { parse: this.#parse, tell: callback });
  }

  /** The same for `for await`. */
  watch(options: WatchOptions = {}): Watch {
    const given = check.options('options', options, 'signal');
    const signal = check.maybe(check.signal, 'signal', given.signal);
    return new Watch(this.#doorbell, this.#feed, this.#parse, signal);
  }

  readonly #feed: OpenFeed = (number) => this.#native.feed(number);

  /** What is told, the set shows too. */
  readonly #parse = (text: string): Drained<DiscoverEvent> => {
    this.#opened?.changed();
    return parseEvents(text);
  };
}
