//! What callers of the benches read of an HTTP answer.

/// Whether an answer's head and as much body as it announces are there.
pub fn is_whole(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"content-length: ";
    let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let at = answer[..head].windows(LENGTH.len()).position(|w| w == LENGTH).expect("a length");
    let digits = answer[at + LENGTH.len()..].iter().take_while(|b| b.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    answer.len() >= head + 4 + length
}
