//! What `serve` does with an embedding model: no page and no chat, `/v1/embeddings` only.

use std::io::Write;
use std::net::SocketAddr;

use super::{Failure, bytes, count, shown};
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
    announce(&model.facts, model.embedder.plan().output_columns(), server.local_addr()?);
    server.run_embeddings(model);
    Ok(())
}

fn announce(facts: &Facts, dimensions: usize, address: SocketAddr) {
    let text = format!(
        "\n{name}\n\
         \n  model     {architecture}, {parameters} parameters, {size}\
         \n  runs on   {isa}, {threads} {thread_word}\
         \n  gives     embeddings of {dimensions} dimensions, of texts of up to {context} tokens\
         \n  API       http://{address}/v1/embeddings\
         \n\nCtrl-C stops it.\n\n",
        name = shown_on_one_line(&facts.name),
        architecture = shown_on_one_line(&facts.architecture),
        parameters = count(facts.parameters),
        size = bytes(facts.file_bytes),
        isa = facts.isa,
        threads = facts.threads,
        thread_word = if facts.threads == 1 { "thread" } else { "threads" },
        context = facts.context_length,
        address = shown(address),
    );
    // A closed stdout is no reason not to serve.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
