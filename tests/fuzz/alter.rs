//! Alters inputs: bytes, pieces, and words that readers trip over.

/// What readers trip over.
const WORDS: [&[u8]; 44] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b"9223372036854775807",
    b"0.1",
    b"NaN",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\t",
    b" ",
    b"&a ",
    b"*a",
    b"!!binary ",
    b"<<: ",
    b"- ",
    b": ",
    b"#",
    b"%00",
    b"%ff",
    b"..",
    b"/",
    b"2026-02-30",
    b"9999-12-31T23:59:59Z",
    b"-9999-01-01",
    b"\xe2\x80\xae",
    b"content-length: 99999999999\r\n",
];

/// Alters at random, in the same way for the same seed.
pub struct Alter(u64);

impl Alter {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { usize::try_from(self.next() % bound as u64).unwrap() }
    }

    /// A part of so many bytes: mostly a short one.
    fn part(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let most = if self.below(4) == 0 { len } else { 16 };
        let until = from + self.below(most.min(len - from) + 1);
        from..until
    }

    /// One of these, altered, of at most `most` bytes.
    pub fn one_of(&mut self, corpus: &[Vec<u8>], most: usize) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            self.alter(&mut input, corpus);
        }
        input.truncate(most);
        input
    }

    fn alter(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let part = self.part(input.len());
        match self.below(9) {
            0 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] ^= 1 << self.below(8);
            }
            1 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] = self.next().to_le_bytes()[0];
            }
            2 => drop(input.drain(part)),
            3 => {
                let copied = input[part].to_vec();
                let (at, times) = (self.below(input.len() + 1), 1 + self.below(3));
                input.splice(at..at, copied.repeat(times));
            }
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(part, word.iter().copied());
            }
            5 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(part.start..part.start, word.iter().copied());
            }
            6 => {
                let other = &corpus[self.below(corpus.len())];
                let taken = self.part(other.len());
                input.splice(part, other[taken].iter().copied());
            }
            // As deep, or as long, as nobody would write it.
            7 => {
                let word = WORDS[self.below(WORDS.len())];
                let times = 1 << self.below(12);
                input.splice(part, word.repeat(times));
            }
            _ => input.truncate(part.start),
        }
    }
}
