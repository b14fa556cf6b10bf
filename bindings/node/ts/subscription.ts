import type { Drained } from './decode';
import type { Doorbell, Feed, OpenFeed } from './doorbell';

/** The receiver of a feed's notifications. */
export interface Receiver<T> {
  parse(text: string): Drained<T>;
  deliver(item: T): void;
}

/** The longest interval of a Node timer, in milliseconds. */
const MAX_TIMER_INTERVAL = 2 ** 31 - 1;

/**
 * A callback that receives notifications on the event loop, one at a time.
 *
 * A subscription keeps the process alive, as a timer does, until it is cancelled, its client is closed or
 * `unref` is called. An exception of the callback becomes an uncaught exception, as with a listener of an
 * `EventTarget`; the subscription continues and loses no notification.
 */
export class Subscription {
  readonly #feed: Feed;
  readonly #receiver: Receiver<unknown>;
  readonly #keepAliveTimer = startKeepAliveTimer();
  #cancelled = false;

  /** @internal */
  constructor(doorbell: Doorbell, open: OpenFeed, receiver: Receiver<unknown>) {
    this.#receiver = receiver;
    const handler = { ring: () => this.#drain(), end: () => this.cancel() };
    try {
      this.#feed = doorbell.open(open, handler);
    } catch (error) {
      clearInterval(this.#keepAliveTimer);
      throw error;
    }
  }

  /** Ends the subscription: the callback is not called again. Repeating the call is allowed. */
  cancel(): void {
    this.#cancelled = true;
    clearInterval(this.#keepAliveTimer);
    this.#feed.cancel();
  }

  /**
   * Keeps the process alive while the subscription lasts; this is the default.
   *
   * @returns This subscription.
   */
  ref(): this {
    this.#keepAliveTimer.ref();
    return this;
  }

  /**
   * Allows the process to exit while the subscription lasts.
   *
   * @returns This subscription.
   */
  unref(): this {
    this.#keepAliveTimer.unref();
    return this;
  }

  #drain(): void {
    for (let isMore = true; isMore && !this.#cancelled; ) {
      const { items, more } = this.#receiver.parse(this.#feed.drain());
      for (const item of items) {
        if (this.#cancelled) {
          return;
        }
        try {
          this.#receiver.deliver(item);
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

/** Starts a timer that keeps the process alive. Each subscription has one, because all share one doorbell. */
export function startKeepAliveTimer(): NodeJS.Timeout {
  return setInterval(() => {}, MAX_TIMER_INTERVAL);
}
