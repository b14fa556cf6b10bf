/** The error classes, and the conversion of native failures into them. */

import { binding } from './binding';

/** All error codes. A test compares the list with the core's. */
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

/** The code of a {@link DiscoverError}. Each kind of failure has one, and every language has the same kinds. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** The error of every failing call. A program decides by `code` or `retriable`, never by the message. */
export class DiscoverError extends Error {
  /** The string `DiscoverError`, which identifies the class even if two copies of the package are loaded. */
  override readonly name = 'DiscoverError';
  /** The kind of the failure. */
  readonly code: ErrorCode;
  /** Whether the same call with the same arguments may succeed later. */
  readonly retriable: boolean;

  /**
   * Creates an error.
   *
   * @param code - The kind of the failure.
   * @param message - The text for people.
   */
  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
    this.retriable = binding.errorKinds().some((kind) => kind.retriable && codeOf(kind.name) === code);
  }
}

/** The error of a watch or a wait whose `signal` is aborted, with the name and code of Node's own `AbortError`. */
export class AbortError extends Error {
  override readonly name = 'AbortError';
  readonly code = 'ABORT_ERR';

  constructor(signal: AbortSignal) {
    super('The operation was aborted', { cause: signal.reason });
  }
}

/** A failure in the native module's JSON. */
export interface Failure {
  code: string;
  message: string;
}

export function discoverError({ code, message }: Failure): DiscoverError {
  const known = ERROR_CODES.find((candidate) => candidate === codeOf(code));
  return new DiscoverError(known ?? 'ERR_DISCOVER_INTERNAL', message);
}

export function invalidArgument(message: string): DiscoverError {
  return new DiscoverError('ERR_DISCOVER_INVALID_ARGUMENT', message);
}

/** Calls the native module and converts its failure into a `DiscoverError`. */
export function call<T>(operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw discoverError(error as Failure);
  }
}

/** Calls the native module and awaits the result. The stack of an error contains the caller. */
export async function callAsync<T>(operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw discoverError(error as Failure);
  }
}

function codeOf(kind: string): string {
  return `ERR_DISCOVER_${kind.toUpperCase()}`;
}
