//! What `serve` does with an embedding model: no page and no chat, `/v1/embeddings` only.

use super::{Failure, bytes, count, shown};
use crate::cli::out;
use crate::cli::shown::shown_on_one_line;
use crate::server::Server;
use crate::session::embedding::EmbeddingModel;
use crate::session::{Facts, ModelSource, OpenOptions};

/// Answers until stopped.
pub(super) fn serve(server: Server, source: &ModelSource, options: &OpenOptions) -> Result<(), Failure> {
    let model = EmbeddingModel::open(source, options, None)?;
    if model.scores_pairs() {
        let line = "this model scores documents beside a query, which the server has no path for; `satchel embed --query TEXT` does it";
        return Err(Failure::new(line));
    }
    let place = match (server.local_addr()?, server.socket()) {
        (Some(address), _) => format!("http://{}/v1/embeddings", shown(address)),
        (None, Some(path)) => format!("/v1/embeddings on the socket {path}"),
        (None, None) => "/v1/embeddings".to_owned(),
    };
    announce(&model.facts, model.embedder.plan().output_columns(), &place)?;
    server.run_embeddings(model);
    Ok(())
}

fn announce(facts: &Facts, dimensions: usize, place: &str) -> Result<(), Failure> {
    let text = format!(
        "\n{name}\n\
         \n  model     {architecture}, {parameters} parameters, {size}\
         \n  runs on   {isa}, {threads} {thread_word}\
         \n  gives     embeddings of {dimensions} dimensions, of texts of up to {context} tokens\
         \n  API       {place}\
         \n\nCtrl-C stops it.\n\n",
        name = shown_on_one_line(&facts.name),
        architecture = shown_on_one_line(&facts.architecture),
        parameters = count(facts.parameters),
        size = bytes(facts.file_bytes),
        isa = facts.isa,
        threads = facts.threads,
        thread_word = if facts.threads == 1 { "thread" } else { "threads" },
        context = facts.context_length,
    );
    out::bytes(text.as_bytes())
}
