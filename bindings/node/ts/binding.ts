/**
 * The native module. Its types are what the Rust macros wrote down, so that a change there which is
 * not made here does not compile.
 */

import type * as Binding from '../dist/libdiscover';

export type {
  NativeClient,
  NativeFeed,
  NativeHost,
  NativeLease,
  NativeRegistration,
  NativeService,
  NativeSet,
  NativeStates,
} from '../dist/libdiscover';

export const binding: typeof Binding = load();

/** Beside this file where the package was built, else in the package of this platform, which npm chose. */
function load(): typeof Binding {
  const machine = `${process.platform}-${process.arch}${process.platform === 'linux' ? '-gnu' : ''}`;
  for (const place of ['./libdiscover.node', `libdiscover-${machine}`]) {
    try {
      return require(place) as typeof Binding;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') {
        throw new Error(`libdiscover cannot load its native module ${place} on ${machine}`, { cause });
      }
    }
  }
  throw new Error(
    `libdiscover has no native module for ${machine}: install the package libdiscover-${machine}, ` +
      'which npm leaves out with --omit=optional, or run `npm run build` in the folder of libdiscover',
  );
}
