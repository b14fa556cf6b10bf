import type { NativeSet } from './binding';
import type { Doorbell, Feed } from './doorbell';
import { parseEvents } from './news';
import type { DiscoverEvent } from './types';

/** The longest that a timer can be set to. */
const FOR_EVER = 2 ** 31 - 1;

/**
 * Events handed to a callback, on the event loop, one at a time.
 *
 * It keeps the process alive, as a timer does, until it is cancelled, its client is closed, or `unref`
 * is called. What the callback throws is thrown on as an uncaught exception, as from a listener of an
 * `EventTarget`; the subscription lives on and no event is lost.
 */
export class Subscription {
  readonly #feed: Feed;
  readonly #callback: (event: DiscoverEvent) => void;
  readonly #alive = keepAlive();
  #cancelled = false;

  /** @internal */
  constructor(doorbell: Doorbell, set: NativeSet, callback: (event: DiscoverEvent) => void) {
    this.#callback = callback;
    const listener = { ring: () => this.#drain(), end: () => this.cancel() };
    this.#feed = doorbell.open(set, listener);
  }

  /** Ends it: the callback is not called again. */
  cancel(): void {
    this.#cancelled = true;
    clearInterval(this.#alive);
    this.#feed.cancel();
  }

  /** Keeps the process alive again. */
  ref(): this {
    this.#alive.ref();
    return this;
  }

  /** Lets the process exit although somebody is listening. */
  unref(): this {
    this.#alive.unref();
    return this;
  }

  #drain(): void {
    for (const event of parseEvents(this.#feed.native.drain())) {
      if (this.#cancelled) {
        return;
      }
      this.#tell(event);
    }
  }

  #tell(event: DiscoverEvent): void {
    try {
      this.#callback(event);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }
}

/** The doorbell is shared by all who listen, so each keeps the process alive with a timer of its own. */
export function keepAlive(): NodeJS.Timeout {
  return setInterval(() => {}, FOR_EVER);
}
