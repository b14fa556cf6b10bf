/**
 * The native module. Its types are what the Rust macros wrote down, so that a change there which is
 * not made here does not compile.
 */

import type * as Binding from '../dist/libdiscover';

export type { NativeClient, NativeFeed, NativeLease, NativeRegistration, NativeSet, NativeStates } from '../dist/libdiscover';

export const binding: typeof Binding = load();

function load(): typeof Binding {
  try {
    return require('./libdiscover.node') as typeof Binding;
  } catch (cause) {
    const machine = `${process.platform} ${process.arch}`;
    throw new Error(`libdiscover has no native module for ${machine}: run \`npm run build\` in its folder`, { cause });
  }
}
