//! The images, without a device.

use super::*;

const ALL: [&Packed; 5] = [&images::SM_80, &images::SM_90, &images::SM_100, &images::SM_120, &images::COMPUTE_90];

#[test]
fn each_device_has_its_image() {
    let chosen = |major, minor| choose((major, minor)).map(|packed| packed.file);
    for (major, minors, file) in [
        (8, &[0, 6, 7, 9][..], "copy_sm80.fatbin"),
        (9, &[0], "copy_sm90.fatbin"),
        (10, &[0, 1, 3], "copy_sm100.fatbin"),
        (12, &[0, 1], "copy_sm120.fatbin"),
        // What comes, and what has no machine code.
        (11, &[0], "copy_compute90.fatbin"),
        (13, &[0, 9], "copy_compute90.fatbin"),
        (u32::MAX, &[u32::MAX], "copy_compute90.fatbin"),
    ] {
        for minor in minors {
            assert_eq!(chosen(major, *minor), Some(file), "{major}.{minor}");
        }
    }
    for (major, minor) in [(0, 0), (7, 0), (7, 5), (7, u32::MAX)] {
        assert_eq!(chosen(major, minor), None);
    }
}

/// As FNV's authors publish it for these texts.
#[test]
fn the_hash_is_fnv_1a() {
    assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn the_images_are_small() {
    let bytes: usize = ALL.iter().map(|packed| packed.fatbin.len()).sum();
    assert!(bytes <= 400_000, "{bytes}");
}

/// Machine code is an ELF file for the architecture; PTX is of the version that README promises.
#[test]
fn older_drivers_get_what_the_container_holds() {
    for packed in ALL {
        packed.check().unwrap();
        let unpacked = packed.unpack().unwrap();
        assert_eq!(unpacked.len(), packed.unpacked + 1);
        assert_eq!(unpacked.last(), Some(&0));
        if packed.file == "copy_compute90.fatbin" {
            let text = core::ffi::CStr::from_bytes_until_nul(&unpacked).unwrap().to_str().unwrap();
            assert!(text.contains(".version 8.1\n") && text.contains(".target sm_90\n"));
            assert_eq!(text.matches(".entry ").count(), table("kernel ").count());
        } else {
            // `EM_CUDA`, and the architecture.
            assert_eq!((&unpacked[..4], &unpacked[18..20]), (&b"\x7fELF"[..], &[190, 0][..]));
            for name in table("kernel ") {
                let text = format!(".text.{}\0", name.split(' ').next().unwrap());
                assert!(unpacked.windows(text.len()).any(|at| at == text.as_bytes()), "{text}");
            }
        }
    }
}

/// Any byte that changed is noticed, and a frame that does not unpack is no panic.
#[test]
fn a_damaged_image_is_refused() {
    /// An image is `'static`. What is leaked stays reachable, so that a leak checker passes it.
    static DAMAGED: std::sync::Mutex<Vec<&'static [u8]>> = std::sync::Mutex::new(Vec::new());
    let original = &images::SM_90;
    let damaged = |fatbin: Vec<u8>| {
        let fatbin: &'static [u8] = fatbin.leak();
        DAMAGED.lock().unwrap().push(fatbin);
        Packed {
            file: original.file,
            fatbin,
            hash: original.hash,
            frame: original.frame.clone(),
            unpacked: original.unpacked,
        }
    };
    let refused = Err(NoCopyKernels::Image { file: "copy_sm90.fatbin" });
    let bytes = original.fatbin;
    for at in (0..bytes.len()).step_by(bytes.len() / 16) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        let changed = damaged(changed);
        assert_eq!(changed.check(), refused);
        // The hash is checked first: that this is refused too is not needed, that it returns is.
        let _ = changed.unpack();
    }
    for length in [0, 1, 87, 88, 89, 100, bytes.len() / 2, original.frame.end - 1] {
        let cut = damaged(bytes[..length].to_vec());
        assert_eq!(cut.check(), refused);
        assert_eq!(cut.unpack().map(drop), refused);
    }
    let mut longer = damaged(bytes.to_vec());
    longer.unpacked -= 1;
    assert_eq!(longer.unpack().map(drop), refused);
    longer.unpacked += 2;
    assert_eq!(longer.unpack().map(drop), refused);
}

/// The lines of kernels.txt that begin with `kind`.
fn table(kind: &str) -> impl Iterator<Item = &'static str> {
    include_str!("kernels.txt").lines().filter_map(move |line| line.strip_prefix(kind))
}
