#!/bin/sh
# packages.sh FOLDER…: installs each folder's npm packages if its lock file has changed since, because fetching takes minutes.
# Shares the stamp file with runtime/build.rs.
set -eu
cd "$(dirname "$0")/.."
# Retries if the registry fails temporarily.
install() { npm --prefix "$1" ci --no-audit --no-fund --loglevel error >&2; }
for folder; do
    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json" && continue
    install "$folder" || { sleep 5; install "$folder"; } || { sleep 20; install "$folder"; } || {
        echo "packages.sh: npm could not install $folder/package-lock.json in three tries; its messages are above" >&2
        exit 1
    }
    cp "$folder/package-lock.json" "$folder/node_modules/.installed-lock.json"
done
