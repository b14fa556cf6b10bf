/** Checks of argument types. The native module checks the values. */

import { inspect } from 'node:util';
import { invalidArgument } from './errors';

type Validator<T> = (name: string, value: unknown) => T;

export function string(name: string, value: unknown): string {
  return typeof value === 'string' ? value : reject(name, value, 'a string');
}

export function integer(name: string, value: unknown): number {
  return Number.isSafeInteger(value) ? (value as number) : reject(name, value, 'a whole number');
}

export function uint32(name: string, value: unknown): number {
  const inRange = integer(name, value) >= 0 && (value as number) < 2 ** 32;
  return inRange ? (value as number) : reject(name, value, 'from 0 to 4294967295');
}

export function milliseconds(name: string, value: unknown): number {
  const isDuration = typeof value === 'number' && Number.isFinite(value) && value >= 0;
  return isDuration ? value : reject(name, value, 'a number of milliseconds');
}

export function strings(name: string, value: unknown): string[] {
  if (!Array.isArray(value)) {
    return reject(name, value, 'an array of strings');
  }
  return value.map((item, index) => string(`${name}[${index}]`, item));
}

export function attributes(name: string, value: unknown): Record<string, string> {
  const entries = Object.entries(object(name, value));
  entries.forEach(([key, item]) => string(`${name}.${key}`, item));
  // The copy has no prototype, so that an attribute may have any name.
  return Object.assign(Object.create(null), value) as Record<string, string>;
}

export function abortSignal(name: string, value: unknown): AbortSignal {
  return value instanceof AbortSignal ? value : reject(name, value, 'an AbortSignal');
}

export function callback<T>(name: string, value: T): T {
  return typeof value === 'function' ? value : reject(name, value, 'a function');
}

/** Returns a validator of instances of a class. */
export function instanceOf<T>(type: abstract new (...parameters: never[]) => T): Validator<T> {
  return (name, value) => (value instanceof type ? value : reject(name, value, `a ${type.name}`));
}

/** Returns a validator of a fixed list of strings. */
export function oneOf<T extends string>(...choices: readonly T[]): Validator<T> {
  return (name, value) =>
    choices.includes(value as T) ? (value as T) : reject(name, value, `one of ${choices.join(', ')}`);
}

/** Returns an options object; an unknown option is an error. */
export function options<T extends string>(name: string, value: unknown, ...known: readonly T[]): Record<T, unknown> {
  const checked = object(name, value);
  const unknown = Object.keys(checked).find((key) => !known.includes(key as T));
  if (unknown !== undefined) {
    throw invalidArgument(`${name} has no option ${unknown}; it has ${known.join(', ')}`);
  }
  return checked;
}

/** Applies `validate` unless the value is left out. */
export function optional<T>(validate: Validator<T>, name: string, value: unknown): T | undefined {
  return value === undefined ? undefined : validate(name, value);
}

function object(name: string, value: unknown): Record<string, unknown> {
  return isPlainObject(value) ? value : reject(name, value, 'a plain object');
}

/**
 * Returns whether a value is an object literal, also one of another realm. A `Map` or an object of a class would look
 * like an object without properties, and a filter without properties matches everything.
 */
function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return false;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return value === process.env || prototype === null || Object.getPrototypeOf(prototype) === null;
}

function reject(name: string, value: unknown, expected: string): never {
  throw invalidArgument(`${name} is ${inspect(value, { depth: 0 })}; it must be ${expected}`);
}
