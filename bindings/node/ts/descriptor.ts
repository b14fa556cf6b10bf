import { binding } from './binding';
import { call } from './errors';
import type { Protocol } from './types';
import * as validate from './validate';

/**
 * A service requirement in one line of text, such as `redis.master[prod,stats];6379/tcp`. Instances are immutable (`Object.freeze`).
 *
 * ```ts
 * const wanted = Descriptor.parse('redis.master[prod];6379');
 * const redis = client.services(wanted.service).filter({ tags: wanted.tags });
 * ```
 */
export class Descriptor {
  /** The name of the service: the whole name, or the last part of the path. */
  readonly service: string;
  /** The whole path, such as `/services/prod/redis.master`; `null` if the text contains only a name. */
  readonly path: string | null;
  /** The tags that an instance must have, in the order of the text. */
  readonly tags: readonly string[];
  /** The port at which the program wants to reach the service, 1 to 65535; not the port of an instance. */
  readonly port: number;
  /** The transport protocol: `tcp` unless the text says `udp`. */
  readonly protocol: Protocol;
  readonly #text: string;

  private constructor(fields: DescriptorFields) {
    this.service = fields.service;
    this.path = fields.path;
    this.tags = Object.freeze(fields.tags);
    this.port = fields.port;
    this.protocol = fields.protocol;
    this.#text = fields.text;
    Object.freeze(this);
  }

  /**
   * Parses a descriptor.
   *
   * @param text - The text of the descriptor.
   * @returns The descriptor.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`; its message contains the column, counted
   * from 1, and what the parser expected there
   */
  static parse(text: string): Descriptor {
    const checked = validate.string('text', text);
    return new Descriptor(JSON.parse(call(() => binding.parseDescriptor(checked))) as DescriptorFields);
  }

  /**
   * Reads the descriptors in `process.env`: those of the variables whose names begin with `prefix`. With the
   * prefix `BACKEND_`, the variable `BACKEND_REDIS=redis.master;6379` yields the descriptor `REDIS`. An
   * invalid descriptor is skipped, and the log names it with the reason.
   *
   * @param prefix - The beginning of the names of the variables, not empty.
   * @returns The descriptors by the rest of the name, in the order of the names.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  static fromEnv(prefix: string): Map<string, Descriptor> {
    return Descriptor.fromPairs(prefix, process.env as Record<string, string>);
  }

  /**
   * Reads the descriptors in a set of variables, such as the environment of a container. An invalid
   * descriptor is skipped, and the log names it with the reason.
   *
   * @param prefix - The beginning of the names of the variables, not empty.
   * @param pairs - The variables, by name.
   * @returns The descriptors by the rest of the name, in the order of the names.
   * @throws {@link DiscoverError} `ERR_DISCOVER_INVALID_ARGUMENT`
   */
  static fromPairs(prefix: string, pairs: Readonly<Record<string, string>>): Map<string, Descriptor> {
    const checkedPrefix = validate.string('prefix', prefix);
    const variables = validate.attributes('pairs', pairs);
    const text = call(() => binding.descriptorsFromPairs(checkedPrefix, variables));
    const descriptors = JSON.parse(text) as [string, DescriptorFields][];
    return new Map(descriptors.map(([name, fields]) => [name, new Descriptor(fields)]));
  }

  /**
   * Returns the text of the descriptor, with its protocol.
   *
   * @returns A text that parses to an equal descriptor.
   */
  toString(): string {
    return this.#text;
  }
}

/** A descriptor in the native module's JSON. */
interface DescriptorFields {
  service: string;
  path: string | null;
  tags: string[];
  port: number;
  protocol: Protocol;
  text: string;
}
