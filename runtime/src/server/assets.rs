//! The chat page's files as responses: content types, ETags, caching, and the Content-Security-Policy.
//!
//! The page is the one embedded in the executable, or the `ui/` entries of a bundle that was packed with `--ui DIR`.
//! The policy allows nothing from other origins: only the page's own scripts, no inline code, no embedding in a frame.

use std::borrow::Cow;
use std::collections::HashMap;

use include_dir::Dir;
use sha2::{Digest, Sha256};

use super::http::Response;

/// What the page may load, and where it may be embedded. `blob:` images are previews of exports and imports.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; \
    connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The page's files by their path, without a leading `/`.
pub struct Assets {
    files: HashMap<String, Asset>,
}

struct Asset {
    content: Cow<'static, [u8]>,
    content_type: &'static str,
    etag: String,
}

impl Assets {
    /// The files embedded in the executable.
    pub fn embedded(page: &'static Dir<'static>) -> Self {
        let mut files = HashMap::new();
        let mut folders = vec![page];
        while let Some(folder) = folders.pop() {
            folders.extend(folder.dirs());
            for file in folder.files() {
                if let Some(path) = file.path().to_str() {
                    files.insert(path.replace('\\', "/"), Asset::new(path, Cow::Borrowed(file.contents())));
                }
            }
        }
        Self { files }
    }

    /// Files as (path, content).
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let files = files
            .into_iter()
            .map(|(path, content)| {
                let asset = Asset::new(&path, Cow::Owned(content));
                (path, asset)
            })
            .collect();
        Self { files }
    }

    /// Whether there is a file for `path` (`/` is `index.html`).
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(file_name(path))
    }

    /// The response for `path`; 304 if `if_none_match` matches the file's ETag.
    pub fn respond(&self, path: &str, if_none_match: Option<&str>) -> Option<Response> {
        let name = file_name(path);
        let asset = self.files.get(name)?;
        let known = if_none_match
            .is_some_and(|tags| tags.split(',').any(|tag| matches!(tag.trim(), t if t == asset.etag || t == "*")));
        let caching = if is_hashed(name) { "public, max-age=31536000, immutable" } else { "no-cache" };
        let response = match known {
            true => Response::empty(304),
            false => Response { body: asset.content.clone(), ..Response::empty(200) },
        };
        Some(
            response
                .with("Content-Type", asset.content_type)
                .with("ETag", asset.etag.as_str())
                .with("Cache-Control", caching)
                .with("Content-Security-Policy", POLICY)
                .with("Cross-Origin-Opener-Policy", "same-origin")
                .with("Cross-Origin-Resource-Policy", "same-origin"),
        )
    }
}

impl Asset {
    fn new(path: &str, content: Cow<'static, [u8]>) -> Self {
        let digest = Sha256::digest(&content);
        let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        Self { content_type: content_type(path), etag: format!("\"{hex}\""), content }
    }
}

fn file_name(path: &str) -> &str {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => "index.html",
        name => name,
    }
}

/// Vite puts files whose names hold their content's hash under `assets/`: `assets/index-B4cd_x9Z.js`.
fn is_hashed(name: &str) -> bool {
    name.strip_prefix("assets/").and_then(|file| file.rsplit_once('.')).is_some_and(|(stem, _)| {
        // The hash is base64url: it may itself hold a dash.
        stem.len() > 9 && stem.is_ascii() && stem.as_bytes()[stem.len() - 9] == b'-'
    })
}

fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "wasm" => "application/wasm",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assets() -> Assets {
        let file = |name: &str| (name.to_string(), name.as_bytes().to_vec());
        Assets::from_files([
            file("index.html"),
            file("icon.svg"),
            file("assets/index-B4cd-x9Z.js"),
            file("assets/logo.png"),
        ])
    }

    fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn serves_by_path_with_types_and_policy() {
        let assets = assets();
        let index = assets.respond("/", None).unwrap();
        assert_eq!(index.body.as_ref(), b"index.html");
        assert_eq!(header(&index, "Content-Type"), "text/html; charset=utf-8");
        assert_eq!(header(&index, "Cache-Control"), "no-cache");
        assert!(header(&index, "Content-Security-Policy").contains("default-src 'none'"));
        assert_eq!(header(&assets.respond("/icon.svg", None).unwrap(), "Content-Type"), "image/svg+xml");
        assert!(assets.respond("/../index.html", None).is_none() && !assets.has("/nothing"));
    }

    #[test]
    fn only_hashed_names_are_immutable() {
        let assets = assets();
        let caching = |path: &str| header(&assets.respond(path, None).unwrap(), "Cache-Control").to_string();
        assert!(caching("/assets/index-B4cd-x9Z.js").contains("immutable"));
        assert_eq!(caching("/assets/logo.png"), "no-cache");
    }

    #[test]
    fn a_matching_etag_gets_a_304() {
        let assets = assets();
        let etag = header(&assets.respond("/", None).unwrap(), "ETag").to_string();
        assert_eq!(assets.respond("/", Some(&format!("\"x\", {etag}"))).unwrap().status, 304);
        assert_eq!(assets.respond("/", Some("\"x\"")).unwrap().status, 200);
    }

    #[test]
    fn the_embedded_page_has_an_index_and_hashed_scripts() {
        let assets = Assets::embedded(&crate::server::page::PAGE);
        assert!(assets.has("/"));
        assert!(assets.files.keys().any(|name| is_hashed(name) && name.ends_with(".js")));
    }
}
