//! What each client of `satchel launch` needs to know: a row each.
//!
//! A row's `setup` says which variables, arguments and files make the client use the server at a place. Files are named by
//! their path in the run's temporary folder, where the client is to keep its state, too.

use std::path::Path;

use serde_json::json;

/// A program that can be launched.
#[derive(Debug)]
pub(super) struct Client {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// Its executable, to be found in PATH.
    pub(super) program: &'static str,
    /// The command that installs it.
    pub(super) install: &'static str,
    pub(super) setup: fn(&Place<'_>) -> Setup,
}

/// Where the server is, and what it serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// `http://127.0.0.1:PORT`
    pub(super) url: &'a str,
    pub(super) key: &'a str,
    /// The model's name.
    pub(super) model: &'a str,
    /// Tokens of a conversation.
    pub(super) context: usize,
    /// Tokens of an answer at most.
    pub(super) output: usize,
    /// The run's temporary folder.
    pub(super) folder: &'a Path,
}

/// What makes a client use a server.
#[derive(Debug, Default)]
pub(super) struct Setup {
    pub(super) environment: Vec<(&'static str, String)>,
    /// Variables that would lead it elsewhere.
    pub(super) unset: &'static [&'static str],
    /// Arguments before the user's.
    pub(super) arguments: Vec<String>,
    /// Path in the folder, and content.
    pub(super) files: Vec<(&'static str, String)>,
}

/// All clients.
pub(super) static CLIENTS: &[Client] = &[
    Client { name: "claude", program: "claude", install: "npm install -g @anthropic-ai/claude-code", setup: claude },
    Client { name: "codex", program: "codex", install: "npm install -g @openai/codex", setup: codex },
    Client { name: "opencode", program: "opencode", install: "npm install -g opencode-ai", setup: opencode },
    Client {
        name: "aider",
        program: "aider",
        install: "python3 -m pip install aider-install && aider-install",
        setup: aider,
    },
];

impl Place<'_> {
    /// A path in the folder.
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Claude Code. One model stands for all that it knows, and its state, which it would otherwise keep in the home folder, is
/// in the run's.
fn claude(place: &Place<'_>) -> Setup {
    let model = || place.model.to_owned();
    let on = || "1".to_owned();
    let environment = vec![
        ("ANTHROPIC_BASE_URL", place.url.to_owned()),
        ("ANTHROPIC_AUTH_TOKEN", place.key.to_owned()),
        ("ANTHROPIC_MODEL", model()),
        ("ANTHROPIC_SMALL_FAST_MODEL", model()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model()),
        ("ANTHROPIC_DEFAULT_SONNET_MODEL", model()),
        ("ANTHROPIC_DEFAULT_OPUS_MODEL", model()),
        ("CLAUDE_CODE_SUBAGENT_MODEL", model()),
        ("CLAUDE_CONFIG_DIR", place.path("claude")),
        ("CLAUDE_CODE_TMPDIR", place.path("claude")),
        // It summarises a conversation before it is longer than this.
        ("CLAUDE_CODE_MAX_CONTEXT_TOKENS", place.context.to_string()),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", place.output.to_string()),
        // A text that changes at every turn.
        ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0".to_owned()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", on()),
        ("DISABLE_TELEMETRY", on()),
        ("DISABLE_ERROR_REPORTING", on()),
        ("DISABLE_AUTOUPDATER", on()),
    ];
    Setup {
        environment,
        unset: &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_UNIX_SOCKET",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_FOUNDRY",
            "CLAUDE_CODE_USE_VERTEX",
        ],
        // The first start in a new folder would ask for a theme.
        files: vec![("claude/.claude.json", json!({"hasCompletedOnboarding": true}).to_string())],
        ..Setup::default()
    }
}

/// Below this context, Codex's own instructions and tools, some 10,000 tokens, would leave no room for work.
const ROOM_FOR_CODEX: usize = 20_000;

/// Codex. Its settings and its state are in a folder that a variable names.
fn codex(place: &Place<'_>) -> Setup {
    // A string of JSON is one of TOML, too.
    let text = |text: &str| json!(text).to_string();
    let (model, url) = (text(place.model), text(&format!("{}/v1", place.url)));
    let mut config = vec![
        format!("model = {model}"),
        "model_provider = \"satchel\"".to_owned(),
        format!("model_context_window = {}", place.context),
        "web_search = \"disabled\"".to_owned(),
        "check_for_update_on_startup = false".to_owned(),
    ];
    let mut files = Vec::new();
    if place.context < ROOM_FOR_CODEX {
        config.push(format!("model_instructions_file = {}", text(&place.path("codex/instructions.md"))));
        config.push("[skills]\ninclude_instructions = false\n[agents]\nenabled = false".to_owned());
        config.push("[features]\ngoals = false\nplugins = false\napps = false".to_owned());
        let brief = "You are a coding agent in a terminal. Read and change files with shell commands, check what you changed, \
                     and say briefly what you did.\n";
        files.push(("codex/instructions.md", brief.to_owned()));
    }
    config.push("[analytics]\nenabled = false".to_owned());
    let provider = "[model_providers.satchel]\nname = \"Satchel\"\nwire_api = \"responses\"";
    config.push(format!("{provider}\nbase_url = {url}\nenv_key = \"SATCHEL_API_KEY\"\n"));
    files.push(("codex/config.toml", config.join("\n")));
    Setup {
        environment: vec![("CODEX_HOME", place.path("codex")), ("SATCHEL_API_KEY", place.key.to_owned())],
        unset: &["CODEX_API_KEY", "CODEX_SQLITE_HOME", "OPENAI_API_KEY", "OPENAI_BASE_URL"],
        files,
        ..Setup::default()
    }
}

/// Below this context, opencode's own instructions and tools, some 7,700 tokens, would leave no room for work.
const ROOM_FOR_OPENCODE: usize = 20_000;

/// opencode. Its settings are one variable, and its folders are those of the XDG base directories.
fn opencode(place: &Place<'_>) -> Setup {
    let model = json!({"name": place.model, "limit": {"context": place.context, "output": place.output}});
    let id = format!("satchel/{}", place.model);
    let mut config = json!({
        "provider": {"satchel": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Satchel",
            "options": {"baseURL": format!("{}/v1", place.url), "apiKey": place.key},
            "models": {place.model: model},
        }},
        "model": id,
        "small_model": id,
        "autoupdate": false,
        "share": "disabled",
    });
    if place.context < ROOM_FOR_OPENCODE {
        let brief = json!({"prompt": "You are a coding agent in a terminal. Read and change files with the tools, check what you \
                                      changed, and say briefly what you did."});
        config["agent"] = json!({"build": brief, "plan": brief});
        config["tools"] = json!({"skill": false, "task": false, "todowrite": false, "webfetch": false});
        // It would summarise again and again what does not fit; so it shows the server's error.
        config["compaction"] = json!({"auto": false});
    }
    let environment = vec![
        ("OPENCODE_CONFIG_CONTENT", config.to_string()),
        ("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned()),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1".to_owned()),
        ("XDG_CONFIG_HOME", place.path("config")),
        ("XDG_DATA_HOME", place.path("data")),
        ("XDG_STATE_HOME", place.path("state")),
        ("XDG_CACHE_HOME", place.path("cache")),
        ("npm_config_cache", place.path("npm")),
        ("TMPDIR", place.path("tmp")),
    ];
    let files = vec![("tmp/.keep", String::new())];
    Setup { environment, unset: &["OPENCODE_CONFIG"], files, ..Setup::default() }
}

/// aider. It knows no folder of its own, so each of its files is named; two small ones it always keeps in `~/.aider`. Another `HOME`
/// would take them along, and the user's settings of git, Cargo, npm and all else from the commands that aider runs.
fn aider(place: &Place<'_>) -> Setup {
    let name = format!("openai/{}", place.model);
    let known = json!({name.as_str(): {
        "max_input_tokens": place.context,
        "max_output_tokens": place.output,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }});
    let off = || "false".to_owned();
    let environment = vec![
        ("OPENAI_API_BASE", format!("{}/v1", place.url)),
        ("OPENAI_API_KEY", place.key.to_owned()),
        ("AIDER_MODEL", name),
        ("AIDER_MODEL_METADATA_FILE", place.path("models.json")),
        ("AIDER_CHAT_HISTORY_FILE", place.path("chat.md")),
        ("AIDER_INPUT_HISTORY_FILE", place.path("input")),
        ("AIDER_ANALYTICS", off()),
        ("AIDER_CHECK_UPDATE", off()),
        ("AIDER_GITIGNORE", off()),
        ("AIDER_SHOW_MODEL_WARNINGS", off()),
        ("AIDER_SHOW_RELEASE_NOTES", off()),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True".to_owned()),
    ];
    Setup { environment, files: vec![("models.json", known.to_string())], ..Setup::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_finds_the_server_and_keeps_its_files_in_the_folder() {
        let folder = Path::new("/tmp/run");
        let place = Place { url: "http://127.0.0.1:7", key: "secret", model: "m", context: 8192, output: 2048, folder };
        for client in CLIENTS {
            let setup = (client.setup)(&place);
            let told = setup.environment.iter().map(|(_, value)| value).chain(&setup.arguments);
            let told: Vec<&String> = told.chain(setup.files.iter().map(|(_, content)| content)).collect();
            for wanted in ["http://127.0.0.1:7", "secret", "/tmp/run"] {
                assert!(told.iter().any(|text| text.contains(wanted)), "{}: {wanted}", client.name);
            }
            assert!(setup.files.iter().all(|(name, _)| !name.starts_with('/') && !name.contains("..")));
            assert!(client.install.contains("install"), "{}", client.name);
            let given = |name: &&str| setup.environment.iter().any(|(given, _)| given == name);
            assert!(!setup.unset.iter().any(given), "{}: set and unset", client.name);
        }
        assert!(CLIENTS.iter().all(|one| CLIENTS.iter().filter(|other| other.name == one.name).count() == 1));
    }

    #[test]
    fn opencode_is_brief_where_its_own_prompt_would_fill_the_context() {
        let config = |context: usize| -> serde_json::Value {
            let folder = Path::new("/tmp/run");
            let place = Place { url: "http://127.0.0.1:7", key: "k", model: "m", context, output: 256, folder };
            let setup = opencode(&place);
            let (_, text) =
                setup.environment.iter().find(|(name, _)| *name == "OPENCODE_CONFIG_CONTENT").expect("it is set");
            serde_json::from_str(text).expect("JSON")
        };
        let (small, large) = (config(8192), config(32_768));
        assert_eq!((&small["compaction"]["auto"], &small["tools"]["task"]), (&json!(false), &json!(false)));
        assert!(small["agent"]["build"]["prompt"].as_str().is_some_and(|prompt| prompt.len() < 200), "{small}");
        assert!(["agent", "tools", "compaction"].iter().all(|name| large[name].is_null()), "{large}");
    }
}
