"""Makes a memory image of a Linux kernel, its parameters and an initramfs for the emulated PC: no disk, no boot loader.

    image.py KERNEL COMMAND_LINE FOLDER INITRAMFS_SOURCE...

writes FOLDER/image and prints the addresses of the image and its parts. An INITRAMFS_SOURCE is `path/in/the/guest=file/here`;
all of them become executable. Linux' Documentation/arch/x86/boot.rst and zero-page.rst define the layout of the parameters.
"""

import pathlib
import struct
import sys

# Addresses in guest memory; the initramfs comes after the memory in which the kernel unpacks itself.
PARAMETERS, COMMAND_LINE, KERNEL = 0x100000, 0x101000, 0x200000
MEMORY = 768 << 20


def archive(sources):
    """A cpio archive (`newc`) of the sources and the folders above them."""
    entries, folders = [], {}
    for name, path in sources:
        for folder in reversed(pathlib.PurePosixPath(name).parents):
            if str(folder) != ".":
                folders[str(folder)] = (str(folder), 0o040755, b"")
        entries.append((name, 0o100755, pathlib.Path(path).read_bytes()))
    entries = [*folders.values(), *entries, ("TRAILER!!!", 0, b"")]
    parts = []
    for inode, (name, mode, content) in enumerate(entries, 1):
        name = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]
    return b"".join(parts)


def parameters(kernel, initramfs, size):
    """Linux' "zero page": the kernel's own setup header, completed, and a memory map."""
    page = bytearray(4096)
    end = 0x202 + kernel[0x201]
    page[0x1F1:end] = kernel[0x1F1:end]
    page[0x210] = 0xFF  # boot loader type: undefined
    struct.pack_into("<II", page, 0x218, initramfs, size)
    struct.pack_into("<I", page, 0x228, COMMAND_LINE)
    ranges = [(0, 0x9F000, 1), (0xF0000, 0x10000, 2), (0x100000, MEMORY - 0x100000, 1)]
    page[0x1E8] = len(ranges)
    for index, entry in enumerate(ranges):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * index, *entry)
    return bytes(page)


def main():
    kernel, command_line, folder, *sources = sys.argv[1:]
    kernel = pathlib.Path(kernel).read_bytes()
    if kernel[0x202:0x206] != b"HdrS":
        sys.exit(f"image.py: {sys.argv[1]} is not a Linux kernel for x86")
    (unpacked_at,), (unpacked_size,) = struct.unpack_from("<Q", kernel, 0x258), struct.unpack_from("<I", kernel, 0x260)
    initramfs = unpacked_at + unpacked_size + 0xFFFFF & ~0xFFFFF
    content = archive(source.split("=", 1) for source in sources)
    if initramfs + len(content) * 2 > MEMORY:
        sys.exit("image.py: the emulated memory cannot hold the initramfs packed and unpacked; raise MEMORY")
    with open(pathlib.Path(folder, "image"), "wb") as file:
        for address, part in [
            (PARAMETERS, parameters(kernel, initramfs, len(content))),
            (COMMAND_LINE, command_line.encode() + b"\0"),
            (KERNEL, kernel[((kernel[0x1F1] or 4) + 1) * 512 :]),
            (initramfs, content),
        ]:
            file.seek(address - PARAMETERS)
            file.write(part)
    print(f"IMAGE={PARAMETERS:#x} PARAMETERS={PARAMETERS:#x} KERNEL={KERNEL:#x} MEMORY={MEMORY:#x}")


main()
