/** A cache of a service set in JavaScript memory. */

import type { NativeFeed } from './binding';
import { parseSetUpdate } from './decode';
import type { DiscoverEvent, Instance, OfflineInstance, Snapshot, Status } from './types';

/** A copy of a set that calls the native module only after the set has changed. */
export class SetCache {
  readonly #feed: NativeFeed;
  readonly #instances = new Map<string, Instance>();
  #isValid = false;
  #online: readonly Instance[] | null = null;
  #eligibleIndices: readonly number[] | null = null;
  #eligible: readonly Instance[] | null = null;
  #offline: readonly OfflineInstance[] = [];
  #leaderKey: string | null = null;
  #status!: Status;

  constructor(feed: NativeFeed) {
    this.#feed = feed;
  }

  /** Makes the next read fetch the changes of the set. */
  invalidate(): void {
    this.#isValid = false;
  }

  /** Invalidates the cache, even if its feed has not rung, and returns it. */
  refreshed(): this {
    this.invalidate();
    return this;
  }

  /** The instances online, oldest first. The same frozen array until one of them changes. */
  get online(): readonly Instance[] {
    this.#update();
    this.#online ??= Object.freeze([...this.#instances.values()].sort(compareInstances));
    return this.#online;
  }

  /** The instances that `pick` may choose, oldest first. */
  get eligible(): readonly Instance[] {
    this.#update();
    this.#eligible ??= this.#eligibleIndices?.map((index) => this.online[index] as Instance) ?? this.online;
    return this.#eligible;
  }

  get offline(): readonly OfflineInstance[] {
    this.#update();
    return this.#offline;
  }

  get leader(): Instance | null {
    this.#update();
    return (this.#leaderKey !== null && this.#instances.get(this.#leaderKey)) || null;
  }

  get status(): Status {
    this.#update();
    return this.#status;
  }

  get snapshot(): Snapshot {
    const { status, online, offline, leader } = this;
    return Object.freeze({ ...status, online, offline, leader });
  }

  /** Returns the instance with the native module's `key`. */
  get(key: string): Instance | undefined {
    this.#update();
    return this.#instances.get(key);
  }

  #update(): void {
    if (this.#isValid) {
      return;
    }
    // Set before the read: a change after the read invalidates the cache again.
    this.#isValid = true;
    const { status, offline, eligible, events } = parseSetUpdate(this.#feed.read());
    this.#status = status;
    this.#eligibleIndices = eligible;
    this.#eligible = null;
    this.#offline = offline ?? this.#offline;
    events.forEach((event) => this.#apply(event));
  }

  #apply(event: DiscoverEvent): void {
    switch (event.kind) {
      case 'up':
      case 'update':
        this.#instances.set(keyOf(event.instance), event.instance);
        this.#online = null;
        break;
      case 'down':
        this.#instances.delete(keyOf(event.instance));
        this.#online = null;
        break;
      case 'leader':
        this.#leaderKey = event.instance && keyOf(event.instance);
        break;
      case 'current':
      case 'stale':
      case 'fresh':
        // The status contains this.
        break;
    }
  }
}

/** Returns the key of an instance, unique while the instance is online. */
function keyOf(instance: Instance): string {
  return `${instance.created}/${instance.id}`;
}

/** Compares instances in the core's order: by age, then by the UTF-8 bytes of the id. */
function compareInstances(a: Instance, b: Instance): number {
  return a.created - b.created || compareUtf8(a.id, b.id);
}

/** Compares two strings by their UTF-8 bytes without encoding them. */
function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const [unitA, unitB] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (unitA !== unitB) {
      return utf8Rank(unitA) - utf8Rank(unitB);
    }
  }
  return a.length - b.length;
}

/** Maps a UTF-16 unit to its UTF-8 order: surrogates sort after U+E000 to U+FFFF in UTF-8, before them in UTF-16. */
function utf8Rank(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit;
}
