/** A set in JavaScript memory, read without a call into the native module until it has changed. */

import type { NativeFeed } from './binding';
import { parseReading } from './news';
import type { OfflineInstance, DiscoverEvent, Instance, Snapshot, Status } from './types';

export class View {
  readonly #feed: NativeFeed;
  readonly #instances = new Map<string, Instance>();
  #isCurrent = false;
  #online: readonly Instance[] | null = null;
  #able: readonly number[] | null = null;
  #choice: readonly Instance[] | null = null;
  #offline: readonly OfflineInstance[] = [];
  #leader: string | null = null;
  #status!: Status;

  constructor(feed: NativeFeed) {
    this.#feed = feed;
  }

  /** Has the next read look at the set anew. */
  changed(): void {
    this.#isCurrent = false;
  }

  /** The view, whether it rang or not. */
  get anew(): this {
    this.changed();
    return this;
  }

  /** Oldest first; the same frozen array until one of them changes. */
  get online(): readonly Instance[] {
    this.#read();
    this.#online ??= Object.freeze([...this.#instances.values()].sort(bySeniority));
    return this.#online;
  }

  /** Those to choose from, oldest first. */
  get choice(): readonly Instance[] {
    this.#read();
    this.#choice ??= this.#able?.map((at) => this.online[at] as Instance) ?? this.online;
    return this.#choice;
  }

  get offline(): readonly OfflineInstance[] {
    this.#read();
    return this.#offline;
  }

  get leader(): Instance | null {
    this.#read();
    return (this.#leader !== null && this.#instances.get(this.#leader)) || null;
  }

  get status(): Status {
    this.#read();
    return this.#status;
  }

  get snapshot(): Snapshot {
    const { status, online, offline, leader } = this;
    return Object.freeze({ ...status, online, offline, leader });
  }

  /** The instance that the native module calls `key`. */
  get(key: string): Instance | undefined {
    this.#read();
    return this.#instances.get(key);
  }

  #read(): void {
    if (this.#isCurrent) {
      return;
    }
    // What changes from here on rings again.
    this.#isCurrent = true;
    const { status, offline, able, events } = parseReading(this.#feed.read());
    this.#status = status;
    this.#able = able;
    this.#choice = null;
    this.#offline = offline ?? this.#offline;
    events.forEach((event) => this.#fold(event));
  }

  #fold(event: DiscoverEvent): void {
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
        this.#leader = event.instance && keyOf(event.instance);
        break;
      case 'current':
      case 'stale':
      case 'fresh':
        // The status says so.
        break;
    }
  }
}

/** The name of an instance for as long as it is online. */
function keyOf(instance: Instance): string {
  return `${instance.created}/${instance.id}`;
}

/** As the core orders them: by age, and by the bytes of the id where they are of one age. */
function bySeniority(a: Instance, b: Instance): number {
  return a.created - b.created || byBytes(a.id, b.id);
}

/** The order of two texts by their bytes in UTF-8, without making these. */
function byBytes(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  for (let at = 0; at < end; at++) {
    const [one, other] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (one !== other) {
      return rank(one) - rank(other);
    }
  }
  return a.length - b.length;
}

/** In UTF-16, and only there, the first half of a pair comes before the last few of what needs no pair. */
function rank(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit;
}
