#!/bin/sh
# packages.sh FOLDER…: installs the npm packages of each folder, once for a lock file: fetching takes minutes. The stamp is
# that of runtime/build.rs.
set -eu
cd "$(dirname "$0")/.."
for folder; do
    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json" && continue
    npm --prefix "$folder" ci --no-audit --no-fund --silent
    cp "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json"
done
