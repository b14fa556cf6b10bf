import type { Drained } from './decode';
import { asyncDispose } from './dispose';
import type { Doorbell, Feed, OpenFeed } from './doorbell';
import { AbortError } from './errors';
import { startKeepAliveTimer } from './subscription';
import type { DiscoverEvent } from './types';

type Result<T> = IteratorResult<T, undefined>;

interface Waiter<T> {
  resolve(result: Result<T>): void;
  reject(error: Error): void;
}

/**
 * An async iterable of the events of a set, or of the states of a connection, for `for await`. The watch
 * begins with the first `next`. It ends when the loop is left or the client is closed. If its signal is
 * aborted, the loop throws an `AbortError` at once.
 *
 * From its first `next` to its end a watch keeps the process alive, as a timer does, unless `unref` is
 * called. A slow loop uses bounded memory: changes during its work are delivered as the difference, without
 * the intermediate states.
 */
export class Watch<T = DiscoverEvent> implements AsyncIterableIterator<T, undefined> {
  readonly #open: (watch: Watch<T>) => Feed;
  readonly #parse: (text: string) => Drained<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #waiters: Waiter<T>[] = [];
  #feed: Feed | undefined;
  #keepAliveTimer: NodeJS.Timeout | undefined;
  #referenced = true;
  /** The drained items that were not yet requested, in reverse order. */
  #buffered: T[] = [];
  #rang = false;
  /** Whether the previous drain returned only a part of the notifications. */
  #isMore = false;
  #ended = false;
  /** The error of the next `next`, thrown once. */
  #error: Error | undefined;

  /** @internal */
  constructor(doorbell: Doorbell, open: OpenFeed, parse: (text: string) => Drained<T>, signal: AbortSignal | undefined) {
    this.#parse = parse;
    this.#open = (watch) => doorbell.open(open, { ring: () => watch.#onRing(), end: () => watch.#end() });
    this.#signal = signal;
  }

  /**
   * Returns the next item. Several calls may be pending; they resolve in order.
   *
   * @returns The item, or `done` if the watch has ended.
   * @throws {@link DiscoverError} `ERR_DISCOVER_CLOSED`; an `AbortError` if the signal is aborted
   */
  next(): Promise<Result<T>> {
    return new Promise((resolve, reject) => {
      this.#begin();
      this.#waiters.push({ resolve, reject });
      this.#resolveWaiters();
    });
  }

  /** Ends the watch and its loop. Repeating the call is allowed. */
  cancel(): void {
    this.#end();
  }

  /**
   * Ends the watch. Leaving a `for await` loop calls it.
   *
   * @returns A result that is `done`.
   */
  async return(): Promise<Result<T>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  /**
   * Keeps the process alive while the watch lasts; this is the default.
   *
   * @returns This watch.
   */
  ref(): this {
    this.#referenced = true;
    this.#keepAliveTimer?.ref();
    return this;
  }

  /**
   * Allows the process to exit while the watch lasts.
   *
   * @returns This watch.
   */
  unref(): this {
    this.#referenced = false;
    this.#keepAliveTimer?.unref();
    return this;
  }

  /**
   * Returns the watch itself, for `for await`.
   *
   * @returns This watch.
   */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * Ends the watch, for `await using`.
   *
   * @returns A resolved promise.
   */
  async [asyncDispose](): Promise<void> {
    this.cancel();
  }

  #begin(): void {
    if (this.#feed || this.#ended) {
      return;
    }
    if (this.#signal?.aborted) {
      this.#end(new AbortError(this.#signal));
      return;
    }
    this.#feed = this.#open(this);
    this.#signal?.addEventListener('abort', this.#abort);
    this.#keepAliveTimer = startKeepAliveTimer();
    if (!this.#referenced) {
      this.#keepAliveTimer.unref();
    }
  }

  readonly #abort = (): void => this.#end(this.#signal && new AbortError(this.#signal));

  #onRing(): void {
    this.#rang = true;
    this.#resolveWaiters();
  }

  /** Resolves pending calls of `next`. Drains only for a pending call, so that the buffer stays bounded. */
  #resolveWaiters(): void {
    while (this.#waiters.length > 0) {
      if (this.#buffered.length === 0 && (this.#isMore || this.#rang) && this.#feed) {
        // Draining the rest of an earlier drain does not answer a new ring.
        this.#rang &&= this.#isMore;
        const { items, more } = this.#parse(this.#feed.drain());
        this.#isMore = more;
        this.#buffered = items.reverse();
      }
      const value = this.#buffered.pop();
      if (value === undefined && !this.#ended) {
        return;
      }
      const waiter = this.#waiters.shift();
      if (value !== undefined) {
        waiter?.resolve({ done: false, value });
      } else if (this.#error) {
        waiter?.reject(this.#error);
        this.#error = undefined;
      } else {
        waiter?.resolve({ done: true, value: undefined });
      }
    }
  }

  #end(error?: Error): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#error = error;
    this.#buffered = [];
    this.#rang = false;
    this.#isMore = false;
    clearInterval(this.#keepAliveTimer);
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#feed?.cancel();
    this.#resolveWaiters();
  }
}
