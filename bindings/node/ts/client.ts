import { type NativeClient, type NativeRegistration, binding } from './binding';
import * as check from './check';
import { asyncDispose } from './dispose';
import { Doorbell, type OpenFeed } from './doorbell';
import { call, settled } from './errors';
import { Lease } from './lease';
import { closeAtExit, forget } from './leaving';
import { routeLog } from './log';
import { parseCondition, parseConditions } from './news';
import { ServiceSet } from './set';
import { Subscription } from './subscription';
import type { CloseOptions, Condition, ConnectionState, Metrics, RegisterOptions, WatchOptions } from './types';
import { Watch } from './watch';

/**
 * Opens the registry at `url`: `local://`, `etcd://host:2379?ttl=10s`, … By default `DISCOVER_URL`
 * counts, else `local://`. Fails within the URL's `connect_timeout` (5 seconds) if the registry does not
 * answer, unless the URL says `lazy=true`.
 *
 * Rejects with `ERR_DISCOVER_INVALID_ARGUMENT`, `_UNAVAILABLE`, `_TIMEOUT`, `_PERMISSION_DENIED` or
 * `_UNSUPPORTED`.
 */
export async function connect(url?: string): Promise<Client> {
  const where = check.maybe(check.text, 'url', url);
  routeLog();
  return new Client(await settled(() => binding.connect(where)));
}

/**
 * A connection to a registry. It stays open until it is closed or the process ends, which then closes
 * it; it does not keep the process alive.
 */
export class Client {
  readonly #native: NativeClient;
  readonly #doorbell: Doorbell;
  /** Held here, or a lease that a program let go of would be unregistered by the garbage collector. */
  readonly #leases = new Set<Lease>();

  /** @internal */
  constructor(native: NativeClient) {
    this.#native = native;
    this.#doorbell = new Doorbell(native);
    closeAtExit(this, () => native.closeNow());
  }

  /** Where the registry is, secrets hidden. */
  get url(): string {
    return call(() => this.#native.url);
  }

  /**
   * Registers an instance and keeps it alive. Once the promise is fulfilled, others see the instance.
   *
   * Rejects with `ERR_DISCOVER_INVALID_ARGUMENT`, `_REPLACED`, `_UNAVAILABLE`, `_TIMEOUT`,
   * `_PERMISSION_DENIED` or `_CLOSED`.
   */
  async register(options: RegisterOptions): Promise<Lease> {
    const { registration, timeout } = readRegistration(options);
    const registered = await settled(() => this.#native.register(registration, timeout));
    const lease = new Lease(registered, this.#doorbell, (released) => this.#leases.delete(released));
    this.#leases.add(lease);
    return lease;
  }

  /**
   * The live set of a service. Does not wait; its `status` says whether it is current yet.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT` or `_CLOSED`.
   */
  services(service: string): ServiceSet {
    const name = check.text('service', service);
    return new ServiceSet(
      call(() => this.#native.services(name)),
      this.#doorbell,
    );
  }

  /** What the client has been through, in numbers; still to be read when it is closed. */
  metrics(): Metrics {
    const fields = Object.entries(JSON.parse(call(() => this.#native.metrics())) as Record<string, number>);
    const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    return Object.freeze(Object.fromEntries(fields.map(([name, value]) => [camel(name), value]))) as unknown as Metrics;
  }

  /** How the connection to the store fares, and why if that is bad. Does not wait. */
  connection(): Condition<ConnectionState> {
    return parseCondition(call(() => this.#native.connection()));
  }

  /** Has `callback` called with how the connection fares: first now, then at each change; latest wins. */
  onConnection(callback: (condition: Condition<ConnectionState>) => void): Subscription {
    check.callback('callback', callback);
    const tell = (condition: Condition<ConnectionState>): void => callback(condition);
    return new Subscription(this.#doorbell, this.#states, { parse: parseConditions<ConnectionState>, tell });
  }

  /** The same for `for await`. */
  watchConnection(options: WatchOptions = {}): Watch<Condition<ConnectionState>> {
    const given = check.options('options', options, 'signal');
    const signal = check.maybe(check.signal, 'signal', given.signal);
    return new Watch(this.#doorbell, this.#states, parseConditions<ConnectionState>, signal);
  }

  readonly #states: OpenFeed = (number) => this.#native.connectionStates(number);

  /**
   * Unregisters all leases and ends all subscriptions: from the call on, no callback is called. Closing
   * again is no error. What the store does not confirm in time goes with its ttl, and the promise is
   * rejected with `ERR_DISCOVER_TIMEOUT`.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    const given = check.options('options', options, 'timeout');
    const timeout = check.maybe(check.millis, 'timeout', given.timeout);
    this.#doorbell.end();
    try {
      await settled(() => this.#native.close(timeout));
    } finally {
      this.#leases.clear();
      this.#native.detach();
      forget(this);
    }
  }

  /** Closes. */
  [asyncDispose](): Promise<void> {
    return this.close();
  }
}

const REGISTER_OPTIONS = [
  'service',
  'port',
  'host',
  'address',
  'id',
  'attributes',
  'tags',
  'ttl',
  'heartbeat',
  'timeout',
] as const;

const heartbeat = check.oneOf('automatic', 'manual');

function readRegistration(options: RegisterOptions): { registration: NativeRegistration; timeout?: number } {
  const given = check.options('options', options, ...REGISTER_OPTIONS);
  return {
    registration: {
      service: check.text('service', given.service),
      port: check.maybe(check.whole, 'port', given.port),
      host: check.maybe(check.text, 'host', given.host),
      address: check.maybe(check.text, 'address', given.address),
      id: check.maybe(check.text, 'id', given.id),
      attributes: check.maybe(check.attributes, 'attributes', given.attributes),
      tags: check.maybe(check.texts, 'tags', given.tags),
      ttlMs: check.maybe(check.millis, 'ttl', given.ttl),
      manual: check.maybe(heartbeat, 'heartbeat', given.heartbeat) === 'manual',
    },
    timeout: check.maybe(check.millis, 'timeout', given.timeout),
  };
}
