import { type NativeClient, type NativeRegistration, binding } from './binding';
import { parseConnectionStatus, parseConnectionStatuses } from './decode';
import { asyncDispose } from './dispose';
import { Doorbell, type OpenFeed } from './doorbell';
import { call, callAsync } from './errors';
import { closeAtExit, removeFromExit } from './exit';
import { Lease } from './lease';
import { routeLog } from './log';
import { ServiceSet } from './set';
import { Subscription } from './subscription';
import type { CloseOptions, ConnectionStatus, Metrics, RegisterOptions, WatchOptions } from './types';
import * as validate from './validate';
import { Watch } from './watch';

/**
 * Opens a client of a registry. The call fails within the URL's `connect_timeout` (by default 5 seconds) if
 * the store does not respond, unless the URL contains `lazy=true`.
 *
 * @param url - The URL of the registry, such as `local://` or `etcd://host:2379?ttl=10s`. By default the
 * environment variable `DISCOVER_URL`, else `local://`.
 * @returns The connected client.
 * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`, `_UNAVAILABLE`, `_TIMEOUT`,
 * `_PERMISSION_DENIED` or `_UNSUPPORTED`
 */
export async function connect(url?: string): Promise<Client> {
  const checked = validate.optional(validate.string, 'url', url);
  routeLog();
  return new Client(await callAsync(() => binding.connect(checked)));
}

/**
 * A connection to a registry. A client stays open until `close` or the end of the process, which closes it.
 * An open client does not keep the process alive.
 */
export class Client {
  readonly #native: NativeClient;
  readonly #doorbell: Doorbell;
  /** The registered leases. Without this reference the garbage collector would unregister an unused lease. */
  readonly #leases = new Set<Lease>();

  /** @internal */
  constructor(native: NativeClient) {
    this.#native = native;
    this.#doorbell = new Doorbell(native);
    closeAtExit(this, () => native.closeNow());
  }

  /**
   * The URL of the registry, with secrets redacted.
   *
   * @throws {@link DiscoverError} `ERR_DISCOVER_CLOSED`
   */
  get url(): string {
    return call(() => this.#native.url);
  }

  /**
   * Registers an instance and keeps it alive.
   *
   * @param options - The service, the address and the optional properties of the instance.
   * @returns The lease, when the store has the instance and other clients can see it.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`, `_REPLACED`, `_UNAVAILABLE`, `_TIMEOUT`,
   * `_PERMISSION_DENIED` or `_CLOSED`
   */
  async register(options: RegisterOptions): Promise<Lease> {
    const { registration, timeout } = readRegistration(options);
    const native = await callAsync(() => this.#native.register(registration, timeout));
    const lease = new Lease(native, this.#doorbell, (released) => this.#leases.delete(released));
    this.#leases.add(lease);
    return lease;
  }

  /**
   * Returns the live set of a service, without waiting. The set's `status` shows whether it is current.
   *
   * @param service - The name of the service: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
   * @returns The set of the service's instances.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` or `ERR_DISCOVER_CLOSED`
   */
  services(service: string): ServiceSet {
    const name = validate.string('service', service);
    return new ServiceSet(
      call(() => this.#native.services(name)),
      this.#doorbell,
    );
  }

  /**
   * Returns the counters of the client. They stay readable after `close`.
   *
   * @returns The counters, frozen.
   * @throws {@link DiscoverError} `ERR_DISCOVER_FORKED`
   */
  metrics(): Metrics {
    const fields = Object.entries(JSON.parse(call(() => this.#native.metrics())) as Record<string, number>);
    const toCamelCase = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    const metrics = Object.fromEntries(fields.map(([name, value]) => [toCamelCase(name), value]));
    return Object.freeze(metrics) as unknown as Metrics;
  }

  /**
   * Returns the present state of the connection to the store, without waiting.
   *
   * @returns The state, with its cause unless it is `connected`.
   * @throws {@link DiscoverError} `ERR_DISCOVER_CLOSED`
   */
  connection(): ConnectionStatus {
    return parseConnectionStatus(call(() => this.#native.connection()));
  }

  /**
   * Subscribes to the state of the connection. The callback receives the present status first, then every
   * change. A slow subscriber receives only the latest status.
   *
   * @param callback - Called on the event loop with each status.
   * @returns The subscription, which keeps the process alive until it ends.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` or `ERR_DISCOVER_CLOSED`
   */
  onConnection(callback: (status: ConnectionStatus) => void): Subscription {
    validate.callback('callback', callback);
    const deliver = (status: ConnectionStatus): void => callback(status);
    return new Subscription(this.#doorbell, this.#openStateFeed, { parse: parseConnectionStatuses, deliver });
  }

  /**
   * Returns the states of the connection as an async iterable, for `for await`. It yields the present status
   * first, then every change.
   *
   * @param options - A signal to end the watch.
   * @returns A watch. Its first `next` rejects with `ERR_DISCOVER_CLOSED` if the client is closed.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  watchConnection(options: WatchOptions = {}): Watch<ConnectionStatus> {
    const checked = validate.options('options', options, 'signal');
    const signal = validate.optional(validate.abortSignal, 'signal', checked.signal);
    return new Watch(this.#doorbell, this.#openStateFeed, parseConnectionStatuses, signal);
  }

  readonly #openStateFeed: OpenFeed = (feedId) => this.#native.connectionStates(feedId);

  /**
   * Unregisters all leases and ends all subscriptions and watches. No callback is called after the call
   * begins. Repeating the call is allowed.
   *
   * @param options - The time limit of each step, by default 5000 milliseconds.
   * @returns A promise that resolves when the client is closed.
   * @throws {@link DiscoverError} `ERR_DISCOVER_TIMEOUT` if the store does not confirm in time; the remaining
   * instances then expire with their TTL. `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  async close(options: CloseOptions = {}): Promise<void> {
    const checked = validate.options('options', options, 'timeout');
    const timeout = validate.optional(validate.milliseconds, 'timeout', checked.timeout);
    this.#doorbell.end();
    try {
      await callAsync(() => this.#native.close(timeout));
    } finally {
      this.#leases.clear();
      this.#native.detach();
      removeFromExit(this);
    }
  }

  /**
   * Closes the client, for `await using`.
   *
   * @returns The promise of {@link Client.close}.
   */
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

const validateHeartbeat = validate.oneOf('automatic', 'manual');

function readRegistration(options: RegisterOptions): { registration: NativeRegistration; timeout?: number } {
  const checked = validate.options('options', options, ...REGISTER_OPTIONS);
  return {
    registration: {
      service: validate.string('service', checked.service),
      port: validate.optional(validate.integer, 'port', checked.port),
      host: validate.optional(validate.string, 'host', checked.host),
      address: validate.optional(validate.string, 'address', checked.address),
      id: validate.optional(validate.string, 'id', checked.id),
      attributes: validate.optional(validate.attributes, 'attributes', checked.attributes),
      tags: validate.optional(validate.strings, 'tags', checked.tags),
      ttlMs: validate.optional(validate.milliseconds, 'ttl', checked.ttl),
      manual: validate.optional(validateHeartbeat, 'heartbeat', checked.heartbeat) === 'manual',
    },
    timeout: validate.optional(validate.milliseconds, 'timeout', checked.timeout),
  };
}
