#!/usr/bin/env python3
"""Checks licence and source of every crate in a Cargo.lock, for all platforms, and that the workspace has no crate in two versions.

    tools/dependencies.py               the workspace, the fuzz targets and the model of the thread pool
    tools/dependencies.py Cargo.toml    one manifest

`cargo deny` checks the same and more, but compiling it takes longer than all other checks of a change together; this takes
a second, so it runs on every change. It does not check security advisories, which need a list from the network.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ["Cargo.toml", "tests/fuzz/Cargo.toml", "tests/loom/Cargo.toml"]
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"

# Licences whose only condition is that their text accompanies the program.
LICENCES = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "NCSA", "Unicode-3.0", "Unlicense",
    "Zlib",
}

# Crates present in two versions, and why that cannot be avoided.
DOUBLED = {
    "bit-set": "version 0.8 only in tests: fancy-regex takes it, the shader compiler naga version 0.10",
    "bit-vec": "as bit-set, which it belongs to",
    "hashbrown": "version 0.16 only on Windows: gpu-allocator, which wgpu takes for DX12",
    "syn": "only runs at build time: the macros of jiff, zerocopy and strum take version 2, those of serde and clap version 3",
}


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be satisfied. AND binds tighter than OR, which old manifests write as `/`."""
    # An exception only adds permissions: treat Apache-2.0 WITH LLVM-exception as Apache-2.0.
    plain = re.sub(r"\s+WITH\s+\S+?(?=\s|\)|$)", "", expression.replace("/", " OR "))
    words = re.findall(r"[()]|[^\s()]+", plain)

    def either() -> bool:
        result = both()
        while words and words[0] == "OR":
            words.pop(0)
            result = both() or result
        return result

    def both() -> bool:
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        word = words.pop(0) if words else ""
        if word != "(":
            return word in LICENCES
        result = either()
        return bool(words) and words.pop(0) == ")" and result

    return either() and not words


def faults(manifest: Path) -> tuple[int, list[str]]:
    """The number of crates, and one line per fault found in them."""
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(manifest)]
    # The fuzz targets' own lock file follows the workspace's, sometimes a little late.
    if "fuzz" not in manifest.parts:
        command.append("--locked")
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    versions = defaultdict(list)
    lines = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].append(package["version"])
        licence = package["license"] or ""
        if not allowed(licence):
            lines.append(f"{name}: its licence is {licence or 'not given'}; allowed are {', '.join(sorted(LICENCES))}")
        if package["source"] not in (None, CRATES_IO):
            lines.append(f"{name}: comes from {package['source']}; crates come from crates.io")
    for name, found in versions.items():
        # Test-only dependencies may be duplicated.
        if len(found) > 1 and name not in DOUBLED and "tests" not in manifest.parts:
            lines.append(
                f"{name}: there are versions {' and '.join(found)}; `cargo tree -i {name}@VERSION` shows what needs which. "
                "Use one version, or give the reason in DOUBLED of tools/dependencies.py"
            )
    return len(packages), lines


def main() -> int:
    for expression, expected in [
        ("MIT", True), ("GPL-3.0-only", False), ("MIT OR GPL-2.0", True), ("MIT AND GPL-2.0", False), ("", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True), ("(MIT OR LGPL-2.1) AND MPL-2.0", False), ("MIT/Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True), ("GPL-3.0 OR (MIT", False),
    ]:  # fmt: skip
        assert allowed(expression) == expected, expression
    manifests = [Path(path) for path in sys.argv[1:]] or [ROOT / path for path in MANIFESTS]
    failed = False
    for manifest in manifests:
        count, lines = faults(manifest)
        failed |= bool(lines)
        name = manifest.relative_to(ROOT) if manifest.is_relative_to(ROOT) else manifest
        for line in lines:
            print(f"{name}: {line}", file=sys.stderr)
        print(f"{name}: {count} crates, {len(lines)} faults")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
