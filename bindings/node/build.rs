//! Sets the linker options of a Node native module.

use std::path::Path;

fn main() {
    napi_build::setup();
    // The macros write the TypeScript types during compilation, so missing types require a recompilation.
    if let Ok(folder) = std::env::var("NAPI_TYPE_DEF_TMP_FOLDER") {
        let types = Path::new(&folder).join("libdiscover-node");
        println!("cargo::rerun-if-changed={}", types.display());
    }
}
