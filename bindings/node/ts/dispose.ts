/**
 * The name of the method that `await using` calls. Node before 18.18 has no such symbol; the classes
 * then have the method under one of our own, and we leave the global `Symbol` as it is.
 */
export const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? (Symbol('Symbol.asyncDispose') as never);
