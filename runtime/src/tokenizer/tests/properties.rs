//! What holds for any text.

use super::*;

fn random_text(random: &mut oorandom::Rand32) -> String {
    let mut text = String::new();
    for _ in 0..random.rand_range(0..60) {
        let end = [0x80, 0x80, 0x800, 0x3100, 0x1_0000, 0x11_0000][random.rand_range(0..6) as usize];
        text.extend(char::from_u32(random.rand_range(0..end)));
    }
    text
}

#[test]
fn byte_level_round_trip() {
    for name in ["gpt-2", "llama-bpe", "qwen2"] {
        let tokenizer = tokenizer(name);
        let mut random = oorandom::Rand32::new(11);
        for _ in 0..2000 {
            let text = random_text(&mut random);
            let ids = tokenizer.encode(&text, false, false).expect("ids");
            assert_eq!(tokenizer.decode(&ids, false), text, "{name}");
        }
    }
}
