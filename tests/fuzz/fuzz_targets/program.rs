//! Arbitrary bytes as a program: the readers of ELF, PE and Mach-O headers that the packer and the loader stand on.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use satchel_packer::platform::{Facts, check};
use satchel_packer::{Platform, head_for_signing, universal};

fuzz_target!(init: seeds::write(make_seeds()), |bytes: &[u8]| {
    let detected = Platform::detect(bytes);
    for platform in Platform::ALL {
        let _ = Facts::read(platform, bytes);
        if check(platform, bytes).is_ok() {
            assert_eq!(detected, Some(platform), "only a program for the platform is fit for it");
        }
    }
    let script = "#!/bin/sh\nexit 1\n";
    if let Ok(image) = universal::image_with_script(bytes, script) {
        assert!(image.len() >= bytes.len() && universal::is_universal(&image));
    }
    let _ = head_for_signing(bytes, 1 << 20);
});

/// Seeds: this program itself, cut to what holds its headers, and the start of a PE and of a Mach-O file.
fn make_seeds() -> Vec<Vec<u8>> {
    let own = std::env::current_exe().and_then(std::fs::read).expect("the running program can be read");
    [own[..own.len().min(4096)].to_vec(), pe(), mach_o()].into()
}

/// DOS header, PE signature, COFF header of x86-64 with one section.
fn pe() -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c..0x40].copy_from_slice(&0x80u32.to_le_bytes());
    file[0x80..0x84].copy_from_slice(b"PE\0\0");
    file[0x84..0x86].copy_from_slice(&0x8664u16.to_le_bytes());
    file[0x86..0x88].copy_from_slice(&1u16.to_le_bytes());
    // Size of the optional header (PE32+, 16 directories), and "executable".
    file[0x94..0x96].copy_from_slice(&240u16.to_le_bytes());
    file[0x96..0x98].copy_from_slice(&2u16.to_le_bytes());
    file[0x98..0x9a].copy_from_slice(&0x20bu16.to_le_bytes());
    file[0x104..0x108].copy_from_slice(&16u32.to_le_bytes());
    file
}

/// A 64-bit header for Apple silicon with a segment and a code signature.
fn mach_o() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    // magic, CPU type and subtype, MH_EXECUTE, 2 commands of 88 bytes, flags, reserved
    let header = words(&[0xfeed_facf, 0x0100_000c, 0, 2, 2, 88, 0x85, 0]);
    let mut segment = words(&[0x19, 72]);
    segment.extend(b"__LINKEDIT\0\0\0\0\0\0");
    segment.extend([0u64, 4096, 0, 1024].iter().flat_map(|word| word.to_le_bytes()));
    segment.extend(words(&[1, 1, 0, 0]));
    // LC_CODE_SIGNATURE with its offset and size
    let signature = words(&[0x1d, 16, 512, 512]);
    let mut file = [header, segment, signature].concat();
    file.resize(1024, 0);
    file
}
