/** Dispatch of the native module's wake-ups to the subscriptions of one client. */

import type { NativeClient, NativeSet } from './binding';
import { call } from './errors';
import { SetCache } from './set_cache';

/** A source of notifications that rings when there is something to drain. */
export interface Feed {
  /** Returns the pending notifications as JSON. */
  drain(): string;
  /** Ends the feed: it does not ring again. */
  cancel(): void;
}

/** Opens a feed that rings with the number `feedId`. */
export type OpenFeed = (feedId: number) => Feed;

interface FeedHandler {
  /** Called when the feed has something to drain. */
  ring(): void;
  /** Called when the client is closed. */
  end(): void;
}

/** The doorbell of a client: one native callback, shared by all of the client's feeds. */
export class Doorbell {
  readonly #handlers = new Map<number, FeedHandler>();
  readonly #collected = new FinalizationRegistry<number>((feedId) => this.#handlers.delete(feedId));
  #lastFeedId = 0;

  constructor(client: NativeClient) {
    call(() => client.attach((feedIds) => this.#onRing(feedIds)));
  }

  /** Opens a feed that rings `handler`, and references it until it is cancelled. */
  open(openFeed: OpenFeed, handler: FeedHandler): Feed {
    const feedId = ++this.#lastFeedId;
    const feed = call(() => openFeed(feedId));
    this.#handlers.set(feedId, handler);
    const cancel = (): void => {
      this.#handlers.delete(feedId);
      feed.cancel();
    };
    return { drain: () => feed.drain(), cancel };
  }

  /** Opens a cache of `set` without referencing it, so that an unused cache is garbage collected. */
  openCache(set: NativeSet): SetCache {
    const feedId = ++this.#lastFeedId;
    const cache = new SetCache(call(() => set.cacheFeed(feedId)));
    const reference = new WeakRef(cache);
    this.#handlers.set(feedId, { ring: () => reference.deref()?.invalidate(), end: () => {} });
    this.#collected.register(cache, feedId);
    return cache;
  }

  /** Ends every subscription. */
  end(): void {
    for (const handler of [...this.#handlers.values()]) {
      handler.end();
    }
  }

  #onRing(feedIds: number[]): void {
    for (const feedId of feedIds) {
      this.#handlers.get(feedId)?.ring();
    }
  }
}
