import { asyncDispose } from './dispose';
import type { Doorbell, Feed, OpenFeed } from './doorbell';
import { AbortError } from './errors';
import type { Drained } from './news';
import { keepAlive } from './subscription';
import type { DiscoverEvent } from './types';

type Result<T> = IteratorResult<T, undefined>;

interface Waiter<T> {
  resolve(result: Result<T>): void;
  reject(error: Error): void;
}

/**
 * Events, or how a connection fares, for `for await`. Begins when it is first asked; leaving the loop ends it, and so does closing
 * the client. Aborting its signal makes the loop throw an `AbortError`, at once.
 *
 * From its first question to its end it keeps the process alive, as a timer does, unless `unref` is
 * called. However slow the loop is, it costs the events of one look at the set: what happens while it
 * is busy is told as the difference, in which intermediate states are skipped.
 */
export class Watch<T = DiscoverEvent> implements AsyncIterableIterator<T, undefined> {
  readonly #open: (watch: Watch<T>) => Feed;
  readonly #parse: (text: string) => Drained<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #waiting: Waiter<T>[] = [];
  #feed: Feed | undefined;
  #alive: NodeJS.Timeout | undefined;
  #referenced = true;
  /** What was drained and not yet asked for: the last is the next. */
  #told: T[] = [];
  #rang = false;
  /** What the last ring was for is not all drained. */
  #isMore = false;
  #ended = false;
  /** To be thrown once. */
  #error: Error | undefined;

  /** @internal */
  constructor(doorbell: Doorbell, open: OpenFeed, parse: (text: string) => Drained<T>, signal: AbortSignal | undefined) {
    this.#parse = parse;
    this.#open = (watch) => doorbell.open(open, { ring: () => watch.#ring(), end: () => watch.#end() });
    this.#signal = signal;
  }

  /** The next one; done when the watch has ended. One after the other is asked for, or many at once. */
  next(): Promise<Result<T>> {
    return new Promise((resolve, reject) => {
      this.#begin();
      this.#waiting.push({ resolve, reject });
      this.#serve();
    });
  }

  /** Ends it, and with it the loop. */
  cancel(): void {
    this.#end();
  }

  /** Ends it; called by leaving a loop. */
  async return(): Promise<Result<T>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  /** Keeps the process alive again. */
  ref(): this {
    this.#referenced = true;
    this.#alive?.ref();
    return this;
  }

  /** Lets the process exit although somebody is waiting for news. */
  unref(): this {
    this.#referenced = false;
    this.#alive?.unref();
    return this;
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends it. */
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
    this.#alive = keepAlive();
    if (!this.#referenced) {
      this.#alive.unref();
    }
  }

  readonly #abort = (): void => this.#end(this.#signal && new AbortError(this.#signal));

  #ring(): void {
    this.#rang = true;
    this.#serve();
  }

  /** Gives those who wait what there is. Drains only when somebody asks, so that nothing piles up. */
  #serve(): void {
    while (this.#waiting.length > 0) {
      if (this.#told.length === 0 && (this.#isMore || this.#rang) && this.#feed) {
        // The rest of an earlier look answers no ring.
        this.#rang &&= this.#isMore;
        const { items, more } = this.#parse(this.#feed.drain());
        this.#isMore = more;
        this.#told = items.reverse();
      }
      const value = this.#told.pop();
      if (value === undefined && !this.#ended) {
        return;
      }
      const waiter = this.#waiting.shift();
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
    this.#told = [];
    this.#rang = false;
    this.#isMore = false;
    clearInterval(this.#alive);
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#feed?.cancel();
    this.#serve();
  }
}
