/**
 * A service and its hosts in the model of Scalingo's etcd-discovery: URLs, ports by scheme, and shards.
 *
 * ```ts
 * const api = scalingo.Service.fromSet(client.services('api'));
 * api.url('https', '/status');
 * ```
 *
 * @module
 */

import { type NativeHost, type NativeService, binding } from './binding';
import { call } from './errors';
import { ServiceSet } from './set';
import type { Instance } from './types';
import * as validate from './validate';

/**
 * An instance as a host of etcd-discovery: its public and private addresses, ports and credentials. A field
 * that the instance does not define is empty or false. Frozen.
 *
 * ```ts
 * scalingo.Host.fromInstance(instance).privateUrl('http', '/status');
 * ```
 */
export class Host {
  /** The name of the service. */
  readonly serviceName!: string;
  /** The id of the instance, unique within the service. */
  readonly uuid!: string;
  /** The public host name; the private one if there is no public address. */
  readonly hostname!: string;
  /** The host name in the private network. */
  readonly privateHostname!: string;
  /** The public ports, by scheme. */
  readonly ports!: Readonly<Record<string, number>>;
  /** The private ports, by scheme. */
  readonly privatePorts!: Readonly<Record<string, number>>;
  /** The user name of the credentials, which all public hosts of a service share. */
  readonly user!: string;
  /** The password of the credentials, which all public hosts of a service share. */
  readonly password!: string;
  /** The shard that the host serves. */
  readonly shard!: string;
  /** Whether the host is public. */
  readonly isPublic!: boolean;
  /** Whether the host is critical: the service must not be without it. */
  readonly isCritical!: boolean;
  readonly #native: NativeHost;

  /** @internal */
  constructor(native: NativeHost) {
    this.#native = native;
    Object.assign(this, JSON.parse(native.fields()));
    Object.freeze(this.ports);
    Object.freeze(this.privatePorts);
    Object.freeze(this);
  }

  /**
   * Converts an instance of any layout into a host.
   *
   * @param instance - The instance to convert.
   * @returns The host.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  static fromInstance(instance: Instance): Host {
    const attributes = validate.attributes('instance.attributes', instance.attributes);
    const { service, id, host, port } = instance;
    validate.integer('instance.port', port);
    for (const [name, value] of Object.entries({ service, id, host })) {
      validate.string(`instance.${name}`, value);
    }
    return new Host(call(() => binding.NativeHost.fromInstance(service, id, host, port, attributes)));
  }

  /**
   * Returns the public URL of the host, as `scheme://user:password@host:port` with the path.
   *
   * @param scheme - The scheme; by default `http` if the host has a port for it, else `https`.
   * @param path - The path; by default empty.
   * @returns The URL.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` if the host has no port for the scheme
   */
  url(scheme = '', path = ''): string {
    return callWithUrlParts(scheme, path, (s, p) => this.#native.url(s, p));
  }

  /**
   * Returns the URL of the host in its private network.
   *
   * @param scheme - The scheme; by default `http` if the host has a private port for it, else `https`.
   * @param path - The path; by default empty.
   * @returns The URL.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT` if the host has no private port for the scheme
   */
  privateUrl(scheme = '', path = ''): string {
    return callWithUrlParts(scheme, path, (s, p) => this.#native.privateUrl(s, p));
  }
}

/**
 * The instances of a set as the hosts of a service, at the moment of the call to `fromSet`. Frozen.
 *
 * ```ts
 * scalingo.Service.fromSet(client.services('api')).url('https', '/status');
 * ```
 */
export class Service {
  /** The name of the service. */
  readonly name!: string;
  /** Whether the service is public: at least one host is. */
  readonly isPublic!: boolean;
  /** Whether the service is critical: at least one host is. */
  readonly isCritical!: boolean;
  readonly #native: NativeService;
  readonly #all: readonly Host[];

  /** @internal */
  constructor(native: NativeService) {
    this.#native = native;
    this.#all = Object.freeze(native.all().map((host) => new Host(host)));
    Object.assign(this, JSON.parse(native.fields()));
    Object.freeze(this);
  }

  /**
   * Converts the instances online in a set into the hosts of a service.
   *
   * @param set - The set of the service, which may be filtered.
   * @returns The service as of now.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  static fromSet(set: ServiceSet): Service {
    const checked = validate.instanceOf(ServiceSet)('set', set);
    return new Service(call(() => binding.NativeService.fromSet(ServiceSet.nativeOf(checked))));
  }

  /**
   * Returns all hosts of the service.
   *
   * @returns The hosts, oldest first.
   */
  all(): readonly Host[] {
    return this.#all;
  }

  /**
   * Returns the oldest host, which is the leader.
   *
   * @returns The host, or `null` if the service has none.
   */
  first(): Host | null {
    return this.#all[0] ?? null;
  }

  /**
   * Returns a random host that is available for calls.
   *
   * @returns The host, or `null` if there is none.
   */
  one(): Host | null {
    const index = this.#native.one();
    return index === null ? null : (this.#all[index] ?? null);
  }

  /**
   * Returns the service with the hosts of one shard only.
   *
   * @param shard - The name of the shard.
   * @returns The service of the shard, which may have no host.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  shard(shard: string): Service {
    const name = validate.string('shard', shard);
    return new Service(call(() => this.#native.shard(name)));
  }

  /**
   * Returns the URL of the service: the public address that its last public host registered. Without a
   * public host, and for a shard, it is the URL of a random host.
   *
   * @param scheme - The scheme; by default `http` if there is a port for it, else `https`.
   * @param path - The path; by default empty.
   * @returns The URL.
   * @throws {@link DiscoverError} `ERR_DISCOVER_NOT_FOUND` if no host is online; `ERR_DISCOVER_INVALID_ARGUMENT`
   * if there is no port for the scheme
   */
  url(scheme = '', path = ''): string {
    return callWithUrlParts(scheme, path, (s, p) => this.#native.url(s, p));
  }
}

function callWithUrlParts(scheme: string, path: string, url: (scheme: string, path: string) => string): string {
  const [s, p] = [validate.string('scheme', scheme), validate.string('path', path)];
  return call(() => url(s, p));
}
