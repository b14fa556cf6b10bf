//! Links the module the way Node loads it.

use std::path::Path;

fn main() {
    napi_build::setup();
    // The macros write the types down as they compile, so where they are missing we compile again.
    if let Ok(folder) = std::env::var("NAPI_TYPE_DEF_TMP_FOLDER") {
        let types = Path::new(&folder).join("libdiscover-node");
        println!("cargo::rerun-if-changed={}", types.display());
    }
}
