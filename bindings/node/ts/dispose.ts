/**
 * The key of the method that `await using` calls. Node before 18.18 lacks `Symbol.asyncDispose`; there the
 * classes have the method under a private symbol, and the global `Symbol` stays unchanged.
 */
export const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? (Symbol('Symbol.asyncDispose') as never);
