/** Public data types: plain objects. Those that the library returns are frozen. */

import type { DiscoverError } from './errors';

/** A running copy of a service, as the store describes it. Immutable: a change creates a new object. */
export interface Instance {
  /** The name of the service that the instance belongs to. */
  readonly service: string;
  /** The id of the instance, unique within the service. */
  readonly id: string;
  /** The host name or IP address of the instance; an IPv6 address has no brackets. */
  readonly host: string;
  /** The port of the instance, 1 to 65535. */
  readonly port: number;
  /** The address of the instance as `host:port`; an IPv6 host is in brackets. */
  readonly address: string;
  /** The attributes of the instance, by name. */
  readonly attributes: Readonly<Record<string, string>>;
  /** The tags of the instance, in the order in which they were registered. */
  readonly tags: readonly string[];
  /** The names of the layouts in which the store holds the instance, in the order of the URL's `layout` option. */
  readonly layouts: readonly string[];
  /**
   * The weight for the policy `weighted`, from the attribute `weight`: 0 to 65535.
   *
   * @defaultValue `1`
   */
  readonly weight: number;
  /** The zone of the instance, from the attribute `zone`; `null` without that attribute. */
  readonly zone: string | null;
  /** The revision of the store at which the instance came online. The lowest revision in a set is the leader's. */
  readonly created: number;
  /**
   * Whether the store may have lost the instance by mistake, because it vanished together with many others.
   * `pick` chooses a suspect instance only if there is no other. A suspect instance leads only if every
   * instance is suspect. It goes offline unless it re-registers in time.
   */
  readonly isSuspect: boolean;
}

/**
 * A change of a service set. A new subscriber receives the full state, then `current`, then every change.
 * A later version may add kinds: ignore a kind that the program does not know.
 */
export type DiscoverEvent =
  | {
      /** `up`: an instance came online. */
      readonly kind: 'up';
      /** The instance that came online. */
      readonly instance: Instance;
    }
  | {
      /** `update`: the attributes or tags of an instance changed. */
      readonly kind: 'update';
      /** The instance after the change. */
      readonly instance: Instance;
    }
  | {
      /** `down`: an instance went offline. */
      readonly kind: 'down';
      /** The instance in its last known state. */
      readonly instance: Instance;
    }
  | {
      /** `leader`: the leader of the set changed. */
      readonly kind: 'leader';
      /** The oldest instance online; `null` if no instance is online. */
      readonly instance: Instance | null;
    }
  | {
      /** `current`: the full state was delivered. Emitted once per subscription. */
      readonly kind: 'current';
    }
  | {
      /** `stale`: the store does not respond. The set keeps its last contents. */
      readonly kind: 'stale';
      /** The failure of the connection to the store. */
      readonly error: DiscoverError;
    }
  | {
      /** `fresh`: the store responds again, and every change since `stale` was delivered. */
      readonly kind: 'fresh';
    };

/** An instance that recently went offline. */
export interface OfflineInstance {
  /** The instance in its last known state. */
  readonly instance: Instance;
  /** The time at which this client noticed that the instance went offline. */
  readonly at: Date;
  /**
   * How the client noticed it. `removed`: the store reported the removal. `missing`: the instance was absent
   * when the store could be read again.
   */
  readonly reason: 'removed' | 'missing';
}

/** The freshness of a service set. */
export interface Status {
  /** `pending` before the first view from the store, then `current` or `stale`. */
  readonly state: 'pending' | 'current' | 'stale';
  /** The failure that keeps the set from being current; `null` if there is none. */
  readonly error: DiscoverError | null;
  /** The time since which the set is not current; `null` if it is. */
  readonly since: Date | null;
  /** A counter that grows with every change of the set. */
  readonly version: number;
  /** The revision of the store; 0 for a store without revisions. */
  readonly revision: number;
  /** The epoch of the store, to which `revision` belongs. It grows when the store was restored or wiped. */
  readonly epoch: number;
  /** The number of records of the service that cannot be decoded. */
  readonly invalid: number;
}

/** The contents and the freshness of a service set at one moment. */
export interface Snapshot extends Status {
  /** The instances online, oldest first. */
  readonly online: readonly Instance[];
  /** The instances that recently went offline, in the order in which they did; at most 64. */
  readonly offline: readonly OfflineInstance[];
  /** The oldest instance online; `null` if no instance is online. */
  readonly leader: Instance | null;
}

/**
 * The standing of a lease. `live`: registered, as far as the client knows. `lapsed`: the store has not
 * confirmed a heartbeat for a whole TTL, so the instance may be offline for others; the library re-registers
 * it. `replaced`: another owner took over the id. `released`: unregistered.
 */
export type Standing = 'live' | 'lapsed' | 'replaced' | 'released';

/**
 * The policy by which `pick` chooses an instance. `round_robin`: each in turn. `random`: any. `weighted`: at
 * random, in proportion to `weight`. `p2c`: the less busy of two random instances; call `done` after each
 * call. `hash`: the same instance for the same key, in every process and language. Instances of weight 0 are picked
 * only if all have weight 0; apart from that, `round_robin` and `random` do not regard weights.
 */
export type Policy = 'round_robin' | 'random' | 'weighted' | 'p2c' | 'hash';

/** The transport protocol of a descriptor. */
export type Protocol = 'tcp' | 'udp';

/** The instance to register: `service`, and either `address` or `port` with an optional `host`. */
export interface RegisterOptions {
  /** The name of the service: 1 to 128 characters of `A-Z a-z 0-9 . _ -`. */
  service: string;
  /** The port of the instance, 1 to 65535. Required unless `address` is given. */
  port?: number | undefined;
  /**
   * The host name or IP address of the instance.
   *
   * @defaultValue the address of this machine
   */
  host?: string | undefined;
  /** The address as `host:port`, `[ipv6]:port` or `:port`. It replaces `host` and `port`. */
  address?: string | undefined;
  /**
   * The id of the instance, unique within the service.
   *
   * @defaultValue the address
   */
  id?: string | undefined;
  /**
   * The attributes of the instance, by name. `pick` uses `weight` (0 to 65535); filters often use `zone`.
   *
   * @defaultValue `{}`
   */
  attributes?: Readonly<Record<string, string>> | undefined;
  /**
   * The tags of the instance. Subscribers can filter by tag.
   *
   * @defaultValue `[]`
   */
  tags?: readonly string[] | undefined;
  /**
   * The time in milliseconds after which the store removes the instance unless a heartbeat arrives: 1000 to
   * 86400000 (24 hours).
   *
   * @defaultValue the `ttl` of the URL, else 10000
   */
  ttl?: number | undefined;
  /**
   * The sender of heartbeats. `automatic`: the library. `manual`: the program, which calls
   * {@link Lease.heartbeat} at least once per TTL.
   *
   * @defaultValue `'automatic'`
   */
  heartbeat?: 'automatic' | 'manual' | undefined;
  /**
   * The time limit of the call, in milliseconds.
   *
   * @defaultValue the `connect_timeout` of the URL
   */
  timeout?: number | undefined;
}

/** A filter of instances. An instance matches if it has all given attributes, with equal values, and all given tags. */
export interface FilterOptions {
  /**
   * The attributes that an instance must have, by name.
   *
   * @defaultValue `{}`
   */
  attributes?: Readonly<Record<string, string>> | undefined;
  /**
   * The tags that an instance must have, in any order.
   *
   * @defaultValue `[]`
   */
  tags?: readonly string[] | undefined;
}

/** The limits of {@link ServiceSet.wait}. */
export interface WaitOptions {
  /** The time limit in milliseconds, after which the wait rejects with `ERR_DISCOVER_TIMEOUT`. */
  timeout: number;
  /** A signal that cancels the wait. Aborting it rejects the wait at once with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** The options of a {@link Watch}. */
export interface WatchOptions {
  /** A signal that ends the watch. Aborting it makes the loop throw an `AbortError` at once. */
  signal?: AbortSignal | undefined;
}

/** The options of {@link Client.close}. */
export interface CloseOptions {
  /**
   * The time limit of each step of closing, in milliseconds.
   *
   * @defaultValue `5000`
   */
  timeout?: number | undefined;
}

/**
 * The state of the connection to the store. `connected`: the store responds, or received no request yet.
 * `suspended`: the store does not respond; sets keep their contents, and registrations remain in the store
 * until their TTL expires. `lost`: the store has not responded for the `ttl` of the URL, so registrations may
 * have expired; the library restores them when the store responds again.
 */
export type ConnectionState = 'connected' | 'suspended' | 'lost';

/** The state of the connection to the store, with the failure that caused it. */
export interface ConnectionStatus {
  /** The state of the connection. */
  readonly state: ConnectionState;
  /** The failure of the connection; `null` while it is `connected`. */
  readonly error: DiscoverError | null;
}

/** The standing of a lease, with the failure that caused it. */
export interface LeaseStatus {
  /** The standing of the lease. */
  readonly standing: Standing;
  /** The reason why the lease is `lapsed` or `replaced`; `null` otherwise. */
  readonly error: DiscoverError | null;
}

/** The counters of a client since it was opened. Every counter but `lagMs` only grows. */
export interface Metrics {
  /** The number of connections after the first. */
  readonly reconnects: number;
  /** The number of full lists read after the first of each service. */
  readonly relists: number;
  /** The number of changes of epoch: the store was restored or wiped. */
  readonly resyncs: number;
  /** The number of changes that the store sent more than once, and that the client dropped. */
  readonly duplicates: number;
  /** The number of comparisons with a full list that found a change which the store had not reported. */
  readonly mismatches: number;
  /** The number of records received that cannot be decoded. */
  readonly invalid: number;
  /** The number of registrations restored after a loss. */
  readonly restored: number;
  /**
   * The maximum age of the shown data in milliseconds: the time since the store last responded. It is 0 for
   * a backend that cannot lose changes, and while nothing is watched.
   */
  readonly lagMs: number;
}
