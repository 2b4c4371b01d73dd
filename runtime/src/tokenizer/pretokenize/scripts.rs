//! Scripts that pre-tokenisers name by ranges of code points, as in their patterns.

/// Whether `c` is in one of the ranges, which are inclusive and in ascending order.
pub(super) fn contains(ranges: &[(char, char)], c: char) -> bool {
    let at = ranges.partition_point(|&(_, last)| last < c);
    ranges.get(at).is_some_and(|&(first, _)| first <= c)
}

/// `[一-龥぀-ゟ゠-ヿ]`: DeepSeek V3.
pub(super) static HAN_AND_KANA: &[(char, char)] = &[('\u{3040}', '\u{30FF}'), ('一', '龥')];

/// `[一-龥ࠀ-一가-퟿]`: DeepSeek LLM and Coder. Includes everything from Samaritan to Han.
pub(super) static FAR_EAST: &[(char, char)] = &[('\u{800}', '龥'), ('\u{AC00}', '\u{D7FF}')];

/// `[!-/:-~！-／：-～‘-‟　-。]`: DeepSeek LLM.
pub(super) static DEEPSEEK_MARKS: &[(char, char)] =
    &[('!', '/'), (':', '~'), ('‘', '‟'), ('\u{3000}', '。'), ('！', '／'), ('：', '～')];

/// `[가-힣ㄱ-ㆎ]`: Youtu.
pub(super) static HANGUL: &[(char, char)] = &[('ㄱ', 'ㆎ'), ('가', '힣')];

/// `[！…“”‘’—：；，、-〿︰-﹏]`: Youtu.
pub(super) static CHINESE_MARKS: &[(char, char)] = &[
    ('—', '—'),
    ('‘', '’'),
    ('“', '”'),
    ('…', '…'),
    ('、', '\u{303F}'),
    ('\u{FE30}', '\u{FE4F}'),
    ('！', '！'),
    ('，', '，'),
    ('：', '；'),
];

/// `[ㄅ-ㄯ]`: Youtu.
pub(super) static BOPOMOFO: &[(char, char)] = &[('ㄅ', 'ㄯ')];

/// `[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]`: AFMoE. `豈` is U+F900, which
/// normalised copies of the pattern, such as llama.cpp's, replace by U+8C48.
pub(super) static WITHOUT_SPACES: &[(char, char)] = &[
    ('\u{E40}', '\u{EFF}'),
    ('\u{1000}', '\u{109F}'),
    ('\u{1100}', '\u{11FF}'),
    ('\u{1780}', '\u{17FF}'),
    ('\u{2F00}', '\u{2FDF}'),
    ('\u{3040}', '\u{30FF}'),
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{A9E0}', '\u{A9FF}'),
    ('\u{AA60}', '\u{AA7F}'),
    ('\u{AC00}', '\u{D7AF}'),
    ('\u{F900}', '\u{FAFF}'),
    ('\u{FF65}', '\u{FF9F}'),
];

/// Han as defined by Kimi K2: ideographs, extensions A to F, and compatibility forms.
pub(super) static HAN: &[(char, char)] = &[
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{F900}', '\u{FAFF}'),
    ('\u{20000}', '\u{2A6DF}'),
    ('\u{2A700}', '\u{2EBEF}'),
    ('\u{2F800}', '\u{2FA1F}'),
];

/// Characters at which BLOOM breaks words, besides white space: `(|.,!?…。，、।۔،)`
pub(super) static BLOOM_BREAKS: &[char] = &['(', '|', '.', ',', '!', '?', '…', '。', '，', '、', '।', '۔', '،', ')'];

/// Cased letters as listed by DeepSeek LLM, from an older version of Unicode.
#[rustfmt::skip]
pub(super) static CASED_LETTERS: &[(char, char)] = &[
    ('A', 'Z'), ('a', 'z'), ('\u{B5}', '\u{B5}'), ('\u{C0}', '\u{D6}'), ('\u{D8}', '\u{F6}'), ('\u{F8}', '\u{1BA}'),
    ('\u{1BC}', '\u{1BF}'), ('\u{1C4}', '\u{293}'), ('\u{295}', '\u{2AF}'), ('\u{370}', '\u{373}'),
    ('\u{376}', '\u{376}'), ('\u{377}', '\u{377}'), ('\u{37B}', '\u{37D}'), ('\u{37F}', '\u{37F}'),
    ('\u{386}', '\u{386}'), ('\u{388}', '\u{38A}'), ('\u{38C}', '\u{38C}'), ('\u{38E}', '\u{3A1}'),
    ('\u{3A3}', '\u{3F5}'), ('\u{3F7}', '\u{481}'), ('\u{48A}', '\u{52F}'), ('\u{531}', '\u{556}'),
    ('\u{10A0}', '\u{10C5}'), ('\u{13A0}', '\u{13F5}'), ('\u{13F8}', '\u{13FD}'), ('\u{1C90}', '\u{1CBA}'),
    ('\u{1CBD}', '\u{1CBF}'), ('\u{1D00}', '\u{1D2B}'), ('\u{1D6B}', '\u{1D77}'), ('\u{1D79}', '\u{1D9A}'),
    ('\u{1E00}', '\u{1F15}'), ('\u{1F18}', '\u{1F1D}'), ('\u{1F20}', '\u{1F45}'), ('\u{1F48}', '\u{1F4D}'),
    ('\u{1F50}', '\u{1F57}'), ('\u{1F59}', '\u{1F59}'), ('\u{1F5B}', '\u{1F5B}'), ('\u{1F5D}', '\u{1F5D}'),
    ('\u{1F5F}', '\u{1F7D}'), ('\u{1F80}', '\u{1FB4}'), ('\u{1FB6}', '\u{1FBC}'), ('\u{1FBE}', '\u{1FBE}'),
    ('\u{1FC2}', '\u{1FC4}'), ('\u{1FC6}', '\u{1FCC}'), ('\u{1FD0}', '\u{1FD3}'), ('\u{1FD6}', '\u{1FDB}'),
    ('\u{1FE0}', '\u{1FEC}'), ('\u{1FF2}', '\u{1FF4}'), ('\u{1FF6}', '\u{1FFC}'), ('\u{2102}', '\u{2102}'),
    ('\u{2107}', '\u{2107}'), ('\u{210A}', '\u{2113}'), ('\u{2115}', '\u{2115}'), ('\u{2119}', '\u{211D}'),
    ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'), ('\u{212A}', '\u{212D}'),
    ('\u{212F}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213C}', '\u{213F}'), ('\u{2145}', '\u{2149}'),
    ('\u{214E}', '\u{214E}'), ('\u{2183}', '\u{2183}'), ('\u{2184}', '\u{2184}'), ('\u{2C00}', '\u{2C7B}'),
    ('\u{2C7E}', '\u{2CE4}'), ('\u{2CEB}', '\u{2CEE}'), ('\u{2CF2}', '\u{2CF2}'), ('\u{2CF3}', '\u{2CF3}'),
    ('\u{A640}', '\u{A66D}'), ('\u{A680}', '\u{A69B}'), ('\u{A722}', '\u{A76F}'), ('\u{A771}', '\u{A787}'),
    ('\u{A78B}', '\u{A78E}'), ('\u{AB70}', '\u{ABBF}'), ('\u{FB00}', '\u{FB06}'), ('\u{FB13}', '\u{FB17}'),
    ('\u{FF21}', '\u{FF3A}'), ('\u{FF41}', '\u{FF5A}'), ('\u{10400}', '\u{1044F}'), ('\u{104B0}', '\u{104D3}'),
    ('\u{104D8}', '\u{104FB}'), ('\u{10C80}', '\u{10CB2}'), ('\u{10CC0}', '\u{10CF2}'), ('\u{118A0}', '\u{118DF}'),
    ('\u{1E900}', '\u{1E943}'),
];
