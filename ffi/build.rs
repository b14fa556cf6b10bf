//! What cargo does not say to the linker: the library's own name, and that it stays once loaded.

use std::env;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    // The header generator must take some types for opaque that are not, and this is never set.
    println!("cargo:rustc-check-cfg=cfg(cbindgen)");
    if env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        return Ok(());
    }
    let soname = format!("libdiscover.so.{}", abi()?);
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    // Its threads and thread-local values outlive a dlclose.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    link_beside_the_library(&soname)
}

/// The part of the version within which programs need no relinking: `0.MINOR` below 1.0, `MAJOR`
/// after. tools/src/install.rs has the same rule.
fn abi() -> Result<String, env::VarError> {
    let major = env::var("CARGO_PKG_VERSION_MAJOR")?;
    if major != "0" {
        return Ok(major);
    }
    Ok(format!("0.{}", env::var("CARGO_PKG_VERSION_MINOR")?))
}

/// A program linked against the library in the target folder looks for it there by its own name.
fn link_beside_the_library(soname: &str) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is PROFILE/build/PACKAGE-HASH/out, or a folder deeper with a newer cargo.
    let mut above = out.ancestors();
    let build = above.find(|folder| folder.ends_with("build"));
    let profile = build
        .and_then(Path::parent)
        .ok_or("OUT_DIR is not below build/")?;
    match std::os::unix::fs::symlink("libdiscover.so", profile.join(soname)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}
