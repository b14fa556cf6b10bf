import type { Doorbell, Feed, OpenFeed } from './doorbell';
import type { Drained } from './news';

/** What is told of what was drained, one after the other. */
export interface Told<T> {
  parse(text: string): Drained<T>;
  tell(item: T): void;
}

/** The longest that a timer can be set to. */
const FOR_EVER = 2 ** 31 - 1;

/**
 * News handed to a callback, on the event loop, one at a time.
 *
 * It keeps the process alive, as a timer does, until it is cancelled, its client is closed, or `unref`
 * is called. What the callback throws is thrown on as an uncaught exception, as from a listener of an
 * `EventTarget`; the subscription lives on and no news is lost.
 */
export class Subscription {
  readonly #feed: Feed;
  readonly #told: Told<unknown>;
  readonly #alive = keepAlive();
  #cancelled = false;

  /** @internal */
  constructor(doorbell: Doorbell, open: OpenFeed, told: Told<unknown>) {
    this.#told = told;
    const listener = { ring: () => this.#drain(), end: () => this.cancel() };
    try {
      this.#feed = doorbell.open(open, listener);
    } catch (error) {
      clearInterval(this.#alive);
      throw error;
    }
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
    for (let isMore = true; isMore && !this.#cancelled; ) {
      const { items, more } = this.#told.parse(this.#feed.drain());
      for (const item of items) {
        if (this.#cancelled) {
          return;
        }
        try {
          this.#told.tell(item);
        } catch (error) {
          process.nextTick(() => {
            throw error;
          });
        }
      }
      isMore = more;
    }
  }
}

/** The doorbell is shared by all who listen, so each keeps the process alive with a timer of its own. */
export function keepAlive(): NodeJS.Timeout {
  return setInterval(() => {}, FOR_EVER);
}
