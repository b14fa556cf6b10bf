import { binding, type NativeHost, type NativeService } from './binding';
import * as check from './check';
import { call } from './errors';
import type { Instance } from './types';

/**
 * What an instance says as a host of etcd-discovery: where the public finds it and where the others in its
 * network do, with which ports and credentials. What it does not say is empty, or false. Frozen.
 *
 * ```ts
 * Host.of(instance).privateUrl('http', '/status');
 * ```
 */
export class Host {
  /** The service. */
  readonly serviceName!: string;
  /** Unique within the service: the id of the instance. */
  readonly uuid!: string;
  /** Where the public finds it; without a public address the private one. */
  readonly hostname!: string;
  /** Where the others in its network find it. */
  readonly privateHostname!: string;
  /** The public ports, by scheme. */
  readonly ports!: Readonly<Record<string, number>>;
  /** The private ports, by scheme. */
  readonly privatePorts!: Readonly<Record<string, number>>;
  /** Of the credentials, which all public hosts of a service share. */
  readonly user!: string;
  /** Of the credentials, as `user`. */
  readonly password!: string;
  /** The shard that it serves. */
  readonly shard!: string;
  /** Whether the public finds it. */
  readonly isPublic!: boolean;
  /** Whether it must not be missing. */
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

  /** What an instance says as a host, whichever the layout. */
  static of(instance: Instance): Host {
    const attributes = check.attributes('instance.attributes', instance.attributes);
    const { service, id, host, port } = instance;
    check.whole('instance.port', port);
    for (const [name, value] of Object.entries({ service, id, host })) {
      check.text(`instance.${name}`, value);
    }
    return new Host(call(() => binding.NativeHost.of(service, id, host, port, attributes)));
  }

  /**
   * Where the public finds it: `scheme://user:password@host:port` and the path. Without a scheme `http`,
   * else `https`, whichever there is.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT`.
   */
  url(scheme = '', path = ''): string {
    return given(scheme, path, (s, p) => this.#native.url(s, p));
  }

  /**
   * The same within its network.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT`.
   */
  privateUrl(scheme = '', path = ''): string {
    return given(scheme, path, (s, p) => this.#native.privateUrl(s, p));
  }
}

/**
 * The instances of a set as the hosts of a service: those online when it was asked for. Frozen.
 *
 * ```ts
 * client.services('api').hosts().url('https', '/status');
 * ```
 */
export class Service {
  /** What it is called. */
  readonly name!: string;
  /** Whether the public finds it: any host is public. */
  readonly isPublic!: boolean;
  /** Whether it must not be missing: any host is critical. */
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

  /** All its hosts, oldest first. */
  all(): readonly Host[] {
    return this.#all;
  }

  /** The oldest host, which is the leader. */
  first(): Host | null {
    return this.#all[0] ?? null;
  }

  /** Any host at random, of those that are fit for calls. */
  one(): Host | null {
    const at = this.#native.one();
    return at === null ? null : (this.#all[at] ?? null);
  }

  /** The same with the hosts of one shard alone. */
  shard(shard: string): Service {
    const name = check.text('shard', shard);
    return new Service(call(() => this.#native.shard(name)));
  }

  /**
   * Where it is found: at the public address that the last of its public hosts brought; where there is
   * none, or it is that of one shard, at that of any one host.
   *
   * Throws `ERR_DISCOVER_NOT_FOUND` or `_INVALID_ARGUMENT`.
   */
  url(scheme = '', path = ''): string {
    return given(scheme, path, (s, p) => this.#native.url(s, p));
  }
}

function given(scheme: string, path: string, of: (scheme: string, path: string) => string): string {
  const [s, p] = [check.text('scheme', scheme), check.text('path', path)];
  return call(() => of(s, p));
}
