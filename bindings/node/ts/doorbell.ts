/** The one doorbell of a client: from here each ring goes to whoever listens. */

import type { NativeClient, NativeSet } from './binding';
import { call } from './errors';
import { View } from './view';

/** What rings when there is something to drain. */
export interface Feed {
  /** What there is, as JSON. */
  drain(): string;
  /** It rings no more. */
  cancel(): void;
}

/** Opens a feed that rings as `number`. */
export type OpenFeed = (number: number) => Feed;

interface Listener {
  /** There is something to drain. */
  ring(): void;
  /** Nothing comes any more, for the client is closed. */
  end(): void;
}

export class Doorbell {
  readonly #listeners = new Map<number, Listener>();
  readonly #forgotten = new FinalizationRegistry<number>((number) => this.#listeners.delete(number));
  #last = 0;

  constructor(client: NativeClient) {
    call(() => client.attach((feeds) => this.#rang(feeds)));
  }

  /** Opens a feed that rings at `listener`, and holds it until it is cancelled. */
  open(begin: OpenFeed, listener: Listener): Feed {
    const number = ++this.#last;
    const feed = call(() => begin(number));
    this.#listeners.set(number, listener);
    const cancel = (): void => {
      this.#listeners.delete(number);
      feed.cancel();
    };
    return { drain: () => feed.drain(), cancel };
  }

  /** Opens a view of `set`, and does not hold it: it ends when nobody reads it any more. */
  view(set: NativeSet): View {
    const number = ++this.#last;
    const view = new View(call(() => set.view(number)));
    const reader = new WeakRef(view);
    this.#listeners.set(number, { ring: () => reader.deref()?.changed(), end: () => {} });
    this.#forgotten.register(view, number);
    return view;
  }

  /** Ends all who listen. */
  end(): void {
    for (const listener of [...this.#listeners.values()]) {
      listener.end();
    }
  }

  #rang(feeds: number[]): void {
    for (const number of feeds) {
      this.#listeners.get(number)?.ring();
    }
  }
}
