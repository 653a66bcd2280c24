//! Makes our binaries find libtorch by themselves.
#![allow(clippy::expect_used)] // a build script reports by panicking

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let lib = std::env::var("DEP_PIXTOK_TORCH_LIB").expect("pixtok-torch is a direct dependency");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    // RPATH, not RUNPATH: it is searched before LD_LIBRARY_PATH, so another libtorch there is not loaded.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    }
}
