//! Linker options that cargo does not set: the soname, and that the library cannot be unloaded.

use std::env;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    // `cfg(cbindgen)` is never set; it makes the header generator treat some types as opaque.
    println!("cargo:rustc-check-cfg=cfg(cbindgen)");
    if env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        return Ok(());
    }
    let soname = format!("libdiscover.so.{}", abi_version()?);
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    // The library's threads and thread-local values would outlive a dlclose.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    create_soname_link(&soname)
}

/// The version of the ABI, within which programs need no relinking: `0.MINOR` below 1.0, `MAJOR` from then on.
/// tools/src/install.rs has the same rule.
fn abi_version() -> Result<String, env::VarError> {
    let major = env::var("CARGO_PKG_VERSION_MAJOR")?;
    if major != "0" {
        return Ok(major);
    }
    Ok(format!("0.{}", env::var("CARGO_PKG_VERSION_MINOR")?))
}

/// Links the soname to the library in the target folder, where programs linked against it look for it.
fn create_soname_link(soname: &str) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is PROFILE/build/PACKAGE-HASH/out, or one folder deeper with newer cargo versions.
    let mut ancestors = out.ancestors();
    let build = ancestors.find(|folder| folder.ends_with("build"));
    let profile = build
        .and_then(Path::parent)
        .ok_or("OUT_DIR is not below build/")?;
    match std::os::unix::fs::symlink("libdiscover.so", profile.join(soname)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}
