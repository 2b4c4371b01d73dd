//! Whether there can be a GPU at all, judged by files alone, without loading a driver: a machine without one starts as fast as if GPUs
//! did not exist.

use std::path::Path;

use crate::environment;

/// Why there certainly is none that can be used: nothing opens drivers. Every macOS has Metal.
pub(super) fn certainly_none() -> Option<&'static str> {
    if cfg!(target_os = "linux") && !has_vulkan_loader() {
        return Some("there is no Vulkan loader (libvulkan.so.1)");
    }
    #[cfg(windows)]
    if !environment::system_folder().join("vulkan-1.dll").exists() {
        return Some("there is no Vulkan loader (vulkan-1.dll), which comes with a GPU's driver");
    }
    None
}

/// The same if the user asked for none: on Linux, the kernel must show a device, too. Drivers may exist for devices with names that
/// are not known here, so `--gpu auto` asks them.
pub(super) fn none_in_sight() -> Option<&'static str> {
    certainly_none().or_else(|| {
        let seen = !cfg!(target_os = "linux") || is_in_dev();
        (!seen).then_some("there is none in /dev (a container has to be given it); --gpu auto asks the drivers")
    })
}

/// Whether the kernel shows a GPU; unknown, hence `false`, on systems without `/dev`.
pub(super) fn is_in_dev() -> bool {
    cfg!(target_os = "linux") && shows_gpu(Path::new("/dev"))
}

/// Why there is none if drivers show none.
pub fn none_shown() -> &'static str {
    match is_in_dev() {
        true => "no driver shows the GPU in /dev: its Vulkan driver may be missing",
        false => "drivers show none",
    }
}

/// Whether the file that opens Vulkan drivers is where it may be. Not found here, it may still be found by name.
fn has_vulkan_loader() -> bool {
    let folders = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/run/opengl-driver/lib"];
    let processor = std::env::consts::ARCH;
    let of_processor = ["/lib", "/usr/lib"].map(|folder| format!("{folder}/{processor}-linux-gnu"));
    let fixed = folders.into_iter().map(str::to_owned).chain(of_processor).map(Into::into);
    fixed.chain(environment::library_folders()).any(|folder| folder.join("libvulkan.so.1").exists())
}

/// Whether this folder, which is /dev, has a device by which a driver reaches a GPU.
fn shows_gpu(devices: &Path) -> bool {
    /// How names of these devices begin: NVIDIA's (and Tegra's), Windows' for its Linux, Qualcomm's, ARM's, Imagination's.
    const DEVICES: [&str; 7] = ["nvidia", "nvhost", "nvmap", "dxg", "kgsl", "mali", "pvr"];
    let has = |folder: &Path, beginnings: &[&str]| {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| beginnings.iter().any(|begin| name.to_string_lossy().starts_with(begin)))
    };
    // All others, by the kernel's rendering manager.
    has(&devices.join("dri"), &["renderD"]) || has(devices, &DEVICES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_seen_by_its_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let devices = folder.path();
        assert!(!shows_gpu(&devices.join("nothing")));
        for name in ["null", "tty0", "dri/card0"] {
            let path = devices.join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
            std::fs::write(path, "").expect("it is written");
        }
        assert!(!shows_gpu(devices), "a display without rendering");
        for name in ["dri/renderD128", "nvidiactl", "dxg"] {
            let path = devices.join(name);
            std::fs::write(&path, "").expect("it is written");
            assert!(shows_gpu(devices), "{name}");
            std::fs::remove_file(&path).expect("it is there");
        }
    }
}
