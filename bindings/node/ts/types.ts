/** What people read and write: plain objects, frozen where they come from the library. */

import type { DiscoverError } from './errors';

/** One running copy of a service, as others see it. Immutable; a change makes a new one. */
export interface Instance {
  /** The service that it is a copy of. */
  readonly service: string;
  /** Unique within the service. */
  readonly id: string;
  /** A name or an IP address, without brackets. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
  /** `host:port`, IPv6 in brackets. */
  readonly address: string;
  /** What it says of itself, by name. */
  readonly attributes: Readonly<Record<string, string>>;
  /** In the order given. */
  readonly tags: readonly string[];
  /** The names of the layouts in whose form it is in the store, in the order of the URL. */
  readonly layouts: readonly string[];
  /** From the attribute `weight`, 1 without it. */
  readonly weight: number;
  /** From the attribute `zone`. */
  readonly zone: string | null;
  /** The store's revision at which it came online. The lowest in a set is the leader. */
  readonly created: number;
  /**
   * Whether the store may have lost it by mistake: it vanished together with many others. It is picked
   * last, is no leader while another one can be, and goes unless it is back in time.
   */
  readonly isSuspect: boolean;
}

/**
 * One piece of news about a set. The first are the whole state, then `current`, then changes. A later
 * version may bring new kinds, so pass over one that you do not know.
 */
export type DiscoverEvent =
  | {
      /** An instance came online. */
      readonly kind: 'up';
      /** The one that came. */
      readonly instance: Instance;
    }
  | {
      /** An instance changed its attributes or tags. */
      readonly kind: 'update';
      /** As it is now. */
      readonly instance: Instance;
    }
  | {
      /** An instance went. */
      readonly kind: 'down';
      /** As it was last seen. */
      readonly instance: Instance;
    }
  | {
      /** Another instance is the oldest now, or there is none. */
      readonly kind: 'leader';
      /** The oldest, or null if nobody is online. */
      readonly instance: Instance | null;
    }
  | {
      /** The whole state has been told. Once for each listener. */
      readonly kind: 'current';
    }
  | {
      /** The store is lost for the moment. The set is kept as it was. */
      readonly kind: 'stale';
      /** Why it is lost. */
      readonly error: DiscoverError;
    }
  | {
      /** The store is back, and what changed meanwhile has been told. */
      readonly kind: 'fresh';
    };

/** An instance that went. */
export interface OfflineInstance {
  /** As it was last seen. */
  readonly instance: Instance;
  /** When its going was noticed. */
  readonly at: Date;
  /** `removed`: told as it happened. `missing`: not there any more when the store could be read again. */
  readonly reason: 'removed' | 'missing';
}

/** How fresh a set is. */
export interface Status {
  /** `pending` before the first view, then `current` or `stale`. */
  readonly state: 'pending' | 'current' | 'stale';
  /** Why it is not current. */
  readonly error: DiscoverError | null;
  /** Since when it is not. */
  readonly since: Date | null;
  /** Grows with each change. */
  readonly version: number;
  /** The store's revision; 0 where it has none. */
  readonly revision: number;
  /**
   * Which history of the store the revision belongs to: grows when the store turns out to be another than
   * before, restored from a backup for instance.
   */
  readonly epoch: number;
  /** How many records of the service cannot be read. */
  readonly invalid: number;
}

/** The whole truth of one moment, for as long as it is held. */
export interface Snapshot extends Status {
  /** Oldest first. */
  readonly online: readonly Instance[];
  /** Those recently gone, in the order in which they went; at most 64. */
  readonly offline: readonly OfflineInstance[];
  /** The oldest of those online. */
  readonly leader: Instance | null;
}

/**
 * How a registration stands. `live`: present, as far as is known. `lapsed`: the store has not heard of it
 * for a whole ttl, so others may not see it; it is being put back. `replaced`: another owner has taken
 * over the id. `released`: unregistered.
 */
export type Standing = 'live' | 'lapsed' | 'replaced' | 'released';

/**
 * How `pick` chooses. `round_robin`: one after the other. `random`. `weighted`: by the attribute `weight`.
 * `p2c`: the less busy of two at random; say `done` when the call is over. `hash`: the same one for the
 * same key, in every process and language.
 */
export type Policy = 'round_robin' | 'random' | 'weighted' | 'p2c' | 'hash';

/** How a program wants to reach a service. */
export type Protocol = 'tcp' | 'udp';

/** What to register: where this program can be reached, and what others should know of it. */
export interface RegisterOptions {
  /** 1 to 128 of `A-Z a-z 0-9 . _ -`. */
  service: string;
  /** 1 to 65535. Either `port`, or `address` with the port in it. */
  port?: number | undefined;
  /** A name or an IP address; by default this machine's own address. */
  host?: string | undefined;
  /** `host:port`, `[ipv6]:port` or `:port`, in place of `host` and `port`. */
  address?: string | undefined;
  /** Unique within the service; by default the address. */
  id?: string | undefined;
  /** `weight` (0 to 65535) and `zone` have a meaning to `pick`. */
  attributes?: Readonly<Record<string, string>> | undefined;
  /** Others can filter by them. */
  tags?: readonly string[] | undefined;
  /**
   * How long the instance outlives its last heartbeat, in milliseconds: 1000 to 86400000, that is 24
   * hours; by default the URL's `ttl`, 10 seconds.
   */
  ttl?: number | undefined;
  /** `manual`: the program calls `heartbeat()` within each ttl. By default the library does. */
  heartbeat?: 'automatic' | 'manual' | undefined;
  /** Give up after so many milliseconds; by default after the URL's `connect_timeout`. */
  timeout?: number | undefined;
}

/** Which instances to keep: those that have all these attributes, with these values, and all these tags. */
export interface FilterOptions {
  /** Values by name. */
  attributes?: Readonly<Record<string, string>> | undefined;
  /** In any order. */
  tags?: readonly string[] | undefined;
}

/** How long to wait. */
export interface WaitOptions {
  /** Give up, with `ERR_DISCOVER_TIMEOUT`, after so many milliseconds. */
  timeout: number;
  /** Aborting it ends the wait at once, with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** When to stop. */
export interface WatchOptions {
  /** Aborting it ends the loop at once, with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** How long to take leave. */
export interface CloseOptions {
  /** How long each step of closing may take, in milliseconds; by default 5000. */
  timeout?: number | undefined;
}

/**
 * How the connection to the store fares. `connected`: the store answers, or has not been asked yet.
 * `suspended`: it does not; sets are kept as they were, registrations live on in the store for their ttl.
 * `lost`: it has not for the ttl that the URL says, so registrations may be gone; they are put back as soon
 * as it does.
 */
export type ConnectionState = 'connected' | 'suspended' | 'lost';

/** How a connection or a registration fares. */
export interface Condition<S extends string = string> {
  /** In a word. */
  readonly state: S;
  /** Why, if that is a bad one. */
  readonly error: DiscoverError | null;
}

/** What a client has been through since it was opened. All but `lagMs` only grow. */
export interface Metrics {
  /** Connections made after the first. */
  readonly reconnects: number;
  /** Whole lists read after the first of each service. */
  readonly relists: number;
  /** Times the store turned out to have another history than before: restored, or wiped. */
  readonly resyncs: number;
  /** Changes that the store sent again, and that were dropped. */
  readonly duplicates: number;
  /** Comparisons with a list that showed that the store had not told of a change. */
  readonly mismatches: number;
  /** Records that could not be read, each time one came. */
  readonly invalid: number;
  /** Registrations put back after they were lost. */
  readonly restored: number;
  /**
   * How old what is shown may be at most, in milliseconds: since the store last gave a sign of life. 0
   * where nothing can be lost on the way, and while nothing is watched.
   */
  readonly lagMs: number;
}
