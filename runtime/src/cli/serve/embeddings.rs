//! `serve` with an embedding model or a reranker: `/v1/embeddings` or `/v1/rerank`, no page and no chat.

use super::reach::Reach;
use super::{Args, Failure, bytes, count, say, shown};
use crate::cli::out::notice;
use crate::cli::shown::shown_on_one_line;
use crate::server::Server;
use crate::session::check::check_now;
use crate::session::embedding::EmbeddingModel;
use crate::session::{Facts, ModelSource, OpenOptions};

/// Serves until stopped.
pub(super) fn serve(server: Server, source: &ModelSource, options: &OpenOptions, args: &Args) -> Result<(), Failure> {
    refuse_generation_flags(args)?;
    if args.check.check {
        check_now(source).map_err(Failure::new)?;
    }
    let model = EmbeddingModel::open(source, options, None)?;
    let path = if model.scores_pairs() { "/v1/rerank" } else { "/v1/embeddings" };
    let place = match (server.local_addr()?, server.socket()) {
        (Some(address), _) => format!("http://{}{path}", shown(address)),
        (None, Some(socket)) => format!("{path} on the socket {socket}"),
        (None, None) => path.to_owned(),
    };
    let reach = Reach::of(&server, args)?;
    let gives = match model.scores_pairs() {
        true => "scores of documents, each with its query".to_owned(),
        false => format!("embeddings of {} dimensions, of texts", model.embedder.plan().output_columns()),
    };
    announce(&model.facts, &gives, &place, &reach);
    if let Some(line) = &model.facts.memory_warning {
        notice!("satchel: {line}");
    }
    reach.warn();
    server.run_embeddings(model);
    Ok(())
}

/// Generation flags have no effect here: better refused than ignored.
fn refuse_generation_flags(args: &Args) -> Result<(), Failure> {
    let sampling = args.sampling.given_flags();
    let given = [
        ("system-prompt", args.system_prompt.is_some()),
        ("overflow", args.overflow.is_some()),
        ("parallel", args.parallel.is_some()),
        ("chat-template", args.template.chat_template.is_some()),
        ("special-in-user-text", args.template.special_in_user_text),
    ];
    let named = given.into_iter().filter_map(|(flag, given)| given.then_some(flag)).chain(sampling).next();
    named.map_or(Ok(()), |flag| {
        Err(Failure::usage(format!("--{flag} is about answers, and an embedding model writes none: leave it out")))
    })
}

fn announce(facts: &Facts, gives: &str, place: &str, reach: &Reach) {
    let text = format!(
        "\n{name}\n\
         \n  model     {architecture}, {parameters} parameters, {size}\
         \n  runs on   {isa}, {threads} {thread_word}\
         \n  gives     {gives} of up to {context} tokens\
         \n  API       {place}\
         \n  reach     {reach}\
         \n\nCtrl-C stops it.\n\n",
        name = shown_on_one_line(&facts.name),
        architecture = shown_on_one_line(&facts.architecture),
        parameters = count(facts.parameters),
        size = bytes(facts.file_bytes),
        isa = facts.isa,
        threads = facts.threads,
        thread_word = if facts.threads == 1 { "thread" } else { "threads" },
        context = facts.context_length,
        reach = reach.words(),
    );
    say(&text);
}
