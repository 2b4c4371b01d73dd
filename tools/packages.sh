#!/bin/sh
# packages.sh FOLDER…: installs the npm packages of each folder, once for a lock file: fetching takes minutes. The stamp is
# that of runtime/build.rs.
set -eu
cd "$(dirname "$0")/.."
# A registry that fails for a moment is asked again.
install() { npm --prefix "$1" ci --no-audit --no-fund --loglevel error >&2; }
for folder; do
    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json" && continue
    install "$folder" || { sleep 5; install "$folder"; } || { sleep 20; install "$folder"; } || {
        echo "packages.sh: npm could not install $folder/package-lock.json in three tries; its messages are above" >&2
        exit 1
    }
    cp "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json"
done
