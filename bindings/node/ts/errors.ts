/** The one error class, over the core's one table of errors. */

import { binding } from './binding';

/** Every code there is. A test compares this list with the core's. */
export const ERROR_CODES = [
  'ERR_DISCOVER_INTERNAL',
  'ERR_DISCOVER_INVALID_ARGUMENT',
  'ERR_DISCOVER_UNSUPPORTED',
  'ERR_DISCOVER_UNAVAILABLE',
  'ERR_DISCOVER_TIMEOUT',
  'ERR_DISCOVER_PERMISSION_DENIED',
  'ERR_DISCOVER_NOT_FOUND',
  'ERR_DISCOVER_LEASE_LOST',
  'ERR_DISCOVER_REPLACED',
  'ERR_DISCOVER_CLOSED',
  'ERR_DISCOVER_BUSY',
  'ERR_DISCOVER_FORKED',
  'ERR_DISCOVER_RESOURCE',
] as const;

/** What a `DiscoverError` is told by: one code for each kind of failure, the same kinds in every language. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** What every failing call throws. Programs decide by `code` or `retriable`, never by the message. */
export class DiscoverError extends Error {
  /** `DiscoverError`, also where two copies of the package are loaded. */
  override readonly name = 'DiscoverError';
  /** Which kind of failure it is. */
  readonly code: ErrorCode;
  /** Whether the same call may succeed later, its arguments unchanged. */
  readonly retriable: boolean;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
    this.retriable = binding.errorKinds().some((kind) => kind.retriable && codeOf(kind.name) === code);
  }
}

/** What an iteration or a wait ends with when its `signal` is aborted; as Node's own, also in its code. */
export class AbortError extends Error {
  override readonly name = 'AbortError';
  readonly code = 'ABORT_ERR';

  constructor(signal: AbortSignal) {
    super('The operation was aborted', { cause: signal.reason });
  }
}

/** A failure as the native module writes it in JSON. */
export interface Failure {
  code: string;
  message: string;
}

export function discoverError({ code, message }: Failure): DiscoverError {
  const known = ERROR_CODES.find((candidate) => candidate === codeOf(code));
  return new DiscoverError(known ?? 'ERR_DISCOVER_INTERNAL', message);
}

export function invalid(message: string): DiscoverError {
  return new DiscoverError('ERR_DISCOVER_INVALID_ARGUMENT', message);
}

/** Calls into the native module. */
export function call<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw discoverError(error as Failure);
  }
}

/** Calls into the native module and awaits; the error knows who called. */
export async function settled<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw discoverError(error as Failure);
  }
}

function codeOf(kind: string): string {
  return `ERR_DISCOVER_${kind.toUpperCase()}`;
}
