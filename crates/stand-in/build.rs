//! Gives the library the name of the driver's, so that whoever opens `libcuda.so` later gets the
//! one that is open already, and ties its own references to its own functions, whatever else is
//! loaded.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic-functions");
}
