//! Gives the library the name of the driver's, so that whoever opens `libcuda.so` later gets the one that is open already.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
