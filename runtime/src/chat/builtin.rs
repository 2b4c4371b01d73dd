//! Chat templates for models that come without one.
//!
//! The choice follows the vocabulary's control tokens, not the architecture's name: `llama` models use half a dozen
//! formats, and the one whose tokens are in the vocabulary is the one the model was trained on. A model without such
//! tokens is a base model, which cannot chat.

/// A named template, and the tokens that identify it.
pub struct BuiltIn {
    /// Its name in messages.
    pub name: &'static str,
    tokens: &'static [&'static str],
    /// The template.
    pub source: &'static str,
}

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const LLAMA_3: &str = "{{ bos_token }}{% for message in messages %}\
    {{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content|trim + '<|eot_id|>' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
const GEMMA: &str = "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}\
    {% if message.role == 'system' %}{% set ns.system = message.content|trim + '\\n\\n' %}{% else %}\
    {{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' + ns.system + message.content|trim \
    + '<end_of_turn>\\n' }}{% set ns.system = '' %}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";
const PHI_3: &str = "{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";
const MISTRAL: &str = "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}\
    {% if message.role == 'system' %}{% set ns.system = message.content + '\\n\\n' %}\
    {% elif message.role == 'user' %}{{ '[INST] ' + ns.system + message.content + ' [/INST]' }}{% set ns.system = '' %}\
    {% else %}{{ ' ' + message.content|trim + eos_token }}{% endif %}{% endfor %}";
const DEEPSEEK: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}\
    {{ '<｜User｜>' + message.content }}{% elif message.role == 'assistant' %}\
    {{ '<｜Assistant｜>' + message.content + eos_token }}{% else %}{{ message.content }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}";

/// In order of preference: the first whose tokens are all in the vocabulary is used.
const ALL: [BuiltIn; 6] = [
    BuiltIn { name: "chatml", tokens: &["<|im_start|>", "<|im_end|>"], source: CHATML },
    BuiltIn { name: "llama-3", tokens: &["<|start_header_id|>", "<|eot_id|>"], source: LLAMA_3 },
    BuiltIn { name: "gemma", tokens: &["<start_of_turn>", "<end_of_turn>"], source: GEMMA },
    BuiltIn { name: "phi-3", tokens: &["<|user|>", "<|assistant|>", "<|end|>"], source: PHI_3 },
    BuiltIn { name: "deepseek", tokens: &["<｜User｜>", "<｜Assistant｜>"], source: DEEPSEEK },
    BuiltIn { name: "mistral", tokens: &["[INST]", "[/INST]"], source: MISTRAL },
];

/// The template for a vocabulary; `is_special` says whether a text is one of its special tokens.
pub fn for_vocabulary(is_special: impl Fn(&str) -> bool) -> Option<BuiltIn> {
    ALL.into_iter().find(|template| template.tokens.iter().all(|token| is_special(token)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ChatTemplate, RenderRequest};

    #[test]
    fn each_renders_a_conversation_with_its_tokens() {
        let messages: Vec<serde_json::Value> =
            [("system", "Brief."), ("user", "Hi"), ("assistant", "Yes"), ("user", "Why?")]
                .map(|(role, content)| serde_json::json!({"role": role, "content": content}))
                .into();
        let request = RenderRequest { messages, add_generation_prompt: true, ..Default::default() };
        for template in &ALL {
            let text = ChatTemplate::new(template.source, "<s>", "</s>").unwrap().render(&request).unwrap();
            println!("{}: {text:?}", template.name);
            assert!(["Brief.", "Hi", "Yes", "Why?"].iter().all(|part| text.contains(part)), "{text}");
            assert!(template.tokens.iter().filter(|token| !text.contains(**token)).count() == 0, "{text}");
            let found = for_vocabulary(|token| template.tokens.contains(&token)).unwrap();
            assert_eq!(found.name, template.name);
        }
        assert!(for_vocabulary(|token| token == "<|im_start|>").is_none());
    }
}
