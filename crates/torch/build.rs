//! Compiles the C++ shim against libtorch, and passes the location of libtorch on to dependent
//! crates.
#![allow(clippy::expect_used)] // a build script reports by panicking

use std::path::Path;

// csrc/cuda is not among them: scripts/build_cuda.sh makes a library of its own from it.
const SOURCES: [&str; 12] = [
    "shim",
    "memory",
    "nccl",
    "operators",
    "nearest",
    "norm",
    "rms_norm",
    "gated",
    "upsample",
    "process_group",
    "gradients",
    "recompute",
];

fn main() {
    println!("cargo:rerun-if-changed=csrc");
    // torch-sys has `links = "tch"` and passes the location of the library to its direct
    // dependents.
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys is a direct dependency");
    let root = Path::new(&lib).parent().expect("the library folder has a parent").to_path_buf();
    check_version(&root);
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(3)
        // at::parallel_for is a template: without this flag its body runs on one thread.
        .flag_if_supported("-fopenmp")
        // libtorch's headers are not ours to correct.
        .flag_if_supported("-Wno-unused-parameter")
        // Vectors wider than the oldest processor's only go between functions that are inlined.
        .flag_if_supported("-Wno-psabi")
        .flag_if_supported("-Wno-deprecated-declarations")
        .include("csrc/gloo")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .files(SOURCES.map(|name| format!("csrc/{name}.cpp")))
        .compile("pixtok_shim");
    println!("cargo:rustc-env=PIXTOK_LIBTORCH={LIBTORCH}");
    println!("cargo:rustc-link-search=native={lib}");
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    // The OpenMP that libtorch brings and uses, so that there is one pool of threads. Apple's
    // compiler has none.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-lib=dylib:+verbatim=libgomp.so.1");
    }
    // Arguments of the linker do not reach dependents, so the program's build.rs says the same from
    // this.
    println!("cargo:lib={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    }
}

/// The version that torch-sys 0.26 is made for. Where LIBTORCH is set, torch-sys checks nothing,
/// and any other version fails to link or crashes.
const LIBTORCH: &str = "2.13.0";

/// The wheel says its version in `version.py`, the plain archive in `build-version`; a libtorch
/// with neither file is accepted.
fn check_version(root: &Path) {
    let files = [root.join("build-version"), root.join("version.py")];
    // Cargo treats a missing file as changed and would rerun this script on every build.
    for file in files.iter().filter(|file| file.exists()) {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let plain = std::fs::read_to_string(&files[0]).ok().map(|text| text.trim().to_owned());
    let version = plain.or_else(|| {
        let python = std::fs::read_to_string(&files[1]).ok()?;
        let line = python.lines().find_map(|line| line.strip_prefix("__version__ = '"))?;
        Some(line.trim_end_matches('\'').to_owned())
    });
    if let Some(version) = version.filter(|version| !version.starts_with(LIBTORCH)) {
        panic!(
            "{} contains libtorch {version}, but pixtok needs {LIBTORCH}: unset LIBTORCH and run `just setup`, or set LIBTORCH to a libtorch {LIBTORCH}",
            root.display()
        );
    }
}
