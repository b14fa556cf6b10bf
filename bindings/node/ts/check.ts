/** Are the arguments of the right type? What they may be is the core's to say. */

import { inspect } from 'node:util';
import { invalid } from './errors';

type Check<T> = (what: string, value: unknown) => T;

export function text(what: string, value: unknown): string {
  return typeof value === 'string' ? value : refuse(what, value, 'a string');
}

export function whole(what: string, value: unknown): number {
  return Number.isSafeInteger(value) ? (value as number) : refuse(what, value, 'a whole number');
}

export function count(what: string, value: unknown): number {
  const inRange = whole(what, value) >= 0 && (value as number) < 2 ** 32;
  return inRange ? (value as number) : refuse(what, value, 'from 0 to 4294967295');
}

export function millis(what: string, value: unknown): number {
  const isTime = typeof value === 'number' && Number.isFinite(value) && value >= 0;
  return isTime ? value : refuse(what, value, 'a number of milliseconds');
}

export function texts(what: string, value: unknown): string[] {
  if (!Array.isArray(value)) {
    return refuse(what, value, 'an array of strings');
  }
  return value.map((item, at) => text(`${what}[${at}]`, item));
}

export function attributes(what: string, value: unknown): Record<string, string> {
  const entries = Object.entries(object(what, value));
  entries.forEach(([name, item]) => text(`${what}.${name}`, item));
  // Without a prototype: an attribute may have any name.
  return Object.assign(Object.create(null), value) as Record<string, string>;
}

export function signal(what: string, value: unknown): AbortSignal {
  return value instanceof AbortSignal ? value : refuse(what, value, 'an AbortSignal');
}

export function callback<T>(what: string, value: T): T {
  return typeof value === 'function' ? value : refuse(what, value, 'a function');
}

export function oneOf<T extends string>(...names: readonly T[]): Check<T> {
  return (what, value) =>
    names.includes(value as T) ? (value as T) : refuse(what, value, `one of ${names.join(', ')}`);
}

/** An options object, in which nothing is misspelt. */
export function options<T extends string>(what: string, value: unknown, ...known: readonly T[]): Record<T, unknown> {
  const given = object(what, value);
  const stranger = Object.keys(given).find((name) => !known.includes(name as T));
  if (stranger !== undefined) {
    throw invalid(`${what} has no option ${stranger}; it has ${known.join(', ')}`);
  }
  return given;
}

/** What may be left out. */
export function maybe<T>(check: Check<T>, what: string, value: unknown): T | undefined {
  return value === undefined ? undefined : check(what, value);
}

function object(what: string, value: unknown): Record<string, unknown> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : refuse(what, value, 'an object');
}

function refuse(what: string, value: unknown, right: string): never {
  throw invalid(`${what} is ${inspect(value, { depth: 0 })}; it must be ${right}`);
}
