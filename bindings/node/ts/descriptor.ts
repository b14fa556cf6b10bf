import { binding } from './binding';
import * as check from './check';
import { call } from './errors';
import type { Protocol } from './types';

/**
 * What a program asks for in a line of text: `redis.master[prod,stats];6379/tcp`. Frozen.
 *
 * ```ts
 * const wanted = Descriptor.parse('redis.master[prod];6379');
 * const redis = client.services(wanted.service).filter({ tags: wanted.tags });
 * ```
 */
export class Descriptor {
  /** The service: the name, or the last part of the path. */
  readonly service: string;
  /** The whole path, as in `/services/prod/redis.master`; null where there is just a name. */
  readonly path: string | null;
  /** What the instances must be tagged with, in the order given. */
  readonly tags: readonly string[];
  /** 1 to 65535: where the program wants to reach the service, which is not where an instance listens. */
  readonly port: number;
  /** How it wants to: `tcp`, unless the text says `udp`. */
  readonly protocol: Protocol;
  readonly #text: string;

  private constructor(fields: Fields) {
    this.service = fields.service;
    this.path = fields.path;
    this.tags = Object.freeze(fields.tags);
    this.port = fields.port;
    this.protocol = fields.protocol;
    this.#text = fields.text;
    Object.freeze(this);
  }

  /**
   * Reads a descriptor.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT`, which tells the column, counted from 1, and what is expected
   * there.
   */
  static parse(text: string): Descriptor {
    const given = check.text('text', text);
    return new Descriptor(JSON.parse(call(() => binding.parseDescriptor(given))) as Fields);
  }

  /**
   * The descriptors in `process.env`: the variables whose names begin with `prefix`, by what follows it, in
   * the order of the names. With `BACKEND_`, the variable `BACKEND_REDIS=redis.master;6379` is `REDIS`. One
   * that cannot be read is passed over; the log names it, and what is wrong.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT` for an empty prefix.
   */
  static fromEnv(prefix: string): Map<string, Descriptor> {
    return Descriptor.fromPairs(prefix, process.env as Record<string, string>);
  }

  /**
   * The same for variables that the program has from elsewhere: those of a container, for instance.
   *
   * Throws `ERR_DISCOVER_INVALID_ARGUMENT`.
   */
  static fromPairs(prefix: string, pairs: Readonly<Record<string, string>>): Map<string, Descriptor> {
    const beginning = check.text('prefix', prefix);
    const given = check.attributes('pairs', pairs);
    const read = JSON.parse(call(() => binding.descriptorsFromPairs(beginning, given))) as [string, Fields][];
    return new Map(read.map(([name, fields]) => [name, new Descriptor(fields)]));
  }

  /** A text that reads as the same, with its protocol. */
  toString(): string {
    return this.#text;
  }
}

/** What the native module writes. */
interface Fields {
  service: string;
  path: string | null;
  tags: string[];
  port: number;
  protocol: Protocol;
  text: string;
}
